"""What is done next about a service: a pure look at what is wanted and what is.

A revision is one workload of the scheduler; its tasks are the instances. New instances enter the balance when they
are healthy; a revision takes over when as many of its instances are healthy as there were before; those that go are
drained first, and stopped when nothing is in flight on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from contracts.records.app_runner_gateway import AppService
from services.app_runner_gateway.decisions.life import operation
from services.app_runner_gateway.decisions.scaling import Bounds

READY, DRAIN = "ready", "drain"
FAILURES_TOLERATED = 2
_HOPELESS = ("refused by the scan gate",)


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """A task of one of the service's workloads. state: starting | ready (it runs and is healthy) | unhealthy | stopping
    | gone.

    `balance` is how the proxy has it: None, ready or drain, since `drained_since`; `in_flight` the requests on it.
    """

    task: str
    revision: int
    state: str
    created_at: float = 0.0
    balance: str | None = None
    in_flight: int = 0
    drained_since: float | None = None


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """A workload as the scheduler has it. `failures`: tasks that ended by themselves, with the last one's reason."""

    revision: int
    active: bool
    desired: int
    failures: int = 0
    reason: str = ""


class Put(msgspec.Struct, frozen=True):
    """Want a revision's workload to have this many instances."""

    revision: int
    count: int
    stop_first: tuple[str, ...] = ()


class Plan(msgspec.Struct, frozen=True):
    """The next step. `balance` is everything that is to be in the proxy; `answers`: whether the URL leads there at all.

    outcome: None | "succeeded" | "failed" of the operation in progress, written down after everything else was done.
    """

    balance: Mapping[str, str]
    answers: bool
    puts: tuple[Put, ...] = ()
    deletes: tuple[int, ...] = ()
    outcome: str | None = None
    reason: str = ""
    wake_at: float | None = None


def decide(
    service: AppService,
    bounds: Bounds,
    wanted: int,
    workloads: Sequence[Workload],
    instances: Sequence[Instance],
    now: float,
    *,
    deploy_s: float,
    drain_s: float,
) -> Plan:
    """The next step of a service that `wanted` instances suffice for."""
    return _Look(service, bounds, wanted, {w.revision: w for w in workloads}, instances, now, deploy_s, drain_s).plan()


class _Look:
    def __init__(
        self,
        service: AppService,
        bounds: Bounds,
        wanted: int,
        workloads: dict[int, Workload],
        instances: Sequence[Instance],
        now: float,
        deploy_s: float,
        drain_s: float,
    ) -> None:
        self.service, self.now, self.deploy_s, self.drain_s = service, now, deploy_s, drain_s
        self.wanted = max(bounds.low, min(bounds.high, wanted))
        self.high = bounds.high
        self.workloads = workloads
        self.desired = {w.revision: w.desired for w in workloads.values() if w.active}
        self.instances = instances
        self.operation = operation(service)
        self.balance: dict[str, str] = {}
        self.wakes: list[float] = []

    def of(self, revision: int) -> list[Instance]:
        """A revision's instances that are not gone."""
        return [i for i in self.instances if i.revision == revision and i.state != "gone"]

    def plan(self) -> Plan:
        kind = self.operation.type if self.operation else ""
        if kind == "DELETE_SERVICE" or self.service.status in ("DELETED", "CREATE_FAILED"):
            return self._remove_all(kind)
        if kind == "PAUSE_SERVICE" or self.service.status == "PAUSED":
            return self._pause(kind)
        return self._serve(kind)

    def _remove_all(self, kind: str) -> Plan:
        deletes = self._retire(set())
        over = not any(w.active for w in self.workloads.values()) and not any(i.state != "gone" for i in self.instances)
        outcome = "succeeded" if kind == "DELETE_SERVICE" and over else None
        return self._made(False, deletes=deletes, outcome=outcome)

    def _pause(self, kind: str) -> Plan:
        """Let what is in flight end, then want no instances; the workload stays, for the time after."""
        active = self.service.active
        deletes = self._retire({active})
        left = self._drain(self.of(active))
        drained = tuple(sorted(i.task for i in self.of(active) if i.task not in self.balance))
        puts = self._put(active, len(left), drained)
        over = not left and not self.of(active)
        return self._made(False, puts, deletes, "succeeded" if kind == "PAUSE_SERVICE" and over else None)

    def _serve(self, kind: str) -> Plan:
        service = self.service
        candidate, active = service.candidate, service.active
        serving, puts, outcome, reason = active, (), None, ""
        if candidate:
            need = min(self.wanted, max(1, sum(i.balance == READY for i in self.of(active))))
            if sum(i.state == "ready" for i in self.of(candidate)) >= max(need, 1):
                serving, outcome = candidate, "succeeded"
            else:
                outcome, reason = self._judge(candidate, service.operations[0].started_at)
                if outcome is None:
                    puts += self._put(candidate, self.wanted)
        elif kind == "RESUME_SERVICE" or kind == "UPDATE_SERVICE":
            if any(i.state == "ready" for i in self.of(active)):
                outcome = "succeeded"
            else:
                outcome, reason = self._judge(active, service.operations[0].started_at)
        if serving and not (outcome == "failed" and kind == "RESUME_SERVICE"):
            puts += self._keep(serving)
        keep = {active, candidate} if outcome is None else {serving}
        deletes = self._retire(keep)
        return self._made(bool(serving) and bool(self.balance), puts, deletes, outcome, reason)

    def _judge(self, revision: int, since: float) -> tuple[str | None, str]:
        """Whether a revision that is not healthy yet is to be given up."""
        workload = self.workloads.get(revision)
        if workload is not None and workload.failures:
            hopeless = any(words in workload.reason for words in _HOPELESS)
            if hopeless or workload.failures > FAILURES_TOLERATED:
                return "failed", f"Instances of the new version stopped: {workload.reason or 'no reason given'}"
        ends = since + self.deploy_s
        if self.now >= ends:
            return "failed", f"The new version was not healthy within {self.deploy_s:g} seconds."
        self.wakes.append(ends)
        return None, ""

    def _keep(self, revision: int) -> tuple[Put, ...]:
        """Keep as many instances in the balance as are wanted; those beyond go, the least busy first."""
        alive = self.of(revision)
        ready = sorted(
            (i for i in alive if i.state == "ready"),
            key=lambda i: (i.balance != DRAIN, i.balance == READY, i.in_flight, -i.created_at, i.task),
            reverse=True,
        )
        for instance in ready[: self.wanted]:
            self.balance[instance.task] = READY
        surplus, sick = ready[self.wanted :], [i for i in alive if i.state == "unhealthy"]
        going = set(self._drain([*surplus, *(i for i in alive if i.state == "stopping")]))
        if not ready:
            self._hold(revision)
            return self._put(revision, self.wanted + len(sick))
        going |= set(self._drain(sick))
        left = sum(i.task in going for i in surplus)
        if len(ready) < self.wanted:  # those that are ill are replaced: others first, then they go
            return self._put(revision, self.wanted + len(sick))
        first = tuple(sorted(i.task for i in (*surplus, *sick) if i.task not in going))
        return self._put(revision, self.wanted + left, first)

    def _hold(self, revision: int) -> None:
        """With no healthy instance left the last ones stay in the balance: the proxy tries them again, and holds
        requests meanwhile, until there is another."""
        for instance in self.instances:
            if instance.balance == READY and instance.revision in (revision, self.service.active):
                self.balance[instance.task] = READY

    def _drain(self, instances: Sequence[Instance]) -> list[str]:
        """Take these out of the balance, gently; those that still have requests."""
        left = []
        for instance in instances:
            if instance.balance is None:
                continue
            since = instance.drained_since if instance.drained_since is not None else self.now
            over = instance.balance == DRAIN and (instance.in_flight == 0 or self.now - since >= self.drain_s)
            if over:
                continue
            self.balance[instance.task] = DRAIN
            left.append(instance.task)
            self.wakes.append(max(since + self.drain_s, self.now))
        return left

    def _retire(self, kept: set[int]) -> tuple[int, ...]:
        """The workloads that are to be deleted: those of no revision in use, with nothing in flight."""
        deletes = []
        numbers = {w.revision for w in self.workloads.values() if w.active} | {i.revision for i in self.instances}
        for number in sorted(numbers - kept):
            left = self._drain([i for i in self.of(number) if i.task not in self.balance])
            workload = self.workloads.get(number)
            if not left and workload is not None and workload.active:
                deletes.append(number)
        return tuple(deletes)

    def _put(self, revision: int, count: int, stop_first: tuple[str, ...] = ()) -> tuple[Put, ...]:
        """Want this many, as far as there is room: all workloads together never have more than twice the most that the
        service may have. For want of room nothing is taken away."""
        there = self.desired.get(revision)
        room = 2 * self.high - sum(n for other, n in self.desired.items() if other != revision)
        count = max(min(count, room), min(count, there or 0))
        if there == count or (there is None and count == 0):
            return ()
        self.desired[revision] = count
        return (Put(revision, count, stop_first),)

    def _made(
        self,
        answers: bool,
        puts: tuple[Put, ...] = (),
        deletes: tuple[int, ...] = (),
        outcome: str | None = None,
        reason: str = "",
    ) -> Plan:
        later = [at for at in self.wakes if at > self.now]
        return Plan(self.balance, answers, puts, deletes, outcome, reason, min(later, default=None))
