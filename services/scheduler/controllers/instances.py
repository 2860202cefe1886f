"""The instance controller: gives up the tasks on nodes that were taken out of their cluster.

Nobody hears of them any more if the node is an external one; a node of the platform's own stops them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from contracts.records.agent import NODE
from contracts.records.identity import MANAGED_NODE
from contracts.records.scheduler import CONTAINER_INSTANCE, TASK, Task
from services.scheduler.adapters import World
from services.scheduler.decisions import life
from services.scheduler.handlers import stop_task
from services.shared.errors import StateUnavailable
from services.shared.state import Change, Conflict
from services.shared.waiting import woken

RETRY_S = 1.0
REASON = "Container instance deregistration forced by user"


class InstanceController:
    """Looks at what is on such nodes whenever one of them, or a task on one, has changed."""

    def __init__(self, world: World, leads: Callable[[], bool]) -> None:
        self._world = world
        self._leads = leads
        self._wake = asyncio.Event()

    def heard(self, change: Change) -> None:
        """A node was taken out, or a task was placed on one that is."""
        placed_there = change.kind is TASK and change.new is not None and self._out(change.new.record)
        if placed_there or change.kind in (CONTAINER_INSTANCE, MANAGED_NODE, NODE):
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

    def _out(self, task: Task) -> bool:
        return self._world.deregistered(task.account, task.region, task.cluster, task.node)

    async def _look(self) -> float | None:
        world = self._world
        if not world.bus.connected.is_set() or not self._leads():
            return RETRY_S
        named = {i.node for i in world.instances.records() if i.status == "INACTIVE"}
        named |= {m.node for m in world.managed.values() if m.status != "ACTIVE"}
        for node in sorted(named):
            for task, status in world.tasks_on(node):
                if self._out(task) and not life.over(task, status):
                    await stop_task(world, TASK.key_of(task), code="TerminationNotice", reason=REASON, lost=True)
        return None
