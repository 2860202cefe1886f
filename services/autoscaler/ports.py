"""What the autoscaler needs from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from contracts.records.autoscaler import ScalingActivity
from services.autoscaler.decisions.values import MetricOf, Point


class Metrics(Protocol):
    """Where metrics are read."""

    async def read(self, wanted: Sequence[MetricOf], start: float, end: float) -> Mapping[MetricOf, list[Point]]:
        """The points between start and end (epoch seconds), oldest first, in one question for all. A series without
        data has none. Raises StateUnavailable when nobody answers."""


class Counts(Protocol):
    """Who changes desired counts."""

    async def set(self, activity: ScalingActivity) -> None:
        """Want the activity's count `after`; doing it twice is doing it once. Raises CommandRefused (ECS said no),
        StateUnavailable."""
