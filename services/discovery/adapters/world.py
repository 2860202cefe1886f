"""The records of discovery, and of the scheduler and the agents what it may see, with the indexes it needs."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable

import structlog

from contracts.kinds import Key
from contracts.records.agent import TASK_STATUS
from contracts.records.discovery import DISCOVERY_SERVICE, INSTANCE, KINDS, NAMESPACE, DiscoveryService, Namespace
from contracts.records.scheduler import SERVICE, TASK, TASK_DEFINITION, Task
from services.discovery.decisions.answers import Answers
from services.discovery.decisions.registries import Member, container_facts
from services.discovery.decisions.zones import Zones, names_of
from services.shared.bus import Bus
from services.shared.clock import Clock
from services.shared.state import Change, Store
from services.shared.views import View

log = structlog.get_logger()


class World:
    """Everything that discovery knows. The zones follow the records at once, before any other listener hears."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self.bus = bus
        self.clock = clock
        # Names are unique among the records of several keys, which no single compare-and-set can watch over.
        self.naming = asyncio.Lock()
        self.zones = Zones()
        self.answers = Answers(self.zones, random.Random())
        self._tasks_of: dict[Key, dict[Key, None]] = defaultdict(dict)
        self._owned: dict[tuple[str, str, str], dict[Key, None]] = defaultdict(dict)
        self._revisions: dict[Key, int] = {}
        self._first_revision = int(clock() * 1000)
        self._listeners: list[Callable[[Change], None]] = []
        self._ready = False

    @classmethod
    async def open(cls, bus: Bus, clock: Clock) -> World:
        """Read all there is."""
        world = cls(bus, clock)
        world.store, world._scheduler, world._agent = await asyncio.gather(
            Store.open(bus, KINDS, listen=world._on_change),
            View.open(bus, SERVICE, TASK, TASK_DEFINITION, listen=world._on_change),
            View.open(bus, TASK_STATUS, listen=world._on_change),
        )
        world.namespaces = world.store.table(NAMESPACE)
        world.services = world.store.table(DISCOVERY_SERVICE)
        world.instances = world.store.table(INSTANCE)
        world.ecs_services = world._scheduler.table(SERVICE)
        world.tasks = world._scheduler.table(TASK)
        world.statuses = world._agent.table(TASK_STATUS)
        world._ready = True
        world._all_zones()
        return world

    async def close(self) -> None:
        """Stop following."""
        await asyncio.gather(self.store.close(), self._scheduler.close(), self._agent.close())

    def listen(self, listener: Callable[[Change], None]) -> None:
        """Be told of every change from now on."""
        self._listeners.append(listener)

    def owned(self, account: str, region: str, owner: str) -> list[Key]:
        """The keys of the instances that discovery registered for an ECS service."""
        return list(self._owned.get((account, region, owner), ()))

    def owners(self) -> list[tuple[str, str, str]]:
        """(account, region, owner) of every ECS service that has instances."""
        return list(self._owned)

    def members(self, key: Key) -> list[Member]:
        """The tasks of an ECS service."""
        found = []
        for task_key in list(self._tasks_of.get(key, ())):
            task = self.tasks.record(*task_key)
            if task is not None:
                checked, ports = self._facts(task)
                found.append(Member(task, self.statuses.record(*task_key), checked, ports))
        return found

    def task_trace(self, key: Key, task_id: str) -> str | None:
        """The trace that the newest word on a task of this service belongs to."""
        for task_key in list(self._tasks_of.get(key, ())):
            if task_key[-1] == task_id:
                entry = self.statuses.get(*task_key) or self.tasks.get(*task_key)
                return entry.trace if entry is not None else None
        return None

    def revision(self, service: DiscoveryService) -> int:
        """A number that grows with each change of the service's instances."""
        return self._revisions.get(DISCOVERY_SERVICE.key_of(service), self._first_revision)

    def namespace_named(self, account: str, region: str, name: str) -> Namespace | None:
        """The namespace of this name, in any case."""
        found = (n for n in self.namespaces.records(account, region) if n.name.lower() == name.lower())
        return next(found, None)

    def service_named(self, namespace: Namespace, name: str) -> DiscoveryService | None:
        """The service of this name in a namespace, in any case."""
        return next((s for s in self.services_of(namespace) if s.name.lower() == name.lower()), None)

    def services_of(self, namespace: Namespace) -> list[DiscoveryService]:
        """The services of a namespace."""
        owned = self.services.records(namespace.account, namespace.region)
        return [s for s in owned if s.namespace == namespace.id]

    def _facts(self, task: Task) -> tuple[bool, dict[str, list[int]]]:
        family, _, revision = task.task_definition.rpartition(":")
        table = self._scheduler.table(TASK_DEFINITION)
        definition = table.record(task.account, task.region, family, revision)
        return container_facts(definition.definition if definition is not None else {})

    def _on_change(self, change: Change) -> None:
        if change.kind is TASK:
            self._index_task(change)
        elif change.kind is INSTANCE:
            self._index_instance(change)
        if not self._ready:
            return
        if change.kind is NAMESPACE:
            self._all_zones()
        elif change.kind is DISCOVERY_SERVICE:
            self._zone(change.key)
        elif change.kind is INSTANCE:
            self._zone(change.key[:3])
        for listener in self._listeners:
            listener(change)

    def _index_task(self, change: Change) -> None:
        task = (change.new or change.old).record  # type: ignore[union-attr]
        if not task.service:
            return
        key = (task.account, task.region, task.cluster, task.service)
        if change.new is not None:
            self._tasks_of[key][change.key] = None
        else:
            self._tasks_of[key].pop(change.key, None)
            if not self._tasks_of[key]:
                del self._tasks_of[key]

    def _index_instance(self, change: Change) -> None:
        for entry, present in ((change.old, False), (change.new, True)):
            if entry is None or not entry.record.owner:
                continue
            group = (*change.key[:2], entry.record.owner)
            if present:
                self._owned[group][change.key] = None
            else:
                self._owned[group].pop(change.key, None)
                if not self._owned[group]:
                    del self._owned[group]
        service = change.key[:3]
        before = self._revisions.get(service, self._first_revision)
        self._revisions[service] = max(before + 1, int(self.clock() * 1000))

    def _all_zones(self) -> None:
        self.zones.set_namespaces(self.namespaces.records())
        for key in self.services.all_keys():
            self._zone(key)
        self.answers.forget()

    def _zone(self, key: Key) -> None:
        service = self.services.record(*key)
        namespace = self.namespaces.record(*key[:2], service.namespace) if service is not None else None
        names = {}
        if service is not None and namespace is not None:
            try:
                names = names_of(namespace, service, self.instances.records(*key))
            except ValueError as error:
                log.error("zone.not_made", service_id=key[2], error=str(error))
        if self.zones.set_service(key, names):  # type: ignore[arg-type]
            self.answers.forget()
