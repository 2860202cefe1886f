"""The records of the autoscaler, the ECS services that it scales, and the alarms that trigger its policies."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from contracts.kinds import Key
from contracts.records.autoscaler import (
    KINDS,
    SCALABLE_TARGET,
    SCALING_ACTIVITY,
    SCALING_POLICY,
    SCHEDULED_ACTION,
    ScalingActivity,
)
from contracts.records.monitor import METRIC_ALARM, MetricAlarm
from contracts.records.scheduler import SERVICE, Service
from services.autoscaler.decisions import names
from services.autoscaler.decisions.activities import OPEN
from services.shared.bus import Bus
from services.shared.clock import Clock
from services.shared.state import Change, Entry, Store, View
from services.shared.waiting import within


class World:
    """Open it with `World.open`. All of it is memory, kept up to date by NATS."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self.bus = bus
        self.clock = clock
        self._listeners: list[Callable[[Change], None]] = []
        self._awaited: list[tuple[Key, int, asyncio.Future[None]]] = []

    @classmethod
    async def open(cls, bus: Bus, clock: Clock) -> World:
        """Read all there is. One consumer for all of the own records: a view would take one for each kind."""
        world = cls(bus, clock)
        own, world._services, world._alarms = await asyncio.gather(
            View.open(bus, *KINDS, filters=("state.autoscaler.>",), listen=world._heard),
            View.open(bus, SERVICE, listen=world._heard),
            View.open(bus, METRIC_ALARM, listen=world._heard),
        )
        world._own = own
        world.store = Store(bus, own)
        world.targets = own.table(SCALABLE_TARGET)
        world.policies = own.table(SCALING_POLICY)
        world.actions = own.table(SCHEDULED_ACTION)
        world.activities = own.table(SCALING_ACTIVITY)
        world.ecs_services = world._services.table(SERVICE)
        return world

    async def close(self) -> None:
        """Stop following."""
        await asyncio.gather(self._own.close(), self._services.close(), self._alarms.close())

    def listen(self, listener: Callable[[Change], None]) -> None:
        """Be told of every change from now on."""
        self._listeners.append(listener)

    def forget(self, listener: Callable[[Change], None]) -> None:
        """Be told no more."""
        self._listeners.remove(listener)

    def service(self, record: Any) -> Service | None:
        """The ECS service that a target, policy, action or activity is about."""
        key = names.service_key(record.account, record.region, record.resource)
        return self.ecs_services.record(*key)

    def alarms(self, account: str, region: str) -> list[Entry[MetricAlarm]]:
        """The metric alarms of a region."""
        return list(self._alarms.table(METRIC_ALARM).entries(account, region))

    def open_activities(self, key: Key) -> list[Entry[ScalingActivity]]:
        """What is not at an end yet of this target, oldest first."""
        found = [e for e in self.activities.entries(*key) if e.record.status in OPEN]
        return sorted(found, key=lambda entry: entry.record.started_at)

    async def shows(self, key: Key, count: int, seconds: float) -> None:
        """Return when the service's record has this desired count here, or after so many seconds: what is decided next
        must not be decided on the count before."""
        service = self.ecs_services.record(*key)
        if service is not None and service.desired_count == count:
            return
        waiting = asyncio.get_running_loop().create_future()
        self._awaited.append((key, count, waiting))
        with contextlib.suppress(TimeoutError):
            await within(seconds, waiting)
        self._awaited = [a for a in self._awaited if a[2] is not waiting]

    def _heard(self, change: Change) -> None:
        if change.kind is SERVICE and change.new is not None and self._awaited:
            for key, count, waiting in self._awaited:
                if key == change.key and change.new.record.desired_count == count and not waiting.done():
                    waiting.set_result(None)
        for listener in list(self._listeners):
            listener(change)
