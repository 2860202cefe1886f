"""The spot controller: interrupts the FARGATE_SPOT tasks of nodes whose spot capacity is taken back.

Level-triggered: the record of the node says that its tasks are to go, so a scheduler that dies between two of them is
followed by one that does the rest, and a task that another scheduler placed there meanwhile goes too.
"""

from __future__ import annotations

import asyncio

from contracts.records.scheduler import SPOT_RECLAIM, TASK
from services.scheduler.controllers.looking import Looking
from services.scheduler.decisions import spot
from services.scheduler.handlers.spot import interrupt_task
from services.shared.state import Change


class SpotController(Looking):
    """Looks at the nodes that are taken back whenever one of them, or a task on one, has changed."""

    def heard(self, change: Change) -> None:
        """A node was taken back, or a task was placed on one that is."""
        taken = change.kind is TASK and self._world.reclaims.record(change.key[3]) is not None
        if taken or change.kind is SPOT_RECLAIM:
            self._wake.set()

    async def look(self) -> float | None:
        """Interrupt what is on the nodes that are taken back."""
        world = self._world
        due = [
            interrupt_task(world, task, reclaim.until)
            for reclaim in world.reclaims.records()
            for task, status in world.tasks_on(reclaim.node)
            if spot.interruptible(task, status)
        ]
        for failed in await asyncio.gather(*due, return_exceptions=True):
            if isinstance(failed, BaseException):
                raise failed
        return None
