"""What the gateway measures of a service, as App Runner names it.

https://docs.aws.amazon.com/apprunner/latest/dg/monitor-cw.html
"""

from __future__ import annotations

import msgspec

from contracts.records.app_runner_gateway import AppService
from contracts.records.metrics import EXPRESS_NAMESPACE, REQUESTS_PER_TARGET, MetricSample
from contracts.records.scheduler import Service
from services.app_runner_gateway.decisions.proxy import Seen

NAMESPACE = "AWS/AppRunner"


class Measured(msgspec.Struct, frozen=True):
    """A period. `busy`: (looks, sum, least, most) of the requests in flight."""

    requests: int
    ok: int
    client_errors: int
    server_errors: int
    latency_ms: float
    busy: tuple[int, int, int, int]


class Meter:
    """Adds up what is seen of one service. The proxy's counters begin anew with the proxy, and with another backend."""

    def __init__(self) -> None:
        self._backend = ""
        self._last: Seen | None = None
        self._sums = [0, 0, 0, 0]
        self._busy: list[int] = []

    def observe(self, backend: str, seen: Seen) -> None:
        """Take in a look."""
        last = self._last if backend == self._backend else None
        now = (seen.asked, seen.ok, seen.client_errors, seen.server_errors)
        before = (last.asked, last.ok, last.client_errors, last.server_errors) if last else None
        if before is not None:
            if now[0] < before[0]:
                before = (0, 0, 0, 0)
            for number, (new, old) in enumerate(zip(now, before, strict=True)):
                self._sums[number] += max(0, new - old)
        self._backend, self._last = backend, seen
        self._busy.append(seen.in_flight)

    def take(self) -> Measured:
        """The period up to now; the next one begins."""
        busy = (len(self._busy), sum(self._busy), min(self._busy, default=0), max(self._busy, default=0))
        latency = self._last.latency_ms if self._last else 0.0
        measured = Measured(*self._sums, latency, busy)
        self._sums, self._busy = [0, 0, 0, 0], []
        return measured


def samples(service: AppService, measured: Measured, instances: int) -> list[MetricSample]:
    """The period as samples, with the dimensions ServiceName and ServiceID."""
    where = {
        "account": service.account,
        "region": service.region,
        "namespace": NAMESPACE,
        "dimensions": {"ServiceName": service.name, "ServiceID": service.id},
    }

    def one(name: str, value: float, unit: str = "Count") -> MetricSample:
        return MetricSample(**where, name=name, unit=unit, sum=value, minimum=value, maximum=value)

    looks, total, least, most = measured.busy
    told = [
        one("ActiveInstances", instances),
        one("Requests", measured.requests),
        one("2xxStatusResponses", measured.ok),
        one("4xxStatusResponses", measured.client_errors),
        one("5xxStatusResponses", measured.server_errors),
    ]
    if looks:
        busy = MetricSample(
            **where, name="Concurrency", unit="Count", count=looks, sum=total, minimum=least, maximum=most
        )
        told.append(busy)
    if measured.requests:
        told.append(one("RequestLatency", measured.latency_ms, "Milliseconds"))
    return told


def express_samples(service: Service, measured: Measured, ready: int) -> list[MetricSample]:
    """The period of an Express service, named as a load balancer's figures are, with the dimensions ClusterName and
    ServiceName. The sum of RequestCountPerTarget over a minute is what scaling by it goes by."""

    def one(name: str, value: float, unit: str = "Count") -> MetricSample:
        return MetricSample(
            account=service.account,
            region=service.region,
            namespace=EXPRESS_NAMESPACE,
            dimensions={"ClusterName": service.cluster, "ServiceName": service.name},
            name=name,
            unit=unit,
            sum=value,
            minimum=value,
            maximum=value,
        )

    told = [
        one("RequestCount", measured.requests),
        one(REQUESTS_PER_TARGET, measured.requests / max(1, ready)),
        one("HealthyHostCount", ready),
        one("HTTPCode_Target_2XX_Count", measured.ok),
        one("HTTPCode_Target_4XX_Count", measured.client_errors),
        one("HTTPCode_Target_5XX_Count", measured.server_errors),
    ]
    if measured.requests:
        told.append(one("TargetResponseTime", measured.latency_ms / 1000, "Seconds"))
    return told
