"""One time series: its values added up in buckets, fine ones for hours, coarse ones for days."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterator

import msgspec

HOURS_3, DAY, WEEK = 3 * 3600, 24 * 3600, 7 * 24 * 3600
COARSE = ((60, DAY), (300, WEEK))
"""(seconds a bucket, seconds it is kept), beside a tier of the series' own resolution: see kept_fine."""
FINE_POINTS = 1080
LATE_S = WEEK

GAMMA = math.log(1.02)
"""Bins of a distribution are 2 % wide: a percentile is right within one percent."""
MOST_BINS = 512
_POINT_BYTES = 40
_BIN_BYTES = 100


class Sums(msgspec.Struct):
    """Values added up. `bins` is their distribution (bin -> how many), None when it is not known."""

    count: float = 0.0
    sum: float = 0.0
    minimum: float = math.inf
    maximum: float = -math.inf
    bins: dict[int, float] | None = None

    def add(self, other: Sums) -> None:
        """Add another's values."""
        mine, theirs = distribution(self), distribution(other)
        if mine is None or theirs is None:
            self.bins = None
        elif self.count or self.bins:
            merged = dict(mine)
            for index, many in theirs.items():
                merged[index] = merged.get(index, 0.0) + many
            self.bins = merged
        else:
            self.bins = other.bins
        self.count += other.count
        self.sum += other.sum
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)


def bin_of(value: float) -> int:
    """The bin a value lies in: the sign and the logarithm of its size."""
    if abs(value) < 1e-9:
        return 0
    index = round(math.log(abs(value)) / GAMMA) + 100_000
    return index if value > 0 else -index


def value_of(index: int) -> float:
    """The middle of a bin."""
    if index == 0:
        return 0.0
    return math.copysign(math.exp((abs(index) - 100_000) * GAMMA), index)


def distribution(sums: Sums) -> dict[int, float] | None:
    """The bins of values added up; those of equal values need none."""
    if sums.bins is not None:
        return sums.bins
    if sums.count == 0:
        return {}
    return {bin_of(sums.minimum): sums.count} if sums.minimum == sums.maximum else None


def percentile(sums: Sums, percent: float) -> float | None:
    """The value that `percent` of a hundred lie at or below; None when the distribution is not known."""
    bins = distribution(sums)
    if not bins:
        return None
    wanted = sums.count * percent / 100
    reached = 0.0
    for index in sorted(bins):
        reached += bins[index]
        if reached >= wanted - 1e-9:
            return min(max(value_of(index), sums.minimum), sums.maximum)
    return sums.maximum


def kept_fine(resolution: int) -> int:
    """How many seconds the finest buckets are kept: three hours of what somebody puts, as CloudWatch has it; of what
    Roadstead measures itself FINE_POINTS of them."""
    return HOURS_3 if resolution in (1, 60) else min(HOURS_3, FINE_POINTS * resolution)


class Tier:
    """Buckets of one width, oldest first, in arrays: 40 bytes each."""

    def __init__(self, width: int, kept: int) -> None:
        self.width = width
        self.kept = kept
        self._times = array("q")
        self._columns = tuple(array("d") for _ in range(4))
        self._bins: dict[int, dict[int, float]] = {}

    def size(self) -> int:
        """About how many bytes it takes."""
        return len(self._times) * _POINT_BYTES + sum(len(bins) for bins in self._bins.values()) * _BIN_BYTES

    def oldest(self) -> int | None:
        """The time of its first bucket."""
        return self._times[0] if self._times else None

    def add(self, at: float, sums: Sums, newest: float, *, finest: bool = True) -> None:
        """Add values measured at `at`. What is older than `kept` before `newest` is forgotten, or not taken. Only the
        finest tier of a series knows distributions."""
        time = int(at // self.width) * self.width
        times = self._times
        place = len(times) - 1
        if place < 0 or time > times[place]:
            if time <= newest - self.kept:
                return
            place += 1
            self._begin(place, time)
            self._trim(newest - self.kept)
            place = len(times) - 1
        elif time != times[place]:
            if time <= newest - self.kept:
                return
            place = bisect_left(times, time)
            if times[place] != time:
                self._begin(place, time)
        if finest:
            self._spread(place, time, sums, newest)
        counts, totals, minima, maxima = self._columns
        counts[place] += sums.count
        totals[place] += sums.sum
        if sums.minimum < minima[place]:
            minima[place] = sums.minimum
        if sums.maximum > maxima[place]:
            maxima[place] = sums.maximum

    def _begin(self, place: int, time: int) -> None:
        self._times.insert(place, time)
        for column, value in zip(self._columns, (0.0, 0.0, math.inf, -math.inf), strict=True):
            column.insert(place, value)

    def _at(self, place: int) -> Sums:
        values = (column[place] for column in self._columns)
        return Sums(*values, self._bins.get(self._times[place]))

    def _spread(self, place: int, time: int, sums: Sums, newest: float) -> None:
        """Add to the distribution of a bucket, before the sums are."""
        bins = self._bins
        if time > newest - min(self.kept, HOURS_3) and (self._columns[0][place] or sums.bins):
            bucket = self._at(place)
            bucket.add(sums)
            if bucket.bins is not None and 1 < len(bucket.bins) <= MOST_BINS:
                bins[time] = bucket.bins
            else:
                bins.pop(time, None)
        while bins and (first := next(iter(bins))) <= newest - min(self.kept, HOURS_3):
            del bins[first]

    def _trim(self, before: float) -> None:
        gone = bisect_left(self._times, before)
        if gone < 64 and (not gone or self._times[-1] >= before):
            return
        for time in self._times[:gone]:
            self._bins.pop(time, None)
        del self._times[:gone]
        for column in self._columns:
            del column[:gone]

    def between(self, start: float, end: float) -> Iterator[tuple[int, Sums]]:
        """The buckets that begin at or after `start` and before `end`."""
        for place in range(bisect_left(self._times, start), len(self._times)):
            if self._times[place] >= end:
                return
            yield self._times[place], self._at(place)


class Series:
    """The values of one metric in one unit. `written` counts up with the store's writes (for eviction)."""

    def __init__(self, unit: str, resolution: int) -> None:
        self.unit = unit
        self.tiers: list[Tier] = [Tier(width, kept) for width, kept in COARSE]
        self.newest = 0.0
        self.written = 0
        self.refine(resolution)

    def refine(self, resolution: int) -> None:
        """Keep buckets this fine from now on."""
        if resolution < self.tiers[0].width:
            fine = [tier for tier in self.tiers if tier.width in (60, 300)]
            self.tiers = [Tier(resolution, kept_fine(resolution)), *fine]

    def add(self, at: float, sums: Sums) -> None:
        """Add values."""
        self.newest = max(self.newest, at)
        finest = True
        for tier in self.tiers:
            tier.add(at, sums, self.newest, finest=finest)
            finest = False

    def size(self) -> int:
        """About how many bytes it takes."""
        return 1000 + sum(tier.size() for tier in self.tiers)

    def tier_for(self, start: float, period: int) -> Tier | None:
        """The finest tier that has the time `start` and whose buckets make up whole periods; None for a period finer
        than what is kept."""
        fitting = [tier for tier in self.tiers if period % tier.width == 0]
        return next((t for t in fitting if start > self.newest - t.kept), fitting[-1] if fitting else None)
