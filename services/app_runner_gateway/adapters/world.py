"""The gateway's records, and of the scheduler and the agents what concerns its workloads, with the indexes it needs."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator

from contracts.kinds import Key
from contracts.records.agent import TASK_STATUS, TaskStatus
from contracts.records.app_runner_gateway import (
    APP_SERVICE,
    AUTO_SCALING,
    KINDS,
    SCALING_DEFAULT,
    AppService,
    AutoScaling,
)
from contracts.records.registry import IMAGE_TAG
from contracts.records.scheduler import GATEWAY, SERVICE, TASK, Service, Task
from contracts.rpc.scheduler import WORKLOADS_CLUSTER
from services.app_runner_gateway.decisions import names
from services.app_runner_gateway.decisions.requests import ecr_image
from services.app_runner_gateway.decisions.scaling import Bounds
from services.shared.bus import Bus
from services.shared.clock import Clock
from services.shared.state import Change, Store, fetch
from services.shared.views import View


class World:
    """Open it with `World.open`. `listen` to be told of every change; `service_of` says which service it concerns."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self.bus = bus
        self.clock = clock
        self._listeners: list[Callable[[Change], None]] = []
        self._by_prefix: dict[Key, Key] = {}
        self._tasks_of: dict[Key, dict[Key, None]] = defaultdict(dict)

    @classmethod
    async def open(cls, bus: Bus, clock: Clock) -> World:
        """Read all there is. Raises StateUnavailable."""
        world = cls(bus, clock)
        hidden = {"cluster": WORKLOADS_CLUSTER}
        filters = (SERVICE.filter(), GATEWAY.filter(), TASK.filter(**hidden))
        world.store, world._scheduler, world._agents = await asyncio.gather(
            Store.open(bus, KINDS, listen=world._changed),
            View.open(bus, SERVICE, GATEWAY, TASK, filters=filters, listen=world._changed),
            View.open(bus, TASK_STATUS, filters=(TASK_STATUS.filter(**hidden),), listen=world._changed),
        )
        world.services = world.store.table(APP_SERVICE)
        world.scalings = world.store.table(AUTO_SCALING)
        world.scaling_defaults = world.store.table(SCALING_DEFAULT)
        world.workloads = world._scheduler.table(SERVICE)
        world.gateways = world._scheduler.table(GATEWAY)
        world.tasks = world._scheduler.table(TASK)
        world.statuses = world._agents.table(TASK_STATUS)
        return world

    async def close(self) -> None:
        """Stop following."""
        await asyncio.gather(self.store.close(), self._scheduler.close(), self._agents.close())

    def listen(self, listener: Callable[[Change], None]) -> None:
        """Be told of every change from now on; must not block."""
        self._listeners.append(listener)

    def _changed(self, change: Change) -> None:
        record = (change.new or change.old).record  # type: ignore[union-attr]
        if change.kind is APP_SERVICE:
            self._by_prefix[record.account, record.region, names.prefix(record)] = change.key
            if change.new is None:
                del self._by_prefix[record.account, record.region, names.prefix(record)]
        elif change.kind is TASK:
            group = self._tasks_of[record.account, record.region, record.service]
            group.pop(change.key, None)
            if change.new is not None:
                group[change.key] = None
        for listener in self._listeners:
            listener(change)

    def service_of(self, change: Change) -> Key | None:
        """The key of the service that a change concerns."""
        if change.kind is APP_SERVICE:
            return change.key
        if change.kind is SERVICE:
            hidden = change.key[2] == WORKLOADS_CLUSTER
            return self._of_workload(change.key[0], change.key[1], change.key[3]) if hidden else None
        if change.kind is TASK_STATUS:
            task = self.tasks.record(*change.key)
        else:
            task = (change.new or change.old).record if change.kind is TASK else None  # type: ignore[union-attr]
        return self._of_workload(task.account, task.region, task.service) if task is not None else None

    def _of_workload(self, account: str, region: str, name: str) -> Key | None:
        return self._by_prefix.get((account, region, name[: name.rfind("-") + 1]))

    def workloads_of(self, service: AppService) -> Iterator[tuple[int, Service]]:
        """The service's workloads with the number of their revision."""
        prefix = names.prefix(service)
        for number in range(1, service.last_revision + 1):
            key = (service.account, service.region, WORKLOADS_CLUSTER, f"{prefix}{number}")
            record = self.workloads.record(*key)
            if record is not None:
                yield number, record

    def tasks_of(self, service: AppService, number: int) -> Iterator[tuple[Task, TaskStatus | None]]:
        """The tasks of a revision, wanted and as they are."""
        key = (service.account, service.region, names.workload(service, number))
        for task_key in list(self._tasks_of.get(key, ())):
            task = self.tasks.record(*task_key)
            if task is not None:
                yield task, self.statuses.record(*task_key)

    # Scaling configurations

    def default_arn(self, account: str, region: str) -> str:
        """The configuration of services that name none."""
        record = self.scaling_defaults.record(account, region)
        return record.arn if record else names.scaling_arn(account, region, names.DEFAULT_SCALING, 1)

    def scaling(self, account: str, region: str, arn: str) -> AutoScaling | None:
        """The configuration that an ARN means: without a revision, the latest ACTIVE one."""
        found = names.scaling_name(arn, account, region)
        if found is None:
            return None
        name, number = found
        if number is not None:
            return next((s for s in self.revisions(account, region, name) if s.revision == number), None)
        active = [s for s in self.revisions(account, region, name) if s.status == "ACTIVE"]
        return active[-1] if active else None

    def revisions(self, account: str, region: str, name: str) -> list[AutoScaling]:
        """All revisions of a configuration, the oldest first. DefaultConfiguration is there by itself."""
        found = sorted(self.scalings.records(account, region, name), key=lambda s: s.revision)
        if name == names.DEFAULT_SCALING and not found:
            found = [_default(account, region)]
        return found

    def all_scalings(self, account: str, region: str) -> list[AutoScaling]:
        """Every revision of every configuration."""
        found = self.scalings.records(account, region)
        if not any(s.name == names.DEFAULT_SCALING for s in found):
            found.append(_default(account, region))
        return sorted(found, key=lambda s: (s.name, s.revision))

    def bounds(self, service: AppService) -> Bounds:
        """The numbers of a service's configuration."""
        scaling = self.scaling(service.account, service.region, service.auto_scaling)
        if scaling is None:
            return Bounds()
        return Bounds(scaling.min_size, scaling.max_size, scaling.max_concurrency)

    async def image_now(self, identifier: str) -> str:
        """What an image identifier names now, by digest; as it stands when the registry has no such tag. Raises
        StateUnavailable."""
        image = ecr_image(identifier)
        if image is None or image.digest:
            return identifier
        tag = await fetch(self.bus, IMAGE_TAG, (image.account, image.region, image.repository, image.tag))
        return image.pinned(tag.digest) if tag is not None else identifier


def _default(account: str, region: str) -> AutoScaling:
    return AutoScaling(
        account=account,
        region=region,
        name=names.DEFAULT_SCALING,
        revision=1,
        max_concurrency=100,
        min_size=1,
        max_size=25,
        created_at=0.0,
    )
