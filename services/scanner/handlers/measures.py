"""What there is to find in images, as metrics: told to the monitor whenever advisories were held against them."""

from __future__ import annotations

from collections import Counter

import msgspec

from contracts.records.metrics import MetricBatch, MetricSample
from contracts.records.scanner import IMAGE_SCAN
from contracts.subjects import metrics
from services.shared.bus import Bus
from services.shared.clock import Clock
from services.shared.state import Store

NAMESPACE = "Roadstead/ECR"


class Measures:
    """Samples by account and region: `Findings` by `Severity`, `ImagesScanned`, `ImagesWithExploitedFindings`."""

    def __init__(self, bus: Bus, store: Store, instance: str, clock: Clock) -> None:
        self._bus = bus
        self._table = store.table(IMAGE_SCAN)
        self._subject = metrics("scanner", instance)
        self._clock = clock

    def tell(self, looked: int, changed: int) -> None:
        """Images were matched again: so many were looked at, and of so many the findings changed."""
        if looked:
            self._bus.spawn(self._tell(), "measures")

    async def _tell(self) -> None:
        now = self._clock()
        batch = MetricBatch(source="scanner", at=now, samples=self.samples())
        await self._bus.tell(self._subject, msgspec.json.encode(batch))

    def samples(self) -> list[MetricSample]:
        """How it is now."""
        counted: dict[tuple[str, str], Counter[str]] = {}
        for scan in self._table.records():
            if scan.status == "COMPLETE":
                counts = counted.setdefault((scan.account, scan.region), Counter())
                counts.update(scan.counts)
                counts["images"] += 1
                counts["exploited"] += bool(scan.exploited)
        told = []
        for (account, region), counts in sorted(counted.items()):
            named = {"ImagesScanned": counts.pop("images"), "ImagesWithExploitedFindings": counts.pop("exploited")}
            values = [(name, {}, value) for name, value in named.items()]
            values += [("Findings", {"Severity": severity}, value) for severity, value in sorted(counts.items())]
            told += [_sample(account, region, name, dimensions, value) for name, dimensions, value in values]
        return told


def _sample(account: str, region: str, name: str, dimensions: dict[str, str], value: int) -> MetricSample:
    return MetricSample(
        account=account,
        region=region,
        namespace=NAMESPACE,
        name=name,
        dimensions=dimensions,
        unit="Count",
        sum=value,
        minimum=value,
        maximum=value,
    )
