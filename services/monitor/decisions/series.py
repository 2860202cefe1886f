"""One time series: its values added up in buckets, fine ones for hours, coarse ones for days."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterator

import msgspec

HOURS_3, DAY, WEEK = 3 * 3600, 24 * 3600, 7 * 24 * 3600
COARSE = ((60, DAY), (300, WEEK))
"""(seconds a bucket, seconds it is kept), beside a tier of the series' own resolution, which is kept three hours."""
LATE_S = WEEK

GAMMA = math.log(1.02)
"""Bins of a distribution are 2 % wide: a percentile is right within one percent."""
MOST_BINS = 512
BINS_KEPT = HOURS_3
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

    def add(self, at: float, sums: Sums, newest: float) -> None:
        """Add values measured at `at`. What is older than `kept` before `newest` is forgotten, or not taken."""
        time = int(at // self.width) * self.width
        if time <= newest - self.kept:
            return
        place = len(self._times)
        if place and time <= self._times[-1]:
            place = bisect_left(self._times, time)
        if place < len(self._times) and self._times[place] == time:
            bucket = self._at(place)
            bucket.add(sums)
        else:
            bucket = Sums(sums.count, sums.sum, sums.minimum, sums.maximum, sums.bins)
            self._times.insert(place, time)
            for column in self._columns:
                column.insert(place, 0.0)
        self._set(place, bucket, newest)
        self._trim(newest - self.kept)

    def _at(self, place: int) -> Sums:
        values = (column[place] for column in self._columns)
        return Sums(*values, self._bins.get(self._times[place]))

    def _set(self, place: int, bucket: Sums, newest: float) -> None:
        values = (bucket.count, bucket.sum, bucket.minimum, bucket.maximum)
        for column, value in zip(self._columns, values, strict=True):
            column[place] = value
        time = self._times[place]
        if bucket.bins is not None and len(bucket.bins) <= MOST_BINS and time > newest - BINS_KEPT:
            self._bins[time] = bucket.bins
        else:
            self._bins.pop(time, None)
        while self._bins and (first := next(iter(self._bins))) <= newest - BINS_KEPT:
            del self._bins[first]

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
            self.tiers = [Tier(resolution, HOURS_3), *fine]

    def add(self, at: float, sums: Sums) -> None:
        """Add values."""
        self.newest = max(self.newest, at)
        for tier in self.tiers:
            tier.add(at, sums, self.newest)

    def size(self) -> int:
        """About how many bytes it takes."""
        return 1000 + sum(tier.size() for tier in self.tiers)

    def tier_for(self, start: float, period: int) -> Tier | None:
        """The finest tier that has the time `start` and whose buckets make up whole periods; None for a period finer
        than what is kept."""
        fitting = [tier for tier in self.tiers if period % tier.width == 0]
        return next((t for t in fitting if start > self.newest - t.kept), fitting[-1] if fitting else None)
