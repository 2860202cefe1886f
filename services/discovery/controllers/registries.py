"""Keeps the instances of ECS services in line with their tasks.

Level-triggered: a change only says which ECS service to look at; what is to be registered is decided from what is now,
so it does not matter what was missed while discovery was away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

import structlog

from contracts.kinds import Key
from contracts.records.agent import TASK_STATUS
from contracts.records.discovery import DISCOVERY_SERVICE
from contracts.records.scheduler import SERVICE, TASK
from services.discovery.adapters.world import World
from services.discovery.decisions.registries import Registration, owner_of, registry_ids, wanted
from services.discovery.handlers import deregister, has, register
from services.shared import telemetry
from services.shared.marked import Marked
from services.shared.state import Change

log = structlog.get_logger()

RETRY_S = 0.2


class RegistriesController(Marked):
    """`heard` is a listener of the world; `run` works until cancelled."""

    def __init__(self, world: World) -> None:
        super().__init__(retry_s=RETRY_S)
        self._world = world

    def heard(self, change: Change) -> None:
        """Mark what a change is about."""
        if change.kind is SERVICE:
            self.mark(change.key)
        elif change.kind is TASK:
            task = (change.new or change.old).record  # type: ignore[union-attr]
            if task.service:
                self.mark((*change.key[:3], task.service))
        elif change.kind is TASK_STATUS:
            task = self._world.tasks.record(*change.key)
            if task is not None and task.service:
                self.mark((*change.key[:3], task.service))
        elif change.kind is DISCOVERY_SERVICE:
            for key in self._registered_in(change.key):
                self.mark(key)

    def _registered_in(self, key: Key) -> list[Key]:
        services = self._world.ecs_services.records(*key[:2])
        return [SERVICE.key_of(s) for s in services if any(found == key[2] for found, _ in registry_ids(s))]

    def all_keys(self) -> Iterable[Key]:
        """Every ECS service that has a registry or instances."""
        registered = [SERVICE.key_of(s) for s in self._world.ecs_services.records() if registry_ids(s)]
        owners = ((account, region, *owner.split("/", 2)[1:]) for account, region, owner in self._world.owners())
        return dict.fromkeys([*registered, *owners])

    def _concerns(self, key: Key) -> bool:
        """Most ECS services have no registry: they cost a look."""
        service = self._world.ecs_services.record(*key)
        return bool(registry_ids(service) or self._world.owned(*key[:2], owner_of(*key[2:])))

    async def _reconcile(self, key: Key) -> None:
        """One write for each instance that is not as it should be: first all that come in, then all that go, so that a
        name does not lose its last instance before it has the next one."""
        world, (account, region, cluster, name) = self._world, key
        owner = owner_of(cluster, name)
        target = wanted(world.ecs_services.record(*key), world.members(key))
        coming = []
        for (service_id, task_id), wants in target.items():
            current = world.instances.record(account, region, service_id, task_id)
            if current is None or has(current) != (*wants, owner):
                coming.append(self._bring_in(key, service_id, task_id, wants))
        await _all(coming)
        gone = [instance for instance in world.owned(account, region, owner) if instance[2:] not in target]
        await _all([self._take_out(key, instance) for instance in gone])

    async def _bring_in(self, key: Key, service_id: str, task_id: str, wants: Registration) -> None:
        service = self._world.services.record(*key[:2], service_id)
        if service is None:
            log.warning("registry.missing", service_id=service_id, cluster=key[2], name=key[3], task=task_id)
            return  # looked at again when it is created
        told = {"service_id": service_id, "instance": task_id, "cluster": key[2], "service": key[3]}
        with telemetry.continued("discovery.register", self._world.task_trace(key, task_id), **told):
            await register(self._world, service, task_id, wants, owner=owner_of(*key[2:]))

    async def _take_out(self, key: Key, instance: Key) -> None:
        told = {"service_id": instance[2], "instance": instance[3], "cluster": key[2], "service": key[3]}
        trace = self._world.task_trace(key, instance[3])
        entry = self._world.instances.get(*instance)
        with telemetry.continued("discovery.deregister", trace or (entry.trace if entry else None), **told):
            await deregister(self._world, instance)


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do all of it at once; then raise the first of what went wrong."""
    failed = [e for e in await asyncio.gather(*work, return_exceptions=True) if isinstance(e, BaseException)]
    if failed:
        raise failed[0]
