"""Follows the Express services: each has the target and the policy that it asks for, and none when it is gone.

Every copy does so: what is written comes of the service alone, and a compare-and-set lets one copy write it.
"""

from __future__ import annotations

import asyncio

import structlog

from contracts.kinds import Key
from contracts.records.autoscaler import SCALABLE_TARGET, SCALING_POLICY, ScalableTarget, ScalingPolicy
from contracts.records.scheduler import SERVICE
from services.autoscaler.adapters.world import World
from services.autoscaler.decisions import express, names
from services.autoscaler.handlers import deregister
from services.shared.errors import StateUnavailable
from services.shared.state import Change, Conflict

log = structlog.get_logger()

RETRY_S = 0.5


class ExpressFollower:
    """`start` it; level-triggered, so what was missed while it was away is made up for."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._dirty: dict[Key, None] = {}
        self._wake = asyncio.Event()

    def start(self) -> None:
        """Look at every Express service, and at every target that was one's; then at those that change."""
        world = self._world
        world.listen(self._heard)
        for service in world.ecs_services.records():
            if service.express is not None:
                self._mark(SERVICE.key_of(service))
        for target in world.targets.records():
            if target.express_at is not None:
                self._mark(names.service_key(target.account, target.region, target.resource))
        self._task = world.bus.spawn(self._run(), "express")

    async def stop(self) -> None:
        """Follow no more."""
        self._world.forget(self._heard)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _heard(self, change: Change) -> None:
        if change.kind is not SERVICE:
            return
        found = [express.scaling_of(entry.record) if entry is not None else None for entry in (change.old, change.new)]
        if found[0] != found[1]:
            self._mark(change.key)

    def _mark(self, key: Key) -> None:
        self._dirty[key] = None
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            marked, self._dirty = list(self._dirty), {}
            for key in marked:
                try:
                    await self._follow(key)
                except (StateUnavailable, Conflict) as error:
                    log.warning("express.later", service=key[3], error=str(error))
                    self._dirty[key] = None
            if self._dirty:
                await asyncio.sleep(RETRY_S)  # NATS is away: there is no event for "try again"
                self._wake.set()

    async def _follow(self, key: Key) -> None:
        """The policy first: the target's write is what says that the wish was carried out."""
        world = self._world
        service = world.ecs_services.record(*key)
        scaling = express.scaling_of(service)
        target_key = (*key[:2], f"service/{key[2]}/{key[3]}", names.DIMENSION)
        known = world.targets.record(*target_key)
        if service is None or scaling is None:
            if known is not None and known.express_at is not None:
                await deregister(world, target_key)
            return
        if known is not None and known.express_at == scaling.wanted_at:
            return
        now, policy_id, target_id = world.clock(), names.new_uuid(), names.target_id()

        def put_policy(old: ScalingPolicy | None) -> ScalingPolicy:
            return express.policy(service, scaling, old, policy_id, now)

        def register(old: ScalableTarget | None) -> ScalableTarget:
            return express.target(service, scaling, old, target_id, now)

        policy_key = (*target_key, express.POLICY)
        await world.store.update(SCALING_POLICY, policy_key, put_policy, "scaling_policy.put.v1")
        await world.store.update(SCALABLE_TARGET, target_key, register, "scalable_target.registered.v1")
