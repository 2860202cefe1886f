"""Logs, traces, metrics and alarms of the platform and of tasks."""
