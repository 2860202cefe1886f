"""What the monitor tells other services."""

import msgspec

from contracts.rpc.command import Command


class MetricQuery(msgspec.Struct, kw_only=True, frozen=True):
    """One statistic of one metric, from `start` up to and without `end`, a value each `period_s` seconds (1, 5, 10, 30
    or a multiple of 60). statistic: Average | Sum | Minimum | Maximum | SampleCount | p<percent>."""

    account: str
    region: str
    namespace: str
    name: str
    start: float
    end: float
    dimensions: dict[str, str] = {}
    statistic: str = "Average"
    period_s: int = 60


class GetMetrics(msgspec.Struct, kw_only=True, frozen=True):
    """Several at once. Errors are CloudWatch's: ValidationError for a statistic or a period that there is not."""

    queries: list[MetricQuery]


class MetricValues(msgspec.Struct, kw_only=True, frozen=True):
    """Oldest first. A period without data has no value. `times` are the beginnings of the periods."""

    times: list[float] = []
    values: list[float] = []


class Metrics(msgspec.Struct, kw_only=True, frozen=True):
    """A result for each query, in their order."""

    results: list[MetricValues]


GET_METRICS = Command("monitor", "get_metrics", GetMetrics, Metrics)

COMMANDS = (GET_METRICS,)
