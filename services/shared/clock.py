"""The one place where services read the time, so that tests can hand in their own."""

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Returns seconds since the epoch."""


def system_clock() -> float:
    """The machine's own clock."""
    return time.time()


class ManualClock:
    """A clock for tests: it stands still until told."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> float:
        """Move on and return the new time."""
        self.now += seconds
        return self.now
