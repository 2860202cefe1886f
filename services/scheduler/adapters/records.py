"""The records that the scheduler follows: its own, the agents', and what it has to know of others, all in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from contracts.records.agent import NODE, TASK_STATUS, Node, TaskStatus
from contracts.records.app_runner_gateway import INGRESS, TARGET, Ingress, Target
from contracts.records.discovery import DISCOVERY_SERVICE, NAMESPACE, DiscoveryService, Namespace
from contracts.records.identity import MANAGED_NODE
from contracts.records.monitor import METRIC_ALARM, MetricAlarm
from contracts.records.scheduler import (
    CAPACITY_PROVIDER,
    CLUSTER,
    CONTAINER_INSTANCE,
    GATEWAY,
    KINDS,
    SERVICE,
    SPOT_RECLAIM,
    TASK,
    TASK_DEFINITION,
    CapacityProvider,
    Cluster,
    ContainerInstance,
    Gateway,
    Service,
    SpotReclaim,
    Task,
    TaskDefinition,
)
from services.scheduler.decisions import rollback
from services.shared.bus import Bus
from services.shared.errors import StateUnavailable
from services.shared.state import Change, Store, Table, View


class Records:
    """Follow with `_follow`. `listen` to be told of every change after it is taken in (`_changed`)."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.store: Store
        self.clusters: Table[Cluster]
        self.definitions: Table[TaskDefinition]
        self.tasks: Table[Task]
        self.services: Table[Service]
        self.providers: Table[CapacityProvider]
        self.gateways: Table[Gateway]
        self.instances: Table[ContainerInstance]
        self.reclaims: Table[SpotReclaim]
        self.nodes: Table[Node]
        self.statuses: Table[TaskStatus]
        self.namespaces: Table[Namespace]
        self.discovery_services: Table[DiscoveryService]
        self.targets: Table[Target]
        self._views: list[View] = []
        self._alarm_table: Table[MetricAlarm]
        self._ingress: Table[Ingress]
        self._listeners: list[Callable[[Change], None]] = []

    async def _follow(self) -> None:
        """Read all there is and follow. Raises StateUnavailable."""
        bus = self.bus
        self.store = await Store.open(bus, KINDS, listen=self._changed)
        self._views += [
            agents := await View.open(bus, NODE, TASK_STATUS, listen=self._changed),
            monitor := await View.open(bus, METRIC_ALARM, listen=self._changed),
            await View.open(bus, MANAGED_NODE, listen=self._changed),
            names := await View.open(bus, NAMESPACE, DISCOVERY_SERVICE),
            gateway := await View.open(bus, INGRESS, TARGET, listen=self._changed),
        ]
        self.clusters = self.store.table(CLUSTER)
        self.definitions = self.store.table(TASK_DEFINITION)
        self.tasks = self.store.table(TASK)
        self.services = self.store.table(SERVICE)
        self.providers = self.store.table(CAPACITY_PROVIDER)
        self.gateways = self.store.table(GATEWAY)
        self.instances = self.store.table(CONTAINER_INSTANCE)
        self.reclaims = self.store.table(SPOT_RECLAIM)
        self.nodes = agents.table(NODE)
        self.statuses = agents.table(TASK_STATUS)
        self.namespaces = names.table(NAMESPACE)
        self.discovery_services = names.table(DISCOVERY_SERVICE)
        self.targets = gateway.table(TARGET)
        self._alarm_table = monitor.table(METRIC_ALARM)
        self._ingress = gateway.table(INGRESS)

    async def close(self) -> None:
        """Stop following."""
        await asyncio.gather(*(view.close() for view in self._views))
        await self.store.close()

    def listen(self, listener: Callable[[Change], None]) -> None:
        """Be told of every change from now on; must not block."""
        self._listeners.append(listener)

    def require_connection(self) -> None:
        """Raise StateUnavailable while NATS is away: what is in memory may be old."""
        if not self.bus.connected.is_set():
            raise StateUnavailable()

    def _changed(self, change: Change) -> None:
        """Take a change in."""
        raise NotImplementedError

    def _tell(self, change: Change) -> None:
        for listener in self._listeners:
            listener(change)

    @property
    def ingress(self) -> Ingress | None:
        """Where the gateway answers; None when it has never said so."""
        return next(iter(self._ingress.records()), None)

    def definition_of(self, task: Task) -> TaskDefinition | None:
        """The task definition of a task."""
        family, _, revision = task.task_definition.rpartition(":")
        return self.definitions.record(task.account, task.region, family, revision)

    def triggered(self, service: Service) -> tuple[str, ...]:
        """The alarms that fail the service's deployment."""
        return rollback.triggered(service, self.alarms(service.account, service.region, rollback.watched(service)))

    def watch_s(self, service: Service) -> float:
        """How long the alarms of a service's deployment are watched at least (rollback.watch_s)."""
        return rollback.watch_s(self.alarms(service.account, service.region, rollback.watched(service)))

    def alarmed(self, account: str, region: str, request: Mapping[str, Any]) -> bool:
        """Whether one of the alarms that a service (wire form) is to be watched by is on."""
        return any(a.state == "ALARM" for a in self.alarms(account, region, rollback.alarm_names(request)))

    def alarms(self, account: str, region: str, names: list[str]) -> list[MetricAlarm]:
        """The alarms of these names, as far as there are any."""
        found = (self._alarm_table.record(account, region, name) for name in names)
        return [alarm for alarm in found if alarm is not None]
