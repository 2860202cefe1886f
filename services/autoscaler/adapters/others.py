"""What the autoscaler asks of other services: metrics of the monitor, counts of the scheduler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from contracts.records.autoscaler import ScalingActivity
from contracts.rpc.monitor import GET_METRICS, GetMetrics, MetricQuery
from contracts.rpc.scheduler import SET_DESIRED_COUNT, SetDesiredCount
from services.autoscaler.decisions.names import service_of
from services.autoscaler.decisions.values import MetricOf, Point
from services.shared.bus import Bus


class MonitorMetrics:
    """Metrics: one command for all series."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def read(self, wanted: Sequence[MetricOf], start: float, end: float) -> Mapping[MetricOf, list[Point]]:
        """See ports.Metrics."""
        queries = [
            MetricQuery(
                account=m.account,
                region=m.region,
                namespace=m.namespace,
                name=m.name,
                dimensions=dict(m.dimensions),
                statistic=m.statistic,
                period_s=m.period_s,
                start=start,
                end=end,
            )
            for m in wanted
        ]
        answer = await self._bus.call(GET_METRICS, GetMetrics(queries=queries))
        return {
            metric: [Point(at, value) for at, value in zip(found.times, found.values, strict=True)]
            for metric, found in zip(wanted, answer.results, strict=True)
        }


class SchedulerCounts:
    """Desired counts."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def set(self, activity: ScalingActivity) -> None:
        """See ports.Counts."""
        assert activity.after is not None
        cluster, service = service_of(activity.resource)
        cause = "".join(c if " " <= c <= "~" else "?" for c in f"scaling activity {activity.id}: {activity.cause}")
        request = SetDesiredCount(
            account=activity.account,
            region=activity.region,
            cluster=cluster,
            service=service,
            desired_count=activity.after,
            cause=cause[:1000],
        )
        await self._bus.call(SET_DESIRED_COUNT, request)
