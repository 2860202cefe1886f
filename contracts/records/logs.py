"""Log events, as they lie in the LOGS stream: one message a batch."""

import msgspec


class LogEvent(msgspec.Struct, array_like=True, frozen=True):
    """One line. Times are milliseconds since the epoch, as CloudWatch Logs has them."""

    timestamp: int
    message: str


class LogBatch(msgspec.Struct, kw_only=True, frozen=True):
    """Lines of one log stream in the order they were written. `ingested_at` is milliseconds since the epoch."""

    events: list[LogEvent]
    ingested_at: int
