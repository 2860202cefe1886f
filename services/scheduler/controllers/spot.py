"""The spot controller: interrupts the FARGATE_SPOT tasks of nodes whose spot capacity is taken back.

Level-triggered: the record of the node says that its tasks are to go, so a scheduler that dies between two of them is
followed by one that does the rest, and a task that another scheduler placed there meanwhile goes too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from contracts.records.scheduler import SPOT_RECLAIM, TASK
from services.scheduler.adapters import World
from services.scheduler.decisions import spot
from services.scheduler.handlers.spot import interrupt_task
from services.shared.errors import StateUnavailable
from services.shared.state import Change, Conflict
from services.shared.waiting import woken

RETRY_S = 1.0


class SpotController:
    """Looks at the nodes that are taken back whenever one of them, or a task on one, has changed."""

    def __init__(self, world: World, leads: Callable[[], bool]) -> None:
        self._world = world
        self._leads = leads
        self._wake = asyncio.Event()

    def heard(self, change: Change) -> None:
        """A node was taken back, or a task was placed on one that is."""
        taken = change.kind is TASK and self._world.reclaims.record(change.key[3]) is not None
        if taken or change.kind is SPOT_RECLAIM:
            self._wake.set()

    async def run(self) -> None:
        """Look, then sleep until something changes."""
        while True:
            self._wake.clear()
            try:
                delay = await self._look()
            except (StateUnavailable, Conflict):
                delay = RETRY_S
            await woken(self._wake, delay)

    async def _look(self) -> float | None:
        world = self._world
        reclaims = world.reclaims.records()
        if not reclaims:
            return None
        if not world.bus.connected.is_set() or not self._leads():
            return RETRY_S
        due = [
            interrupt_task(world, task, reclaim.until)
            for reclaim in reclaims
            for task, status in world.tasks_on(reclaim.node)
            if spot.interruptible(task, status)
        ]
        for failed in await asyncio.gather(*due, return_exceptions=True):
            if isinstance(failed, BaseException):
                raise failed
        return None
