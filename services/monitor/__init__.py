"""Logs and traces of the platform and of tasks; metrics and alarms later."""
