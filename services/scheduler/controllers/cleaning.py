"""The cleaning controller: takes away what has been over for long enough."""

from __future__ import annotations

import asyncio
import heapq

from msgspec.structs import replace

from contracts.kinds import Key, Kind
from contracts.records.agent import TASK_STATUS
from contracts.records.scheduler import CLUSTER, SERVICE, TASK, TASK_DEFINITION
from services.scheduler.adapters import World
from services.scheduler.decisions import life
from services.shared.errors import StateUnavailable
from services.shared.state import Change, Conflict
from services.shared.waiting import woken

RETRY_S = 5.0


class CleaningController:
    """Deletes stopped tasks, inactive services and clusters, and empties deleted task definitions that nothing uses."""

    def __init__(self, world: World, keep_s: float) -> None:
        self._world = world
        self._keep_s = keep_s
        self._due: list[tuple[float, str, Key]] = []
        self._planned: set[tuple[str, Key]] = set()
        self._kinds: dict[str, Kind] = {kind.name: kind for kind in (TASK, SERVICE, CLUSTER, TASK_DEFINITION)}
        self._wake = asyncio.Event()

    def heard(self, change: Change) -> None:
        """Plan the end of what a change has ended."""
        kind = TASK if change.kind is TASK_STATUS else change.kind
        if kind.name in self._kinds and kind.service == TASK.service:
            self._plan(kind, change.key)

    def _plan(self, kind: Kind, key: Key) -> None:
        since = self._over_since(kind, key)
        if since is not None and (kind.name, key) not in self._planned:
            self._planned.add((kind.name, key))
            heapq.heappush(self._due, (since + self._keep_s, kind.name, key))
            self._wake.set()

    def _over_since(self, kind: Kind, key: Key) -> float | None:
        """Since when the entity has been of no more use; None when it is, or is not there."""
        world = self._world
        if kind is TASK:
            joined = world.joined(key)
            return life.stopped_at(*joined) if joined is not None else None
        record = world.store.table(kind).record(*key)
        if kind is TASK_DEFINITION:
            return record.delete_requested_at if record and record.status == "DELETE_IN_PROGRESS" else None
        return world.clock() if record is not None and record.status == "INACTIVE" else None

    async def run(self) -> None:
        """Sleep until something is due; take it away."""
        for kind in self._kinds.values():
            for key in self._world.store.table(kind).all_keys():
                self._plan(kind, key)
        while True:
            self._wake.clear()
            now = self._world.clock()
            while self._due and self._due[0][0] <= now:
                _, name, key = heapq.heappop(self._due)
                self._planned.discard((name, key))
                try:
                    await self._clean(self._kinds[name], key)
                except (StateUnavailable, Conflict):
                    self._planned.add((name, key))
                    heapq.heappush(self._due, (now + RETRY_S, name, key))
            delay = self._due[0][0] - now if self._due else None
            await woken(self._wake, delay)

    async def _clean(self, kind: Kind, key: Key) -> None:
        if self._over_since(kind, key) is None:
            return
        if kind is TASK_DEFINITION:
            await self._empty(key)
        else:
            await self._world.store.delete(kind, key, f"{kind.name}.removed.v1")

    async def _empty(self, key: Key) -> None:
        """Keep the number, so that it is never given out again, and nothing else."""
        account, region, family, revision = key
        reference = f"{family}:{revision}"
        world = self._world
        services = world.services.records(account, region)
        users = (*world.tasks.records(account, region), *(d for s in services for d in (*s.deployments, *s.task_sets)))
        used = any(user.task_definition == reference for user in users)
        if used:
            self._planned.add((TASK_DEFINITION.name, key))
            heapq.heappush(self._due, (world.clock() + self._keep_s, TASK_DEFINITION.name, key))
            return
        await world.store.update(
            TASK_DEFINITION,
            key,
            lambda old: replace(old, status="DELETED", definition={}, tags={}) if old is not None else old,
            "task_definition.deleted.v1",
        )
