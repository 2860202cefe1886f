"""What the monitor stores: the log groups and log streams that somebody made by name.

Streams that containers write into exist by being written into; their groups too. The events themselves lie in the
LOGS stream (contracts.records.logs).
"""

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


LOG_GROUP = Kind("monitor", "log_group", LogGroup, ("account", "region", "name"))
LOG_STREAM = Kind("monitor", "log_stream", LogStream, ("account", "region", "group", "name"))

KINDS = (LOG_GROUP, LOG_STREAM)
