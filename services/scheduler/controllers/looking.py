"""What the controllers that look have alike: a look whenever something has changed, or the time has come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from services.scheduler.adapters import World
from services.shared.errors import StateUnavailable
from services.shared.state import Conflict
from services.shared.waiting import woken

RETRY_S = 1.0


class Looking:
    """Subclasses say what they do in `look`. `leads` says whether the lease is held."""

    def __init__(self, world: World, leads: Callable[[], bool]) -> None:
        self._world = world
        self._leads = leads
        self._wake = asyncio.Event()

    async def look(self) -> float | None:
        """Bring what is to what is wanted. In how many seconds to look again, if nothing changes; None: not then.
        StateUnavailable and Conflict have it done again soon."""
        raise NotImplementedError

    async def run(self) -> None:
        """Look, then sleep until something changes."""
        while True:
            self._wake.clear()
            delay: float | None = RETRY_S
            if self._world.bus.connected.is_set() and self._leads():
                try:
                    delay = await self.look()
                except (StateUnavailable, Conflict):
                    delay = RETRY_S
            await woken(self._wake, delay)
