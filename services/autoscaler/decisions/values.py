"""The values that decisions take and return."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec


class Point(NamedTuple):
    """A metric's value over a period that began at `at` (epoch seconds)."""

    at: float
    value: float


class Series(NamedTuple):
    """The points of a metric, oldest first, one each `period_s` seconds in which there was data."""

    points: Sequence[Point]
    period_s: float


class MetricOf(msgspec.Struct, frozen=True):
    """A series: what GetMetricStatistics is asked for. `dimensions` are sorted pairs, `period_s` seconds."""

    account: str
    region: str
    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]
    statistic: str
    period_s: int


class Past(msgspec.Struct, frozen=True):
    """The last scaling in one direction: when it began, from which count to which."""

    at: float
    before: int
    after: int


class History(msgspec.Struct, frozen=True):
    """What was done to a target lately: by policies in each direction, and when its count was last changed at all."""

    out: Past | None = None
    into: Past | None = None
    last_at: float = 0.0


class Wish(msgspec.Struct, frozen=True):
    """What one policy wants. verdict: OUT | IN | HOLD | NO_DATA (which is no wish to stay, but not knowing).

    `desired` is the count wanted, whatever min and max say. `why` is one line for a person.
    """

    verdict: str
    desired: int
    policy: str = ""
    name: str = ""
    why: str = ""
    tracking: bool = True


class Bounds(msgspec.Struct, frozen=True):
    """Between which counts a target may be scaled, and which directions are suspended."""

    low: int
    high: int
    no_in: bool = False
    no_out: bool = False

    def inside(self, count: int) -> int:
        """The nearest count that is allowed."""
        return max(self.low, min(self.high, count))
