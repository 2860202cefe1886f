"""Following a stream that is no state: every message once, in order, from a sequence on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from services.shared.bus import Bus
from services.shared.views import Follower

Take = Callable[[str, bytes, int], None]
"""Subject, payload, sequence. Must not block and must not raise."""


class Tail:
    """Follows `filter_subject` of a stream, as a View follows state: it resumes where it was whenever the connection
    comes back or a message is missing. Memory holds what `take` makes of the messages, so none is taken twice."""

    reads = "all"

    def __init__(self, bus: Bus, stream: str, filter_subject: str, take: Take) -> None:
        self.stream = stream
        self._bus = bus
        self._take = take
        self._filter = filter_subject
        self._taken = 0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    async def start(self, sequence: int) -> None:
        """Take what there is from this sequence on, and follow from then. Raises StateUnavailable."""
        self._taken = max(sequence - 1, 0)
        self._follower = Follower(self, self._filter, self._taken)
        await self._follower.start()

    async def stop(self) -> None:
        """Stop following."""
        if hasattr(self, "_follower"):
            await self._follower.stop()

    async def reached(self, sequence: int) -> None:
        """Return when the message with this sequence (of the filter's) was taken."""
        if sequence > self._taken:
            future = asyncio.get_running_loop().create_future()
            self._waiting.append((sequence, future))
            await future

    def apply(self, subject: str, data: bytes, headers: dict[str, str] | None, sequence: int) -> None:
        """Called by the follower."""
        if sequence <= self._taken:
            return
        self._take(subject, data, sequence)
        self._taken = sequence
        if self._waiting:
            left = []
            for wanted, future in self._waiting:
                if wanted > sequence:
                    left.append((wanted, future))
                elif not future.done():
                    future.set_result(None)
            self._waiting = left

    def forget_missing(self, filter_subject: str, seen: set[str], upto: int) -> None:
        """Called by the follower after a reading from the beginning: what aged out was taken before."""
