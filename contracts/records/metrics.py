"""Measurements, as they lie in the METRICS stream: one message a batch. Nobody's state: they age out."""

import msgspec

EXPRESS_NAMESPACE, REQUESTS_PER_TARGET = "AWS/ApplicationELB", "RequestCountPerTarget"
"""Where the gateway's figures of an Express service are, with the dimensions ClusterName and ServiceName; and the one
of them that such a service may be scaled by: its sum over a minute."""


class TaskUsage(msgspec.Struct, kw_only=True, frozen=True):
    """What a task used in a period. `service` is empty for a task of none.

    cpu_units: on average over the period (1024 = one core); memory_mib: at its end; what is reserved is 0 where the
    task definition reserves nothing. rx_bytes and tx_bytes went through its network in the period.
    """

    account: str
    region: str
    cluster: str
    task: str
    cpu_units: float
    memory_mib: float
    service: str = ""
    cpu_reserved: int = 0
    memory_reserved: int = 0
    rx_bytes: int = 0
    tx_bytes: int = 0


class UsageBatch(msgspec.Struct, kw_only=True, frozen=True):
    """All tasks of a node, in the `period_s` seconds up to `at`. None is sent for a node without tasks."""

    node: str
    at: float
    period_s: float
    tasks: list[TaskUsage]


class MetricSample(msgspec.Struct, kw_only=True, frozen=True):
    """Values of one metric, added up. `counts` is empty, or as long as `values`: single values and how often each was
    measured, which percentiles are told from. `at` is the batch's when it is 0. `resolution_s`: 1 | 60."""

    account: str
    region: str
    namespace: str
    name: str
    dimensions: dict[str, str] = {}
    unit: str = "None"
    count: float = 1.0
    sum: float = 0.0
    minimum: float = 0.0
    maximum: float = 0.0
    values: list[float] = []
    counts: list[float] = []
    at: float = 0.0
    resolution_s: int = 60


class MetricBatch(msgspec.Struct, kw_only=True, frozen=True):
    """Samples that one instance of a service took in the `period_s` seconds up to `at`."""

    source: str
    at: float
    period_s: float = 0.0
    samples: list[MetricSample]
