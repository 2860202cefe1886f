"""Writes down when images were pulled, all that came together in one round."""

from __future__ import annotations

import asyncio

from services.registry.handlers.pulls import PullTimes


class PullWriter:
    """Waits for a pull, then for those that come soon after it."""

    def __init__(self, pulls: PullTimes, every_s: float) -> None:
        self._pulls = pulls
        self._every_s = every_s

    async def run(self) -> None:
        """Write until cancelled. While nobody pulls it sleeps."""
        while True:
            await self._pulls.waiting.wait()
            await asyncio.sleep(self._every_s)
            await self._pulls.write()
