"""The rounds: look at targets when something about them changed, when metrics came, when the period is over.

Level-triggered: what is decided comes of what is now, so it does not matter what was missed. One question to the
monitor for all targets of a round; no timer runs that nobody needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

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
from contracts.records.monitor import METRIC_ALARM
from contracts.records.scheduler import SERVICE
from services.autoscaler.adapters.world import World
from services.autoscaler.controllers.looking import Look, look_at
from services.autoscaler.decisions import activities, schedules
from services.autoscaler.decisions.alarms import names_policy
from services.autoscaler.decisions.names import DIMENSION
from services.autoscaler.decisions.values import MetricOf, Point
from services.autoscaler.handlers import Scaling
from services.autoscaler.ports import Metrics
from services.autoscaler.settings import AutoscalerSettings
from services.shared.errors import StateUnavailable
from services.shared.state import Change, Conflict

log = structlog.get_logger()

RETRY_S = 0.5
GATHER_S = 0.2
"""Metrics of several nodes come together, more or less: one round for all of them."""

RETELL_S = 3600.0


class Rounds:
    """One term of a leader. `heard` and `metrics_came` are told from outside; `run` works until there is no target.
    `leads` says whether the lease is held: one that stalled finds out late that another has taken over."""

    def __init__(
        self,
        world: World,
        scaling: Scaling,
        metrics: Metrics,
        settings: AutoscalerSettings,
        leads: Callable[[], bool],
    ) -> None:
        self._world = world
        self._leads = leads
        self._scaling = scaling
        self._metrics = metrics
        self._settings = settings
        self._marked: dict[Key, None] = {}
        self._wake = asyncio.Event()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._soon: asyncio.TimerHandle | None = None
        self._occurrences: dict[Key, float | None] = {}

    def heard(self, change: Change) -> None:
        """Mark the targets that a change is about."""
        if change.kind in (SCALABLE_TARGET, SCALING_POLICY, SCHEDULED_ACTION):
            if change.kind is SCHEDULED_ACTION:
                self._occurrences.pop(change.key, None)
            self.mark(change.key[:4])
        elif change.kind is SERVICE:
            account, region, cluster, name = change.key
            key = (account, region, f"service/{cluster}/{name}", DIMENSION)
            target = self._world.targets.record(*key)
            if target is not None and (not target.settled or self._world.open_activities(key)):
                self.mark(key)
        elif change.kind is METRIC_ALARM and change.new is not None:
            for policy in self._world.policies.records(*change.key[:2]):
                if names_policy(change.new.record, policy):
                    self.mark(SCALING_POLICY.key_of(policy)[:4])

    def mark(self, key: Key) -> None:
        """Look at this target soon."""
        self._marked[key] = None
        self._wake.set()

    def metrics_came(self) -> None:
        """Look at all targets that follow metrics, in a moment."""
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_later(GATHER_S, self._look_at_all)

    def _look_at_all(self) -> None:
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        for policy in self._world.policies.records():
            self.mark(SCALING_POLICY.key_of(policy)[:4])

    async def run(self) -> None:
        """Finish what broke off, then look whenever there is a reason to."""
        for key in self._world.targets.all_keys():
            self.mark(key)
        await self._tell_what_was_done()
        loop = asyncio.get_running_loop()
        next_round = loop.time() + self._settings.period_s
        try:
            while len(self._world.targets):
                following = len(self._world.policies) > 0
                deadline = min(next_round if following else float("inf"), self._next_occurrence())
                if await self._waited(deadline):
                    self._mark_due()
                if loop.time() >= next_round:
                    next_round = loop.time() + self._settings.period_s
                    self._look_at_all()
                if not self._leads():
                    await asyncio.sleep(RETRY_S)  # until the lease is renewed, or its keeper ends this term
                    continue
                marked, self._marked = list(self._marked), {}
                self._wake.clear()
                if marked:
                    await self._round(marked)
        finally:
            for timer in (*self._timers.values(), *([self._soon] if self._soon else [])):
                timer.cancel()

    async def _waited(self, deadline: float) -> bool:
        """Return when woken, or at the deadline (in the loop's time): True then."""
        try:
            async with asyncio.timeout_at(deadline if deadline < float("inf") else None):
                await self._wake.wait()
                return False
        except TimeoutError:
            return True

    # The schedule

    def _next_occurrence(self) -> float:
        """When the next scheduled action is due, in the loop's time."""
        now, loop = self._world.clock(), asyncio.get_running_loop()
        found = float("inf")
        for action in self._world.actions.records():
            at = self._occurrence(action, now)
            if at is not None:
                found = min(found, at)
        return loop.time() + max(0.0, found - now) if found < float("inf") else found

    def _occurrence(self, action: ScheduledAction, now: float) -> float | None:
        key = SCHEDULED_ACTION.key_of(action)
        if key not in self._occurrences:
            target = self._world.targets.record(*key[:4])
            since = max(target.fired.get(action.id, 0.0) if target is not None else 0.0, action.put_at)
            try:
                due = schedules.due(action, since, now)
                self._occurrences[key] = due or schedules.next_after(action, max(since, now))
            except Exception:  # one that can't be reckoned must not end the scaling of all
                log.exception("schedule.failed", resource=action.resource, action=action.name)
                self._occurrences[key] = None
        return self._occurrences[key]

    def _mark_due(self) -> None:
        now = self._world.clock()
        for key, at in list(self._occurrences.items()):
            if at is not None and at <= now:
                self.mark(key[:4])

    async def _fire(self, target: ScalableTarget) -> bool:
        """Act upon the scheduled actions of a target that are due; whether there was one."""
        fired, now = False, self._world.clock()
        for action in self._world.actions.records(*SCALABLE_TARGET.key_of(target)):
            at = self._occurrence(action, now)
            if at is None or at > now:
                continue
            occurrence = schedules.due(action, target.fired.get(action.id), now)
            if occurrence is not None:
                await self._scaling.fire(target, action, occurrence)
                fired = True
            self._occurrences.pop(SCHEDULED_ACTION.key_of(action), None)
        return fired

    async def _tell_what_was_done(self) -> None:
        """Occurrences that were acted upon by one who ended before telling."""
        now = self._world.clock()
        for action in self._world.actions.records():
            key = SCHEDULED_ACTION.key_of(action)
            target = self._world.targets.record(*key[:4])
            at = target.fired.get(action.id) if target is not None else None
            if target is None or at is None or at < now - RETELL_S or target.suspended.scheduled:
                continue
            told = activities.bounded(target, action, at, now)
            if self._world.activities.record(*SCALING_ACTIVITY.key_of(told)) is None:
                try:
                    await self._scaling.tell_fired(target, action, at)
                except StateUnavailable:
                    return

    # A round

    async def _round(self, keys: list[Key]) -> None:
        looks = [look for key in keys if (look := look_at(self._world, key, self._settings)) is not None]
        values = await self._read(looks)
        await asyncio.gather(*(self._work(look, values) for look in looks))

    async def _read(self, looks: list[Look]) -> Mapping[MetricOf, list[Point]]:
        wanted = list(dict.fromkeys(metric for look in looks for metric in look.metrics()))
        if not wanted:
            return {}
        now = self._world.clock()
        longest = max(metric.period_s for metric in wanted)
        back = max(self._settings.scale_in_window_s + 2 * self._settings.period_s, 3.0 * longest)
        try:
            return await self._metrics.read(wanted, now - back, now)
        except StateUnavailable:
            log.debug("metrics.unavailable", series=len(wanted))
            return {}  # not knowing is no reason to move; bounds and schedules need no metrics

    async def _work(self, look: Look, values: Mapping[MetricOf, list[Point]]) -> None:
        key = SCALABLE_TARGET.key_of(look.target)
        delay = 0.0
        try:
            await self._look(look, values)
        except (StateUnavailable, Conflict):
            delay = RETRY_S
        except Exception:
            log.exception("target.failed", resource=look.target.resource, region=look.target.region)
            delay = 10 * RETRY_S
        if delay:
            known = self._timers.pop(key, None)
            if known is not None:
                known.cancel()
            self._timers[key] = asyncio.get_running_loop().call_later(delay, self.mark, key)

    async def _look(self, look: Look, values: Mapping[MetricOf, list[Point]]) -> None:
        """What broke off first; then schedule, bounds, policies. Each change marks the target again."""
        key = SCALABLE_TARGET.key_of(look.target)
        opened = self._world.open_activities(key)
        for entry in opened:
            await self._scaling.resume(entry)
        if any(entry.record.status == "Pending" for entry in opened):
            self.mark(key)  # what was seen is the count before it was asked for
            return
        if self._world.targets.record(*key) is not look.target or await self._fire(look.target):
            return
        if not look.target.settled:
            await self._scaling.bring_inside(look.target)
            return
        answer = look.answer(values, self._history_of(key), self._world.clock())
        if answer is None:
            return
        if answer.desired is not None:
            cause = activities.cause_of(answer.wishes)
            policies = [wish.policy for wish in answer.wishes]
            trace = look.trace_of(policies)
            await self._scaling.scale(look.target, look.current, answer.desired, trigger="policy", cause=cause,
                                      policies=policies, trace=trace)  # fmt: skip
        elif answer.refused is not None:
            await self._scaling.tell_not_scaled(look.target, answer)

    def _history_of(self, key: Key) -> list[ScalingActivity]:
        return self._world.activities.records(*key)
