"""The CloudWatch Logs API: groups and streams (`groups`), their events (`events`). The CloudWatch API: values
(`metrics`) and alarms (`alarms`)."""

from services.monitor.adapters.metrics import Measurements
from services.monitor.api.alarms import AlarmApi
from services.monitor.api.events import LogEvents
from services.monitor.api.groups import LogGroups
from services.monitor.api.metrics import MetricApi
from services.shared.state import Store


class Logs(LogGroups, LogEvents):
    """All of CloudWatch Logs in one."""


class CloudWatch(MetricApi, AlarmApi):
    """All of CloudWatch in one."""

    def __init__(self, measurements: Measurements, store: Store) -> None:
        MetricApi.__init__(self, measurements)
        AlarmApi.__init__(self, store, measurements.clock)


__all__ = ["CloudWatch", "Logs"]
