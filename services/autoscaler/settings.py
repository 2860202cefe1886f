"""Settings of the autoscaler (`ROADSTEAD_AUTOSCALER_…`)."""

import msgspec


class AutoscalerSettings(msgspec.Struct, kw_only=True, frozen=True):
    """`period_s`: how long between two looks at the metrics when none arrive by themselves. `scale_in_window_s`: for
    how long a metric must stay below its target before target tracking scales in. `lease_ttl_s`: how long a copy that
    went silent keeps others waiting.
    """

    period_s: float = 10.0
    scale_in_window_s: float = 60.0
    lease_ttl_s: float = 10.0
