"""Settings of the monitor (`ROADSTEAD_MONITOR_…`)."""

import msgspec


class MonitorSettings(msgspec.Struct, kw_only=True, frozen=True):
    """`scan_bytes`: how much of the LOGS stream one call of FilterLogEvents reads before it answers with a token.
    `metrics_bytes`: how much memory the values of metrics may take, about."""

    scan_bytes: int = 16 * 1024 * 1024
    metrics_bytes: int = 48 * 1024 * 1024
