"""A service's deployments driven by decisions alone: tasks start and stop at once, the clock goes to the next wake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from contracts.records.scheduler import HookRun, Service
from services.scheduler.decisions import rollout, shifting, stages
from services.scheduler.decisions.backoff import BackoffRules, Member
from services.scheduler.decisions.rollouts import recorded
from services.scheduler.decisions.services import begun, completed, updated
from tests.builders.ecs import service

RULES = BackoffRules(base_s=1.0, limit_s=60.0, settled_s=10.0)


class Drive:
    """`now` is the clock; `seen` the (stage, weights of the deployments oldest first) in the order in which they were;
    `decide_hook` says what becomes of an open hook: SUCCEEDED, FAILED, or None to leave it open."""

    def __init__(self, count: int = 2, **configuration: Any) -> None:
        self.now = 1000.0
        self.members: list[Member] = []
        self.alarms: tuple[str, ...] = ()
        self.seen: list[tuple[str, tuple[float, ...]]] = []
        self.healthy: Callable[[Member], bool] = lambda member: True
        self.decide_hook: Callable[[HookRun], str | None] = lambda run: "SUCCEEDED"
        self._started = 0
        request = {"desiredCount": count, "deploymentConfiguration": completed(configuration)}
        deployments = begun(request, "web:1", "d1", self.now)
        self.service: Service = recorded(replace(service(count, *deployments), request=request), self.now)

    @property
    def stage(self) -> str:
        """The stage of the latest deployment, empty when it has none."""
        stage = self.service.deployments[0].stage
        return stage.name if stage is not None else ""

    @property
    def status(self) -> str:
        """The status of the latest rollout."""
        return self.service.rollouts[0].status

    def update(self, deployment: str, definition: str, **changes: Any) -> None:
        """UpdateService with another task definition."""
        self.service = updated(self.service, changes, definition, True, deployment, self.now)
        self._note()

    def counts(self) -> dict[str, int]:
        """How many tasks run, by deployment."""
        alive = [m.deployment for m in self.members if m.state == "running"]
        return {one: alive.count(one) for one in sorted(set(alive))}

    def look(self) -> bool:
        """One decision, carried out; whether it changed anything."""
        self._answer()
        first = self.service.deployments[0]
        decide = shifting.decide if stages.goes_by_stages(first) else rollout.decide
        plan = decide(self.service, self.members, self.now, RULES, self.alarms)
        stopped = {stop.task for stop in plan.stops}
        self.members = [replace(m, state="stopped") if m.id in stopped else m for m in self.members]
        for deployment, count in ((plan.deployment, plan.starts), *plan.others):
            self.members += [self._start(deployment) for _ in range(count)]
        new = recorded(replace(self.service, deployments=plan.deployments, steady=plan.steady), self.now)
        changed = new != self.service or bool(stopped) or plan.starts > 0 or bool(plan.others)
        self.service = new
        self._note()
        if not changed and plan.wake_at is not None and plan.wake_at > self.now:
            self.now = plan.wake_at
            return True
        return changed

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Look until this is so, or nothing changes any more."""
        for _ in range(500):
            if until() or not self.look():
                return
        raise AssertionError("it does not come to rest")

    def _start(self, deployment: str) -> Member:
        self._started += 1
        made = Member(f"t{self._started}", deployment, self.now, state="running", started_at=self.now)
        return replace(made, healthy=self.healthy(made))

    def _answer(self) -> None:
        primary = self.service.deployments[0]
        if primary.stage is None:
            return
        runs = [
            replace(run, status=answer)
            if run.status in ("IN_PROGRESS", "AWAITING_ACTION") and (answer := self.decide_hook(run)) is not None
            else run
            for run in primary.stage.hooks
        ]
        primary = replace(primary, stage=replace(primary.stage, hooks=runs))
        self.service = replace(self.service, deployments=[primary, *self.service.deployments[1:]])

    def _note(self) -> None:
        by_age = sorted(self.service.deployments, key=lambda d: d.id)
        now = (self.stage, tuple(-1.0 if d.weight is None else d.weight for d in by_age))
        if not self.seen or self.seen[-1] != now:
            self.seen.append(now)
