"""What the monitor tells other services."""

from __future__ import annotations

from contracts.rpc.monitor import GetMetrics, Metrics, MetricValues
from services.monitor.adapters.metrics import Measurements
from services.monitor.decisions.store import check_period, check_statistic, key_of


class Answers:
    """What answers GET_METRICS."""

    def __init__(self, measurements: Measurements) -> None:
        self._store = measurements.store

    async def get_metrics(self, request: GetMetrics) -> Metrics:
        """The values of each query. Raises AwsError (ValidationException)."""
        results = []
        for query in request.queries:
            statistic, period = check_statistic(query.statistic), check_period(query.period_s)
            key = key_of(query.account, query.region, query.namespace, query.name, query.dimensions)
            values = self._store.values(key, statistic, query.start, query.end, period)
            results.append(MetricValues(times=list(values), values=list(values.values())))
        return Metrics(results=results)
