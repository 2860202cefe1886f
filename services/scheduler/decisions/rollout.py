"""What a service's controller does next: which tasks it stops, how many it starts, what the service has become.

`decide` takes the service, its tasks and the time, and returns a `Plan`, with the time to look again if waiting for
the clock is part of it. It never stops so many that healthy tasks fall below minimumHealthyPercent (rounded up) of the
desired count, and never starts so many that there are more than maximumPercent (rounded down).
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-type-ecs.html
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from contracts.records.scheduler import Deployment, DeploymentStage, Service, TaskSet
from services.scheduler.decisions import backoff, messages, rollback
from services.scheduler.decisions.backoff import BackoffRules, Member
from services.scheduler.decisions.life import UNHEALTHY_REASON


class Stop(msgspec.Struct, frozen=True):
    """A task to stop, and what to say of it."""

    task: str
    reason: str


class Plan(msgspec.Struct, frozen=True):
    """What to do, in this order: the stops, the starts (of `deployment`), then one write of the service.

    `deployments`, `steady` and `status` are what the service is to be; `messages` its new events, oldest first.
    `wake_at` is when to decide again even if nothing happens, in seconds since the epoch. A DAEMON service starts its
    tasks on `nodes`, and wants `desired` of them. Where several deployments are kept up side by side, `others` are the
    starts (deployment, count) of those that `starts` is not about. `task_sets` are those that there are to be.
    """

    deployments: list[Deployment]
    status: str
    steady: bool
    stops: tuple[Stop, ...] = ()
    starts: int = 0
    deployment: str = ""
    messages: tuple[str, ...] = ()
    wake_at: float | None = None
    nodes: tuple[str, ...] = ()
    desired: int | None = None
    others: tuple[tuple[str, int], ...] = ()
    task_sets: list[TaskSet] | None = None


def bounds(desired: int, minimum_percent: int, maximum_percent: int) -> tuple[int, int]:
    """How many tasks must stay healthy, and how many there may be (ECS rounds the one up, the other down)."""
    return math.ceil(desired * minimum_percent / 100), desired * maximum_percent // 100


def limits_of(service: Service) -> tuple[int, int]:
    """`bounds` of a service."""
    configuration = service.request.get("deploymentConfiguration", {})
    return bounds(
        service.desired_count,
        configuration.get("minimumHealthyPercent", 100),
        configuration.get("maximumPercent", 200),
    )


def decide(
    service: Service,
    members: Sequence[Member],
    now: float,
    rules: BackoffRules,
    alarms: tuple[str, ...] = (),
    watch_s: float = 0.0,
) -> Plan:
    """The next step of a REPLICA service whose tasks are replaced some at a time. `alarms` went off since its
    deployment began; they are watched for `watch_s` seconds at least when the last task is replaced."""
    if service.status != "ACTIVE":
        return drain(service, members)
    primary = service.deployments[0]
    alive = [m for m in members if m.state in ("pending", "running")]
    sick, heal_at = sick_of(service, alive, now)
    stops = [Stop(m.id, m.illness or UNHEALTHY_REASON) for m in sick]
    alive = [m for m in alive if m not in sick]
    history = backoff.history([m for m in members if m.deployment == primary.id], now, rules)

    told = _sick_messages(service, sick)
    why = rollback.failure(service, history, alarms, now)
    if why is not None:
        deployments, said = rollback.given_up(service, why, now)
        return Plan(deployments, "ACTIVE", False, tuple(stops), messages=(*told, *said))

    minimum, maximum = limits_of(service)
    new, proven_at = [m for m in alive if _stays(m, primary)], None
    if primary.rollout_state == "IN_PROGRESS" and rollback.breaker(service).get("enable"):
        # A task that runs and dies a moment later must break the circuit, not complete the deployment.
        new, proven_at = backoff.proven(new, now, rules)
    old = [m for m in alive if not _stays(m, primary)]
    surplus = scale_in(service, primary.id, new, service.desired_count, now, others=old, minimum=minimum)
    surplus += _make_way(service, new, old, (minimum, maximum), now)
    gone = {stop.task for stop in surplus}
    left = len(alive) - len(gone)
    wanted = service.desired_count - len([m for m in new if m.id not in gone])
    starts = max(0, min(wanted, maximum - left))
    not_before = backoff.not_before(history, service.desired_count, rules)
    waiting = starts > 0 and now < not_before
    if waiting or primary.rollout_state == "FAILED":
        starts = 0
    elif wanted > 0 and starts == 0 and not surplus and not stops and all(m.healthy for m in alive):
        told += once(service, messages.stuck(service.name))
    if backoff.rounds(history, service.desired_count) >= rules.told_after:
        told += once(service, messages.inconsistent(service.name))
    plan = _progress(service, [m for m in (*new, *old) if m.id not in gone], now, watch_s)
    plan = replace(plan, deployments=_without_superseded(plan.deployments, members))
    return replace(
        plan,
        stops=(*stops, *surplus),
        starts=starts,
        deployment=primary.id,
        messages=(*told, *plan.messages),
        wake_at=earliest(
            plan.wake_at,
            not_before if waiting else None,
            heal_at,
            proven_at,
            history.settles_at,
            unprotected_at(alive, now),
        ),
    )


def _stays(member: Member, primary: Deployment) -> bool:
    """Whether it is what is wanted. A task whose node is drained is replaced as one of an older deployment is."""
    return member.deployment == primary.id and not member.leaving


def protected(member: Member, now: float) -> bool:
    """Whether it is not to be stopped.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-scale-in-protection.html
    """
    return member.protected_until is not None and member.protected_until > now


def unprotected_at(alive: Sequence[Member], now: float) -> float | None:
    """When the next of them may be stopped that must not be now; None when there is none."""
    return min((m.protected_until for m in alive if m.protected_until and protected(m, now)), default=None)


def drain(service: Service, members: Sequence[Member]) -> Plan:
    """The next step of a service that is to go: all its tasks stop, then it is INACTIVE."""
    stops = tuple(
        Stop(m.id, messages.scaling(service.deployments[0].id if service.deployments else ""))
        for m in members
        if m.state in ("pending", "running")
    )
    over = all(m.state == "stopped" for m in members)
    status = "INACTIVE" if over or service.status == "INACTIVE" else "DRAINING"
    deployments = [] if status == "INACTIVE" else service.deployments
    return Plan(deployments, status, service.steady, stops)


def sick_of(service: Service, alive: Sequence[Member], now: float) -> tuple[list[Member], float | None]:
    """The tasks that failed their health check and are out of the grace period; when the next one will be."""
    grace = service.request.get("healthCheckGracePeriodSeconds") or 0
    sick, later = [], []
    for member in alive:
        if member.unhealthy:
            ends = (member.started_at or member.created_at) + grace
            if ends <= now:
                sick.append(member)
            else:
                later.append(ends)
    return sick, min(later, default=None)


def _sick_messages(service: Service, sick: list[Member]) -> list[str]:
    return [messages.unhealthy(service.name, m.id) for m in sick]


def scale_in(
    service: Service,
    deployment: str,
    own: Sequence[Member],
    count: int,
    now: float,
    *,
    others: Sequence[Member] = (),
    minimum: int = 0,
) -> list[Stop]:
    """Stops of a deployment's own surplus over `count`: those that were named first, then those that are not up, then
    where the zone has most, then the newest. Where zones are to be balanced the fullest comes first, and waits until
    others are up, so that `minimum` stay healthy."""
    extra = len(own) - count
    if extra <= 0:
        return []
    balanced = rebalances(service)
    zones = Counter(m.zone for m in [*own, *others])
    named = set(service.request.get("stopFirst") or ())
    healthy = sum(m.healthy for m in [*own, *others])
    left = [m for m in own if not protected(m, now)]
    stops: list[Stop] = []

    def rank(m: Member) -> tuple[Any, ...]:
        place = (zones[m.zone], not m.healthy) if balanced else (not m.healthy, zones[m.zone])
        return (m.id in named, *place, m.created_at, m.id)

    for _ in range(min(extra, len(left))):
        chosen = max(left, key=rank)
        if balanced and chosen.id not in named and chosen.healthy and healthy <= minimum:
            break
        healthy -= chosen.healthy
        left.remove(chosen)
        zones[chosen.zone] -= 1
        stops.append(Stop(chosen.id, messages.scaling(deployment)))
    return stops


def rebalances(service: Service) -> bool:
    """Whether the service's zones are to be kept balanced."""
    return service.request.get("availabilityZoneRebalancing") == "ENABLED"


def unbalanced(service: Service, members: Sequence[Member], zone: str) -> bool:
    """Whether one task more in this zone, and then one less in the fullest, would even the zones out.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-rebalancing.html
    """
    alive = [m for m in members if m.state in ("pending", "running")]
    if len(alive) != service.desired_count or len(alive) >= limits_of(service)[1]:
        return False
    zones = Counter(m.zone for m in alive)
    return bool(zones) and max(zones.values()) - zones[zone] >= 2


def _make_way(
    service: Service, new: list[Member], old: list[Member], limits: tuple[int, int], now: float
) -> list[Stop]:
    """Stops of older deployments: what healthy new tasks have made superfluous, and what room the new ones need. Those
    that get no traffic (of a shift that was overtaken) go first, and keep nothing healthy."""
    minimum, maximum = limits
    healthy_new = min(sum(m.healthy for m in new), service.desired_count)
    superfluous = healthy_new + len(old) - service.desired_count
    held_back = service.deployments[0].rollout_state == "FAILED"
    wanted = 0 if held_back else max(0, service.desired_count - len(new))
    room = maximum - len(new) - len(old)
    count = min(len(old), max(superfluous, min(wanted, wanted - room)))
    idle = {d.id for d in service.deployments if d.weight == 0.0}
    healthy_old = sum(m.healthy and m.deployment not in idle for m in old)
    spare = max(0, healthy_new + healthy_old - minimum)
    stops: list[Stop] = []
    for member in sorted(old, key=lambda m: (m.deployment not in idle, m.healthy, -m.created_at, m.id)):
        if len(stops) >= count:
            break
        if protected(member, now):
            continue
        if member.healthy and member.deployment not in idle:
            if spare <= 0:
                continue
            spare -= 1
        stops.append(Stop(member.id, messages.scaling(member.deployment)))
    return stops


def _progress(service: Service, alive: list[Member], now: float, watch_s: float) -> Plan:
    """Whether the rollout is complete and the service steady."""
    primary = service.deployments[0]
    new = [m for m in alive if _stays(m, primary)]
    reached = len(new) == len(alive) == service.desired_count and all(m.healthy for m in new)
    if not reached and not _enough(service, primary, new, alive):
        return Plan(service.deployments, "ACTIVE", False)
    told: list[str] = []
    deployments = service.deployments
    if primary.rollout_state == "IN_PROGRESS" and (watch := bake_s(service, watch_s)):
        since = primary.stage.since if primary.stage is not None else now
        if now < since + watch:
            baking = replace(primary, stage=DeploymentStage(name="BAKE_TIME", since=since, strategy="ROLLING"))
            return Plan([baking, *deployments[1:]], "ACTIVE", False, wake_at=since + watch)
    if primary.rollout_state == "IN_PROGRESS":
        reason = f"ECS deployment {primary.id} completed."
        done = replace(primary, rollout_state="COMPLETED", rollout_state_reason=reason, updated_at=now, stage=None)
        deployments = [done, *([] if reached else deployments[1:])]
        told.append(messages.completed(service.name, primary.id))
    elif reached and len(deployments) > 1:
        deployments = [primary]
    if reached and not service.steady:
        told.append(messages.steady(service.name))
    return Plan(deployments, "ACTIVE", reached, messages=tuple(told))


def _enough(service: Service, primary: Deployment, new: list[Member], alive: list[Member]) -> bool:
    """Whether a deployment in progress has what its early success takes: a percentage of healthy tasks (rounded up),
    and with BLOCKING none of the old ones any more. The rest comes afterwards."""
    early = rollback.configuration_of(service).get("earlySuccessCriteria") or {}
    if not early.get("enable") or primary.rollout_state != "IN_PROGRESS":
        return False
    if early["sourceServiceRevisionCleanup"] == "BLOCKING" and len(new) != len(alive):
        return False
    return sum(m.healthy for m in new) >= math.ceil(service.desired_count * early["healthyPercent"] / 100)


def bake_s(service: Service, watch_s: float) -> float:
    """How long alarms are watched after all tasks of a deployment are up and the old ones gone, in seconds: its
    bake time, and at least `watch_s`. What comes back from one that has failed is not watched."""
    if not rollback.watched(service) or any(d.rollout_state == "FAILED" for d in service.deployments[1:]):
        return 0.0
    return max(watch_s, 60.0 * (rollback.configuration_of(service).get("bakeTimeInMinutes") or 0))


def _without_superseded(deployments: list[Deployment], members: Sequence[Member]) -> list[Deployment]:
    """The deployments without those that were overtaken before they were complete and have no tasks any more. The
    latest is kept to be seen if it failed, a complete one to be rolled back to, until the primary is complete."""
    used = {m.deployment for m in members if m.state != "stopped"}
    kept = [d for d in deployments[1:] if d.id in used or d.rollout_state == "COMPLETED"]
    failed = [d for d in deployments[1:2] if d.rollout_state == "FAILED" and d not in kept]
    return [*deployments[:1], *failed, *kept]


def once(service: Service, message: str) -> list[str]:
    """The message, unless it is among the latest that were told."""
    return [] if any(event.message == message for event in service.events[:5]) else [message]


def earliest(*times: float | None) -> float | None:
    """The earliest of the times that there are."""
    return min((t for t in times if t is not None), default=None)
