"""The node controller: declares nodes lost that are silent for too long, and what ran on them with them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

import structlog

from contracts.kinds import Key
from contracts.records.agent import NODE
from contracts.records.scheduler import TASK
from services.scheduler.adapters import World
from services.scheduler.controllers.looking import RETRY_S, Looking
from services.scheduler.decisions import life
from services.scheduler.handlers import stop_task
from services.shared.state import Change

log = structlog.get_logger()

AT_ONCE = 64
"""How many tasks are written off at a time."""


TellNode = Callable[[str, float], Awaitable[None]]
"""Tells others that a node fell silent or is heard again: its name, and by when it would be silent."""


class NodeController(Looking):
    """Watches heartbeats. A node that comes back finds that its lost tasks are to stop.

    A node has to be found silent twice: when this process itself was held up, heartbeats lie unread at the first look.
    """

    def __init__(self, world: World, leads: Callable[[], bool], tell: TellNode) -> None:
        super().__init__(world, leads)
        self._tell = tell
        self._lost: set[str] = set()
        self._suspects: dict[str, float] = {}

    def heard(self, change: Change) -> None:
        """A node came, went or answered again."""
        if change.kind is NODE:
            self._wake.set()

    async def look(self) -> float | None:
        """Declare lost the tasks of those that are silent for too long; when the next one would be."""
        world = self._world
        now = world.clock()
        due = dict(world.silences())
        suspects = {name: at for name, at in due.items() if at < now}
        silent = {name for name, at in suspects.items() if self._suspects.get(name) == at}
        self._suspects = suspects
        # A task may be on a node whose record is gone: its agent signed off, or NATS forgot it.
        gone = {name for name in world.occupied_nodes() if name not in due}
        if silent - self._lost and not await world.bus.hears():
            # Who can't hear must not declare others dead: they get their whole time again.
            log.warning("nodes.unheard", reason="NATS does not answer", nodes=sorted(silent))
            world.forgive()
            return RETRY_S
        await self._lose(sorted(silent | gone))
        for name in self._lost - silent:
            log.info("node.back", node=name)
        for name in sorted(silent ^ self._lost):
            await self._tell(name, due.get(name, now))
        self._lost = silent
        if suspects.keys() - silent:
            return world.silence_s / 10
        waiting = [at for name, at in due.items() if name not in silent and at < math.inf]
        return max(0.0, min(waiting) - now) + 0.01 if waiting else None

    async def _lose(self, names: list[str]) -> None:
        lost: list[tuple[Key, str]] = []
        for name in names:
            silence_s = self._world.patience_s(name)
            if name not in self._lost:
                log.warning("node.lost", node=name, silent_s=silence_s)
            why = f"The node {name} was lost: its agent has not been heard of for {silence_s:g} seconds."
            found = self._world.tasks_on(name)
            lost += [(TASK.key_of(task), why) for task, status in found if not life.over(task, status)]
        for begin in range(0, len(lost), AT_ONCE):
            await asyncio.gather(*(self._write_off(key, why) for key, why in lost[begin : begin + AT_ONCE]))

    async def _write_off(self, key: Key, why: str) -> None:
        await stop_task(self._world, key, code="TerminationNotice", reason=why, lost=True)
