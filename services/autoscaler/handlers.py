"""What changes a target's count or bounds, and writes down why.

A scaling is three writes, each of which can be the last before this process dies: the activity (Pending: what was
decided), the count (an absolute number, so asking again does no harm), the activity again (InProgress). `resume` goes
on from wherever it broke off.
"""

from __future__ import annotations

import asyncio

import structlog
from msgspec.structs import replace

from contracts.kinds import Key
from contracts.records.autoscaler import (
    SCALABLE_TARGET,
    SCALING_ACTIVITY,
    SCALING_POLICY,
    SCHEDULED_ACTION,
    ScalableTarget,
    ScalingActivity,
    ScheduledAction,
)
from services.autoscaler.adapters.world import World
from services.autoscaler.decisions import activities, names
from services.autoscaler.decisions.combine import Answer
from services.autoscaler.ports import Counts
from services.shared import telemetry
from services.shared.bus import CommandRefused
from services.shared.state import Conflict, Entry

log = structlog.get_logger()

SEEN_S = 3.0


async def deregister(world: World, key: Key) -> None:
    """Forget a target with its policies and scheduled actions. They go first: should this break off, the target is
    there to be deregistered again. Raises StateUnavailable, Conflict."""
    store = world.store
    for policy in world.policies.records(*key):
        await store.delete(SCALING_POLICY, SCALING_POLICY.key_of(policy), "scaling_policy.deleted.v1")
    for action in world.actions.records(*key):
        await store.delete(SCHEDULED_ACTION, SCHEDULED_ACTION.key_of(action), "scheduled_action.deleted.v1")
    await store.delete(SCALABLE_TARGET, key, "scalable_target.deregistered.v1")


class Scaling:
    """Carries out what was decided."""

    def __init__(self, world: World, counts: Counts) -> None:
        self._world = world
        self._counts = counts

    async def scale(
        self, target: ScalableTarget, before: int, after: int, *, trigger: str, cause: str,
        policies: list[str] | None = None, trace: str | None = None,
    ) -> None:  # fmt: skip
        """Write the decision down, then carry it out: one span, whose trace goes on into the tasks that are placed.

        `trace` is that of what led to it (an alarm). Raises StateUnavailable; `resume` does the rest then.
        """
        world = self._world
        activity = activities.scaling(
            target, names.new_uuid(), world.clock(), before=before, after=after, trigger=trigger, cause=cause,
            policies=policies or [],
        )  # fmt: skip
        told = {"resource": target.resource, "before": before, "after": after, "cause": cause}
        with telemetry.continued("autoscaler.scale", trace, kind="INTERNAL", **told):
            await self._override(target, after)
            await world.store.put(SCALING_ACTIVITY, activity, "scaling_activity.decided.v1", expect=0)
            await self._carry_out(activity)
        await self._forget_old(SCALABLE_TARGET.key_of(target))

    async def resume(self, entry: Entry[ScalingActivity]) -> None:
        """Go on with an activity that is not at an end: ask ECS if that was not done, or see what became of it."""
        activity, world = entry.record, self._world
        service = world.service(activity)
        if activity.status == "Pending":
            if service is not None and service.desired_count not in (activity.before, activity.after):
                await self._write(activities.overridden(activity, service.desired_count, world.clock()))
                return
            with telemetry.continued("autoscaler.resume", entry.trace, resource=activity.resource):
                await self._carry_out(activity)
            return
        new = activities.settled(activity, service, world.clock())
        if new is not activity:
            await self._write(new, trace=entry.trace)

    async def _carry_out(self, activity: ScalingActivity) -> None:
        world = self._world
        key = names.service_key(activity.account, activity.region, activity.resource)
        try:
            await self._counts.set(activity)
        except CommandRefused as refusal:
            log.warning("scaling.refused", resource=activity.resource, code=refusal.code, message=refusal.message)
            await self._write(activities.failed(activity, f"{refusal.code}: {refusal.message}", world.clock()))
            return
        assert activity.after is not None
        await asyncio.gather(self._write(activities.asked(activity)), world.shows(key, activity.after, SEEN_S))

    async def _override(self, target: ScalableTarget, after: int) -> None:
        for entry in self._world.open_activities(SCALABLE_TARGET.key_of(target)):
            new = activities.overridden(entry.record, after, self._world.clock())
            await self._write(new, trace=entry.trace)

    async def _write(self, activity: ScalingActivity, trace: str | None = None) -> None:
        event = "scaling_activity.ended.v1" if activity.ended_at is not None else "scaling_activity.started.v1"
        await self._world.store.put(SCALING_ACTIVITY, activity, event, trace=trace)

    async def tell_not_scaled(self, target: ScalableTarget, answer: Answer) -> None:
        """Say why nothing is done, unless that was the last thing said."""
        assert answer.refused is not None
        world, key = self._world, SCALABLE_TARGET.key_of(target)
        new = activities.not_scaled(target, names.new_uuid(), world.clock(), answer.wishes, answer.refused)
        if not activities.told_before(world.activities.records(*key), new):
            await self._write(new)
            await self._forget_old(key)

    async def bring_inside(self, target: ScalableTarget) -> None:
        """After min or max were set: bring the service's count between them, once."""
        world, key = self._world, SCALABLE_TARGET.key_of(target)
        service = world.service(target)
        if service is not None and service.status == "ACTIVE":
            count = service.desired_count
            inside = max(target.min_capacity, min(target.max_capacity, count))
            if inside != count:
                bound = f"minimum capacity was set to {inside}" if inside > count else (
                    f"maximum capacity was set to {inside}")  # fmt: skip
                entry = world.targets.get(*key)
                trace = entry.trace if entry is not None else None
                await self.scale(target, count, inside, trigger="bounds", cause=bound, trace=trace)

        def change(old: ScalableTarget | None) -> ScalableTarget | None:
            same = old is not None and (old.min_capacity, old.max_capacity) == (
                target.min_capacity, target.max_capacity)  # fmt: skip
            return replace(old, settled=True) if old is not None and same and not old.settled else old

        await world.store.update(SCALABLE_TARGET, key, change, "scalable_target.settled.v1")

    async def fire(self, target: ScalableTarget, action: ScheduledAction, occurrence: float) -> None:
        """Act upon one occurrence: min, max and the note that it was done are one write. Then tell."""
        world, key = self._world, SCALABLE_TARGET.key_of(target)

        def change(old: ScalableTarget | None) -> ScalableTarget | None:
            if old is None or old.fired.get(action.id, 0.0) >= occurrence:
                return old
            known = {a.id for a in world.actions.records(*key)}
            fired = {i: at for i, at in old.fired.items() if i in known} | {action.id: occurrence}
            low, high = activities.wanted_bounds(old, action)
            if old.suspended.scheduled or low > high:
                return replace(old, fired=fired)
            return replace(old, fired=fired, min_capacity=low, max_capacity=high, settled=False)

        told = {"resource": target.resource, "action": action.name, "occurrence": occurrence}
        with telemetry.continued("autoscaler.scheduled", None, kind="INTERNAL", **told):
            await world.store.update(SCALABLE_TARGET, key, change, "scalable_target.scheduled.v1")
            if not target.suspended.scheduled:
                await self.tell_fired(target, action, occurrence)

    async def tell_fired(self, target: ScalableTarget, action: ScheduledAction, occurrence: float) -> None:
        """The activity of an occurrence; written once, whoever comes second finds it there."""
        activity = activities.bounded(target, action, occurrence, self._world.clock())
        try:
            await self._world.store.put(SCALING_ACTIVITY, activity, "scaling_activity.ended.v1", expect=0)
        except Conflict:
            return
        await self._forget_old(SCALABLE_TARGET.key_of(target))

    async def _forget_old(self, key: Key) -> None:
        world = self._world
        for old in activities.superfluous(world.activities.records(*key), world.clock()):
            key_of = SCALING_ACTIVITY.key_of(old)
            await world.store.delete(SCALING_ACTIVITY, key_of, "scaling_activity.forgotten.v1")
