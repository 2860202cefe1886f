"""Which tasks of an Express service, or of one behind a gateway of ECS, get requests, and how many; what the scheduler
and the agents are told of them.

The scheduler starts and stops the tasks; here is only decided who is in the balance. A task that is to stop leaves it
first, and its agent waits until nothing is in flight on it. While no other task is ready, the last ones stay: the
proxy tries them again, and holds requests meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from contracts.records.agent import TaskStatus
from contracts.records.scheduler import ExpressRevision, Service, Task
from services.app_runner_gateway.decisions.health import Check
from services.app_runner_gateway.decisions.instances import GONE, RUNNING, STARTING, STOPPING, stage
from services.app_runner_gateway.decisions.plan import DRAIN, READY
from services.app_runner_gateway.decisions.proxy import MOST_WEIGHT

HEALTHY, UNHEALTHY, DRAINED = "healthy", "unhealthy", "drained"


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """A task of the service. stage: starting | ready | unhealthy | stopping | gone.

    `balance` is how the proxy has it: None, ready or drain. `idle`: it was looked at after it was to be drained, and
    nothing was in flight. `stops_at` (seconds since the epoch): when its agent stops it, drained or not.
    """

    task: str
    deployment: str
    stage: str
    balance: str | None = None
    idle: bool = False
    stops_at: float | None = None


class Placed(msgspec.Struct, frozen=True):
    """How a task is to be in the proxy. state: ready | drain."""

    state: str
    weight: int = 1


class ExpressPlan(msgspec.Struct, frozen=True):
    """The next step. `answers`: whether the URL leads anywhere. `weighted`: requests go by weights, not by least in
    flight. `targets`: what is to be written down of tasks (None: nothing any more) once the proxy has `balance`."""

    balance: Mapping[str, Placed]
    answers: bool
    weighted: bool
    targets: Mapping[str, str | None]
    wake_at: float | None = None


def check_of(revision: ExpressRevision) -> Check:
    """How tasks of a deployment are checked."""
    return Check(
        protocol=revision.check_protocol,
        path=revision.health_check_path,
        interval=revision.interval_s,
        timeout=revision.timeout_s,
        healthy=revision.healthy,
        unhealthy=revision.unhealthy,
        codes=_codes(revision),
    )


def _codes(revision: ExpressRevision) -> tuple[tuple[int, int], ...]:
    return ((revision.good_from, revision.good_to), *((low, high) for low, high in revision.also_good))


def why_ill(revision: ExpressRevision) -> str:
    """What a task of a deployment does not do that is taken for ill."""
    wanted = ", ".join(str(low) if low == high else f"{low} to {high}" for low, high in _codes(revision))
    port = revision.check_port or revision.port
    over = " over HTTPS" if revision.check_protocol == "HTTPS" else ""
    return f"GET {revision.health_check_path} on port {port}{over} is not answered with {wanted}"


def patience(service: Service, revision: ExpressRevision, start_s: float) -> float:
    """Seconds that a task has to become healthy: `start_s`, or the service's grace period if that is longer, and the
    time that the checks beyond the first one take."""
    grace = service.request.get("healthCheckGracePeriodSeconds") or 0
    return max(start_s, float(grace)) + (revision.healthy - 1) * revision.interval_s


def stage_of(task: Task, status: TaskStatus | None, health: str, start_s: float, now: float) -> str:
    """A Replica's stage. `health` is what its checks say: STARTING | HEALTHY | UNHEALTHY. One that has not been healthy
    `start_s` after it began to run is taken for ill."""
    found = stage(task, status)
    if found != RUNNING:
        return found
    if health == "STARTING":
        return UNHEALTHY if now >= gives_up_at(status, start_s) else STARTING
    return {"HEALTHY": READY, "UNHEALTHY": UNHEALTHY}[health]


def gives_up_at(status: TaskStatus | None, start_s: float) -> float:
    """Until when a task has time to become healthy."""
    started = status.started_at if status is not None else None
    return started + start_s if started is not None else float("inf")


def decide(service: Service, replicas: Sequence[Replica], now: float) -> ExpressPlan:
    """The next step of a service."""
    active = service.status == "ACTIVE"
    ready = [r.task for r in replicas if r.stage == READY]
    # A service that leaves its gateway has no successors for its last tasks.
    holds = active and service.desired_count > 0 and not ready and _stays(service)
    states = {task: READY for task in ready}
    for replica in replicas:
        state = _kept(replica, holds, now)
        if state is not None:
            states[replica.task] = state
    deployments = {r.task: r.deployment for r in replicas}
    shares = {d.id: d.weight for d in service.deployments}
    served = [deployments[task] for task, state in states.items() if state == READY]
    # Where there is just one to choose, its tasks are chosen by what is in flight on them.
    weighted = len(set(served)) > 1 and any(shares.get(one) is not None for one in served)
    given = weights(served, shares) if weighted else {}
    balance = {
        task: Placed(state, given.get(deployments[task], 1 if state == READY else 0) if weighted else 1)
        for task, state in states.items()
    }
    later = [r.stops_at for r in replicas if r.stage == STOPPING and r.stops_at is not None and r.stops_at > now]
    return ExpressPlan(balance, active, weighted, _targets(replicas, states), min(later, default=None))


def _stays(service: Service) -> bool:
    return service.connector is None or any(d.id in service.fronted for d in service.deployments[:1])


def _kept(replica: Replica, holds: bool, now: float) -> str | None:
    """How a task that is not ready stays in the balance."""
    if replica.balance is None or replica.stage == READY:
        return None
    late = replica.stage == STOPPING and replica.stops_at is not None and now >= replica.stops_at
    if replica.balance == READY and (replica.stage == STARTING or (holds and not late)):
        return READY
    if replica.stage == GONE or late or (replica.balance == DRAIN and replica.idle):
        return None
    return DRAIN


def _targets(replicas: Iterable[Replica], states: Mapping[str, str]) -> dict[str, str | None]:
    told: dict[str, str | None] = {}
    for replica in replicas:
        if replica.stage == READY:
            told[replica.task] = HEALTHY
        elif replica.stage == UNHEALTHY:
            told[replica.task] = UNHEALTHY
        elif replica.stage == STOPPING and replica.task not in states:
            told[replica.task] = DRAINED
        elif replica.stage == GONE:
            told[replica.task] = None
    return told


def weights(ready: Sequence[str], shares: Mapping[str, float | None]) -> dict[str, int]:
    """The proxy's weight for each task of a deployment, so that its tasks together get the deployment's share of the
    new requests. `ready`: the deployments of the tasks that are ready, one for each task. A deployment without a weight
    gets what the others leave. If nobody who is ready has a share, all are alike."""
    tasks = Counter(ready)
    left = max(0.0, 100.0 - sum(weight for weight in shares.values() if weight is not None))
    undirected = sum(count for deployment, count in tasks.items() if shares.get(deployment) is None)

    def each(deployment: str) -> float:
        weight = shares.get(deployment)
        return weight / tasks[deployment] if weight is not None else left / undirected

    wanted = {deployment: each(deployment) for deployment in tasks}
    most = max(wanted.values(), default=0.0)
    if most <= 0:
        return dict.fromkeys(tasks, 1)
    return {d: max(1, round(MOST_WEIGHT * share / most)) if share > 0 else 0 for d, share in wanted.items()}
