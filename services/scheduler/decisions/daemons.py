"""What the controller of a DAEMON service does next: one task on each node that suits, as nodes come and go.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_services.html#service_scheduler_daemon
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec.structs import replace

from contracts.records.scheduler import Service
from services.scheduler.decisions import backoff, messages
from services.scheduler.decisions.backoff import BackoffRules, Member
from services.scheduler.decisions.life import UNHEALTHY_REASON
from services.scheduler.decisions.rollout import Plan, Stop, bounds, drain, protected


def decide(
    service: Service, members: Sequence[Member], nodes: Collection[str], now: float, rules: BackoffRules
) -> Plan:
    """The next step. `nodes` are those that are to have a task, whether they have the room or not."""
    if service.status != "ACTIVE":
        return drain(service, members)
    primary = service.deployments[0]
    alive = [m for m in members if m.state in ("pending", "running")]
    sick, heal_at = _sick(service, alive, now)
    superfluous = _superfluous(primary.id, alive, set(nodes))
    outdated = [m for m in alive if m.deployment != primary.id and m not in superfluous and m not in sick]
    stops = [Stop(m.id, UNHEALTHY_REASON) for m in sick]
    stops += [Stop(m.id, messages.scaling(m.deployment)) for m in superfluous if m not in sick]
    stops += _make_way(service, alive, outdated, len(nodes), now)
    history = backoff.history([m for m in members if m.deployment == primary.id], now, rules)
    not_before = backoff.not_before(history, len(nodes), rules)
    # A node is free when nothing of the service is there any more, not even a task that is just stopping.
    taken = {m.node for m in members if m.state != "stopped"}
    free = sorted(set(nodes) - taken)
    waiting = bool(free) and now < not_before
    done = len(alive) == len(nodes) and not stops and all(m.healthy and m.deployment == primary.id for m in alive)
    told = [messages.unhealthy(service.name, m.id) for m in sick]
    deployments = service.deployments
    if done and primary.rollout_state == "IN_PROGRESS":
        reason = f"ECS deployment {primary.id} completed."
        deployments = [replace(primary, rollout_state="COMPLETED", rollout_state_reason=reason, updated_at=now)]
        told.append(messages.completed(service.name, primary.id))
    if done and not service.steady:
        told.append(messages.steady(service.name))
    wakes = [at for at in (not_before if waiting else None, heal_at, history.settles_at) if at is not None]
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


def _make_way(
    service: Service, alive: Sequence[Member], outdated: Sequence[Member], desired: int, now: float
) -> list[Stop]:
    """Stops of older deployments, as many as minimumHealthyPercent allows: a node has only one task at a time."""
    configuration = service.request.get("deploymentConfiguration", {})
    minimum, _ = bounds(desired, configuration.get("minimumHealthyPercent", 0), 100)
    spare = sum(m.healthy for m in alive) - minimum
    stops = []
    for member in sorted(outdated, key=lambda m: (m.healthy, m.created_at)):
        if protected(member, now) or (member.healthy and spare <= 0):
            continue
        spare -= member.healthy
        stops.append(Stop(member.id, messages.scaling(member.deployment)))
    return stops
