"""What the monitor stores: the log groups and log streams that somebody made by name, and the alarms.

Streams that containers write into exist by being written into; their groups too. The events themselves lie in the
LOGS stream (contracts.records.logs).
"""

from typing import Any

import msgspec

from contracts.kinds import Kind


class LogGroup(msgspec.Struct, kw_only=True, frozen=True):
    """A log group. Times are milliseconds since the epoch, as CloudWatch Logs has them.

    `retention_days` None: events are kept as long as the LOGS stream keeps them.
    """

    account: str
    region: str
    name: str
    created_at: int
    retention_days: int | None = None
    log_group_class: str = "STANDARD"
    kms_key_id: str | None = None
    deletion_protection: bool = False
    tags: dict[str, str] = {}


class LogStream(msgspec.Struct, kw_only=True, frozen=True):
    """A log stream that was made before anything was written into it."""

    account: str
    region: str
    group: str
    name: str
    created_at: int


class AlarmHistoryItem(msgspec.Struct, kw_only=True, frozen=True):
    """A line of an alarm's story. type: ConfigurationUpdate | StateUpdate | Action. `data` is JSON, as CloudWatch's."""

    at: float
    type: str
    summary: str
    data: str = ""


class MetricAlarm(msgspec.Struct, kw_only=True, frozen=True):
    """A metric alarm. state: OK | ALARM | INSUFFICIENT_DATA.

    `request` is PutMetricAlarm in the wire's own names, without tags. `state_updated_at` changes with the state or its
    reason, `state_changed_at` with the state. `state_data` is JSON. `history` newest first, at most 100."""

    account: str
    region: str
    name: str
    request: dict[str, Any]
    configured_at: float
    state: str = "INSUFFICIENT_DATA"
    state_reason: str = "Unchecked: Initial alarm creation"
    state_data: str = ""
    state_updated_at: float = 0.0
    state_changed_at: float = 0.0
    actions_enabled: bool = True
    tags: dict[str, str] = {}
    history: list[AlarmHistoryItem] = []


LOG_GROUP = Kind("monitor", "log_group", LogGroup, ("account", "region", "name"))
LOG_STREAM = Kind("monitor", "log_stream", LogStream, ("account", "region", "group", "name"))

METRIC_ALARM = Kind("monitor", "metric_alarm", MetricAlarm, ("account", "region", "name"))

KINDS = (LOG_GROUP, LOG_STREAM, METRIC_ALARM)
