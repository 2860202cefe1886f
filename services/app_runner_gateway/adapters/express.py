"""The services of the scheduler that have an address (Express services, and those behind a gateway), with the tasks of
the clusters that have such a service, and of no others.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator

import structlog

from contracts.kinds import Key
from contracts.records.agent import TASK_STATUS, TaskStatus
from contracts.records.app_runner_gateway import TARGET, Target
from contracts.records.scheduler import GATEWAY, SERVICE, TASK, Gateway, Service, Task
from services.app_runner_gateway.adapters.world import World
from services.shared.errors import StateUnavailable
from services.shared.state import Change
from services.shared.views import View

log = structlog.get_logger()

RETRY_S = 0.5


class Followed:
    """The tasks of one cluster."""

    def __init__(self) -> None:
        self.tasks: View | None = None
        self.statuses: View | None = None
        self.read = False
        self.of: defaultdict[str, dict[Key, None]] = defaultdict(dict)
        """Keys by the name of their service."""


class ExpressWorld:
    """Open it with `ExpressWorld.open`; `mark` hears which service has something to be looked at."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.mark: Callable[[Key], None] = lambda key: None
        self._keys: dict[Key, None] = {}
        self._clusters: dict[Key, Followed] = {}
        self._opening: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, world: World) -> ExpressWorld:
        """Read all there is. Raises StateUnavailable."""
        own = cls(world)
        world.listen(own._heard)
        own._keys = dict.fromkeys(SERVICE.key_of(s) for s in world.workloads.records() if s.front is not None)
        await asyncio.gather(*(own._follow(key) for key in {SERVICE.key_of(s)[:3] for s in own.services()}))
        return own

    async def close(self) -> None:
        """Stop following."""
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        await asyncio.gather(*(self._close(followed) for followed in self._clusters.values()))

    def services(self) -> list[Service]:
        """All services with an address, those that are INACTIVE too."""
        return [service for key in list(self._keys) if (service := self.service(key)) is not None]

    def service(self, key: Key) -> Service | None:
        """One of them."""
        service = self.world.workloads.record(*key)
        return service if service is not None and service.front is not None else None

    def known(self, key: Key) -> bool:
        """Whether the tasks of this service's cluster have been read."""
        followed = self._clusters.get(key[:3])
        return followed is not None and followed.read

    def tasks(self, key: Key) -> Iterator[tuple[Task, TaskStatus | None]]:
        """The tasks of a service, wanted and as they are."""
        followed = self._clusters.get(key[:3])
        if followed is None or followed.tasks is None or followed.statuses is None:
            return
        for task_key in list(followed.of.get(key[3], ())):
            task = followed.tasks.table(TASK).record(*task_key)
            if task is not None:
                yield task, followed.statuses.table(TASK_STATUS).record(*task_key)

    def targets(self, key: Key) -> dict[str, Target]:
        """What is written down of a service's tasks, by task."""
        found = self.world.store.table(TARGET).records(*key[:3])
        return {target.task: target for target in found if target.service == key[3]}

    def gateways(self, service: Service) -> dict[str, Gateway]:
        """The gateways of a service's account and region, by name."""
        return {gateway.name: gateway for gateway in self.world.gateways.records(service.account, service.region)}

    def _heard(self, change: Change) -> None:
        """A change of a service: its cluster is followed from now on. One of a gateway: what is behind it is marked."""
        if change.kind is GATEWAY:
            for key in self._keys:
                service = self.service(key) if key[:2] == change.key[:2] else None
                routes = service.connector.routes if service is not None and service.connector is not None else ()
                if any(route.gateway == change.key[2] for route in routes):
                    self.mark(key)
        if change.kind is not SERVICE:
            return
        records = [entry.record for entry in (change.new, change.old) if entry is not None]
        if not any(record.front is not None for record in records):
            return
        cluster = change.key[:3]
        self._keys.pop(change.key, None)
        if change.new is not None and change.new.record.front is not None:
            self._keys[change.key] = None
            if cluster not in self._clusters:
                self._spawn(self._follow(cluster))
        elif cluster in self._clusters and not any(key[:3] == cluster for key in self._keys):
            self._spawn(self._close(self._clusters.pop(cluster)))
        self.mark(change.key)

    def _spawn(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _follow(self, cluster: Key) -> None:
        followed = self._clusters[cluster] = Followed()
        where = dict(zip(("account", "region", "cluster"), cluster, strict=True))

        def heard(change: Change) -> None:
            self._changed(followed, change)

        bus = self.world.bus
        while self._clusters.get(cluster) is followed:
            try:
                followed.statuses = await View.open(bus, TASK_STATUS, filters=(TASK_STATUS.filter(**where),))
                followed.tasks = await View.open(bus, TASK, filters=(TASK.filter(**where),), listen=heard)
            except StateUnavailable as error:
                log.warning("express.unread", cluster=cluster[2], error=error.message)
                await self._close(followed)
                await asyncio.sleep(RETRY_S)  # NATS is away: there is no event for "try again"
                continue
            if self._clusters.get(cluster) is not followed:  # the last service of the cluster went meanwhile
                await self._close(followed)
                return
            followed.statuses.listen(heard)
            followed.read = True
            for key in self._keys:
                if key[:3] == cluster:
                    self.mark(key)
            return

    @staticmethod
    async def _close(followed: Followed) -> None:
        followed.read = False
        for view in (followed.tasks, followed.statuses):
            if view is not None:
                with contextlib.suppress(StateUnavailable):
                    await view.close()
        followed.tasks = followed.statuses = None
        followed.of.clear()

    def _changed(self, followed: Followed, change: Change) -> None:
        if change.kind is TASK:
            task = (change.new or change.old).record  # type: ignore[union-attr]
            followed.of[task.service].pop(change.key, None)
            if change.new is not None:
                followed.of[task.service][change.key] = None
        else:
            task = followed.tasks.table(TASK).record(*change.key) if followed.tasks is not None else None
        if task is not None and task.service:
            self.mark((*change.key[:3], task.service))
