"""The CloudWatch Logs API: groups and streams (`groups`), their events (`events`)."""

from services.monitor.api.events import LogEvents
from services.monitor.api.groups import LogGroups


class Logs(LogGroups, LogEvents):
    """All of it in one."""


__all__ = ["Logs"]
