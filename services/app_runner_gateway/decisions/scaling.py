"""How many instances a service should have, from the requests in flight."""

from __future__ import annotations

import math
from collections import deque

import msgspec


class Bounds(msgspec.Struct, frozen=True):
    """An auto-scaling configuration's numbers. `concurrency`: requests in flight on one instance."""

    low: int = 1
    high: int = 25
    concurrency: int = 100


def wanted(in_flight: float, bounds: Bounds) -> int:
    """Enough instances for these requests, within the bounds."""
    return max(bounds.low, min(bounds.high, math.ceil(in_flight / bounds.concurrency)))


class Load:
    """What was in flight lately, and what it asks for: more at once, less when nothing more was asked for since
    `window_s`. A fresh one begins with the instances that there are, so that a restart takes none away."""

    def __init__(self, window_s: float, instances: int, now: float) -> None:
        self._window_s = window_s
        self._asked: deque[tuple[float, int]] = deque([(now, instances)])
        self._recent: deque[tuple[float, int]] = deque()

    def observe(self, in_flight: int, bounds: Bounds, now: float, average_s: float = 1.5) -> int:
        """Take in a look at the proxy; how many instances are wanted now."""
        self._recent.append((now, in_flight))
        while self._recent[0][0] < now - average_s:
            self._recent.popleft()
        asked = wanted(sum(n for _, n in self._recent) / len(self._recent), bounds)
        # Of the past only what was asked for later and was less can matter no more.
        while self._asked and self._asked[-1][1] <= asked:
            self._asked.pop()
        self._asked.append((now, asked))
        while len(self._asked) > 1 and self._asked[0][0] < now - self._window_s:
            self._asked.popleft()
        return max(bounds.low, min(bounds.high, self._asked[0][1]))
