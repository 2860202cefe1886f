"""What the controller of a DAEMON service does next: one task on each node that suits, as nodes come and go.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_services.html#service_scheduler_daemon
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec.structs import replace

from contracts.records.scheduler import Service
from services.scheduler.decisions import backoff, messages, rollback
from services.scheduler.decisions.backoff import BackoffRules, Member
from services.scheduler.decisions.life import UNHEALTHY_REASON
from services.scheduler.decisions.rollout import Plan, Stop, bake_s, bounds, drain, once, protected


def decide(
    service: Service,
    members: Sequence[Member],
    nodes: Collection[str],
    now: float,
    rules: BackoffRules,
    alarms: tuple[str, ...] = (),
    watch_s: float = 0.0,
) -> Plan:
    """The next step. `nodes` are those that are to have a task, whether they have the room or not; `alarms` went off
    since its deployment began; they are watched for `watch_s` seconds at least after a step."""
    if service.status != "ACTIVE":
        return drain(service, members)
    primary = service.deployments[0]
    alive = [m for m in members if m.state in ("pending", "running")]
    sick, heal_at = _sick(service, alive, now)
    alive, proven_at = _proven(service, alive, now, rules)
    superfluous = _superfluous(primary.id, alive, set(nodes))
    outdated = [m for m in alive if m.deployment != primary.id and m not in superfluous and m not in sick]
    stops = [Stop(m.id, UNHEALTHY_REASON) for m in sick]
    stops += [Stop(m.id, messages.scaling(m.deployment)) for m in superfluous if m not in sick]
    baked_at = _baked_at(service, alive, now, watch_s)
    if baked_at is None:
        stops += _make_way(service, alive, outdated, len(nodes), now)
    history = backoff.history([m for m in members if m.deployment == primary.id], now, rules)
    why = rollback.failure(service, history, alarms, now)
    if why is not None:
        deployments, said = rollback.given_up(service, why, now)
        sick_ones = tuple(Stop(m.id, UNHEALTHY_REASON) for m in sick)
        return Plan(deployments, "ACTIVE", False, sick_ones, messages=tuple(said), desired=len(nodes))
    not_before = backoff.not_before(history, len(nodes), rules)
    # A node is free when nothing of the service is there any more, not even a task that is just stopping.
    taken = {m.node for m in members if m.state != "stopped"}
    free = [] if primary.rollout_state == "FAILED" else sorted(set(nodes) - taken)
    waiting = bool(free) and now < not_before
    done = len(alive) == len(nodes) and not stops and all(m.healthy and m.deployment == primary.id for m in alive)
    done = done and baked_at is None
    told = [messages.unhealthy(service.name, m.id) for m in sick]
    if backoff.rounds(history, len(nodes)) >= rules.told_after:
        told += once(service, messages.inconsistent(service.name))
    deployments = service.deployments
    if done and primary.rollout_state == "IN_PROGRESS":
        reason = f"ECS deployment {primary.id} completed."
        done_with = replace(primary, rollout_state="COMPLETED", rollout_state_reason=reason, updated_at=now, stage=None)
        deployments = [done_with]
        told.append(messages.completed(service.name, primary.id))
    if done and not service.steady:
        told.append(messages.steady(service.name))
    times = (not_before if waiting else None, heal_at, proven_at, history.settles_at, baked_at)
    wakes = [at for at in times if at is not None]
    return Plan(
        deployments=deployments,
        status="ACTIVE",
        steady=done,
        stops=tuple(stops),
        deployment=primary.id,
        messages=tuple(told),
        wake_at=min(wakes, default=None),
        nodes=() if waiting else tuple(free),
        desired=len(nodes),
    )


def _baked_at(service: Service, alive: Sequence[Member], now: float, watch_s: float) -> float | None:
    """Until when what was started last is watched before the next tasks are replaced, and before the deployment is
    complete; None when it is not. What comes back from a deployment that has failed is not watched."""
    primary, *others = service.deployments
    seconds = bake_s(service, watch_s)
    if "drainPercent" in service.request:  # a daemon's bake time passes without alarms, too
        seconds = max(seconds, 60.0 * (rollback.configuration_of(service).get("bakeTimeInMinutes") or 0))
    started = [m.started_at for m in alive if m.deployment == primary.id and m.started_at is not None]
    over = primary.rollout_state != "IN_PROGRESS" or any(d.rollout_state == "FAILED" for d in others)
    until = max(started, default=now - seconds) + seconds
    return None if over or until <= now else until


def _proven(
    service: Service, alive: Sequence[Member], now: float, rules: BackoffRules
) -> tuple[list[Member], float | None]:
    """With the circuit breaker on, a new task that has not lasted yet does not count as healthy; when it will."""
    primary = service.deployments[0]
    if primary.rollout_state != "IN_PROGRESS" or not rollback.breaker(service).get("enable"):
        return list(alive), None
    new, at = backoff.proven([m for m in alive if m.deployment == primary.id], now, rules)
    return [*new, *(m for m in alive if m.deployment != primary.id)], at


def _sick(service: Service, alive: Sequence[Member], now: float) -> tuple[list[Member], float | None]:
    grace = service.request.get("healthCheckGracePeriodSeconds") or 0
    unhealthy = [(m, (m.started_at or m.created_at) + grace) for m in alive if m.unhealthy]
    later = [ends for _, ends in unhealthy if ends > now]
    return [m for m, ends in unhealthy if ends <= now], min(later, default=None)


def _superfluous(primary: str, alive: Sequence[Member], nodes: set[str]) -> list[Member]:
    """Tasks on nodes that are not to have one, and the second ones of a node: of two, the newer deployment's stays."""
    found, seen = [], set()
    for member in sorted(alive, key=lambda m: (m.deployment != primary, not m.healthy, m.created_at)):
        if member.node not in nodes or member.node in seen:
            found.append(member)
        seen.add(member.node)
    return found


def _least(service: Service, desired: int) -> int:
    """How many tasks must stay healthy. A daemon says how many percent of the nodes may be without; one always may."""
    drained = service.request.get("drainPercent")
    if drained is not None:
        return desired - max(1, int(desired * drained / 100))
    configuration = service.request.get("deploymentConfiguration", {})
    return bounds(desired, configuration.get("minimumHealthyPercent", 0), 100)[0]


def _make_way(
    service: Service, alive: Sequence[Member], outdated: Sequence[Member], desired: int, now: float
) -> list[Stop]:
    """Stops of older deployments, as many as minimumHealthyPercent allows: a node has only one task at a time."""
    spare = sum(m.healthy for m in alive) - _least(service, desired)
    stops = []
    for member in sorted(outdated, key=lambda m: (m.healthy, m.created_at)):
        if protected(member, now) or (member.healthy and spare <= 0):
            continue
        spare -= member.healthy
        stops.append(Stop(member.id, messages.scaling(member.deployment)))
    return stops
