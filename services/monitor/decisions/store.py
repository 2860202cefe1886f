"""All series, in a fixed amount of memory: when it is used up, the series that was written least recently goes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator

import msgspec

from contracts.records.metrics import MetricSample
from services.monitor.decisions.series import Series, Sums, bin_of, percentile
from services.shared.errors import AwsError

Dimensions = tuple[tuple[str, str], ...]
_PERCENTILE = re.compile(r"p(\d{1,2}(\.\d{0,10})?|100)\Z")
_SIMPLE = ("Average", "Sum", "Minimum", "Maximum", "SampleCount")
CHECK_EVERY = 16_384


class MetricKey(msgspec.Struct, frozen=True, order=True):
    """A metric. Dimensions are sorted by name."""

    account: str
    region: str
    namespace: str
    name: str
    dimensions: Dimensions = ()


def key_of(account: str, region: str, namespace: str, name: str, dimensions: dict[str, str]) -> MetricKey:
    """The key of a metric."""
    return MetricKey(account, region, namespace, name, tuple(sorted(dimensions.items())))


def check_statistic(statistic: str) -> str:
    """The statistic, if it is one that is told. Raises ValidationException."""
    if statistic in _SIMPLE or _PERCENTILE.match(statistic):
        return statistic
    raise AwsError(
        "ValidationException",
        f"Value '{statistic}' for a statistic: must be one of {', '.join(_SIMPLE)}, or a percentile like p99.9",
    )


def check_period(period: int) -> int:
    """The period, if there is such. Raises ValidationException."""
    if period in (1, 5, 10, 20, 30) or (period > 0 and period % 60 == 0):
        return period
    raise AwsError("ValidationException", f"Period {period} must be 1, 5, 10, 20, 30 or a multiple of 60")


def statistic_of(sums: Sums, statistic: str) -> float | None:
    """What a statistic says of values added up; None when it says nothing of them."""
    if sums.count <= 0:
        return None
    match statistic:
        case "Average":
            return sums.sum / sums.count
        case "Sum":
            return sums.sum
        case "Minimum":
            return sums.minimum
        case "Maximum":
            return sums.maximum
        case "SampleCount":
            return sums.count
    return percentile(sums, float(statistic[1:]))


def sums_of(sample: MetricSample) -> Sums:
    """The values of a sample, added up."""
    if not sample.values:
        return Sums(sample.count, sample.sum, sample.minimum, sample.maximum)
    bins: dict[int, float] = {}
    for value, many in zip(sample.values, sample.counts, strict=True):
        bins[bin_of(value)] = bins.get(bin_of(value), 0.0) + many
    return Sums(sample.count, sample.sum, sample.minimum, sample.maximum, bins if len(bins) > 1 else None)


def first_period(start: float, period: int) -> float:
    """Where the first period begins: CloudWatch rounds a start down to the minute, or to a finer period."""
    step = min(60, period)
    return math.floor(start / step) * step


class MetricStore:
    """The series by metric and unit."""

    def __init__(self, budget_bytes: int) -> None:
        self.budget = budget_bytes
        self.evicted = 0
        self._series: dict[MetricKey, dict[str, Series]] = {}
        self._writes = 0

    def __len__(self) -> int:
        return len(self._series)

    def size(self) -> int:
        """About how many bytes the series take."""
        return sum(series.size() for units in self._series.values() for series in units.values())

    def add(self, key: MetricKey, unit: str, resolution: int, at: float, sums: Sums) -> None:
        """Add values. `resolution`: seconds a bucket of what is kept finest."""
        units = self._series.setdefault(key, {})
        series = units.get(unit)
        if series is None:
            series = units[unit] = Series(unit, resolution)
        elif resolution < series.tiers[0].width:
            series.refine(resolution)
        series.add(at, sums)
        self._writes += 1
        series.written = self._writes
        if self._writes % CHECK_EVERY == 0:
            self.evict()

    def evict(self) -> int:
        """Forget series until the rest fits the budget; how many."""
        size = self.size()
        if size <= self.budget:
            return 0
        gone = 0
        oldest = sorted((s.written, key, unit) for key, units in self._series.items() for unit, s in units.items())
        for _, key, unit in oldest:
            if size <= self.budget * 0.9:
                break
            size -= self._series[key].pop(unit).size()
            if not self._series[key]:
                del self._series[key]
            gone += 1
        self.evicted += gone
        return gone

    def newest(self, key: MetricKey) -> float:
        """When the metric was measured last; 0 when there is none such."""
        return max((series.newest for series in self._series.get(key, {}).values()), default=0.0)

    def keys(self, account: str, region: str) -> Iterator[MetricKey]:
        """The metrics of an account in a region."""
        return (key for key in list(self._series) if (key.account, key.region) == (account, region))

    def units(self, key: MetricKey) -> list[str]:
        """The units a metric was measured in."""
        return sorted(self._series.get(key, ()))

    def periods(
        self, key: MetricKey, start: float, end: float, period: int, unit: str | None = None
    ) -> dict[float, Sums]:
        """The values of each period from `start` (rounded down) to `end`, oldest first. Empty periods are left out."""
        origin = first_period(start, period)
        found: dict[float, Sums] = {}
        for series in self._series.get(key, {}).values():
            if unit is not None and series.unit != unit:
                continue
            tier = series.tier_for(origin, period)
            for time, sums in tier.between(origin, end) if tier is not None else ():
                begins = origin + (time - origin) // period * period
                found.setdefault(begins, Sums()).add(sums)
        return dict(sorted(found.items()))

    def values(
        self, key: MetricKey, statistic: str, start: float, end: float, period: int, unit: str | None = None
    ) -> dict[float, float]:
        """One statistic of each period, oldest first."""
        told = ((at, statistic_of(sums, statistic)) for at, sums in self.periods(key, start, end, period, unit).items())
        return {at: value for at, value in told if value is not None}


def add_samples(
    store: MetricStore, samples: Iterable[MetricSample], at: float, latest: float = math.inf
) -> list[tuple[MetricKey, float]]:
    """Take samples in, but for those behind `latest`; the metrics and times of what was added."""
    touched = []
    for sample in samples:
        key = key_of(sample.account, sample.region, sample.namespace, sample.name, sample.dimensions)
        when = sample.at or at
        if when > latest:
            continue
        store.add(key, sample.unit, sample.resolution_s, when, sums_of(sample))
        touched.append((key, when))
    return touched
