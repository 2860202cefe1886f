"""What the controller does next with a service whose deployment goes by stages: BLUE_GREEN, LINEAR, CANARY.

Blue (the latest complete deployment) and green (the new one) are each kept at the service's desired count; green gets
the traffic by stages, each of which is entered with one write. Whatever fails before blue is told to go brings the
traffic home with one write.
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/blue-green-deployment-how-it-works.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from contracts.records.scheduler import Deployment, DeploymentStage, Service
from services.scheduler.decisions import hooks, messages, rollback, stages
from services.scheduler.decisions.backoff import BackoffRules, Member
from services.scheduler.decisions.rollout import Plan, Stop, drain, earliest
from services.scheduler.decisions.upkeep import Kept, keep


class Step(NamedTuple):
    """What becomes of the deployments, what is told of it, and when to look again."""

    deployments: list[Deployment]
    told: list[str]
    wake_at: float | None = None


def decide(
    service: Service, members: Sequence[Member], now: float, rules: BackoffRules, alarms: tuple[str, ...] = ()
) -> Plan:
    """The next step. `alarms` went off since the deployment began."""
    if service.status != "ACTIVE":
        return drain(service, members)
    primary = service.deployments[0]
    proven = bool(rollback.breaker(service).get("enable"))
    kept = {
        d.id: keep(service, d.id, members, wanted_count(service, d), now, rules, proven=proven)
        for d in service.deployments
    }
    strays = [m for m in members if m.deployment not in kept and m.state in ("pending", "running")]
    step = _step(service, kept, bool(strays), now, alarms)
    stops = [stop for each in kept.values() for stop in each.stops]
    stops += [Stop(m.id, messages.scaling(m.deployment)) for m in strays]
    starts = {d.id: kept[d.id].starts for d in step.deployments if d.rollout_state != "FAILED" or d.weight}
    return Plan(
        deployments=step.deployments,
        status="ACTIVE",
        steady=False,
        stops=tuple(stops),
        starts=starts.get(primary.id, 0),
        deployment=primary.id,
        messages=(*(text for each in kept.values() for text in each.messages), *step.told),
        wake_at=earliest(step.wake_at, *(each.wake_at for each in kept.values())),
        others=tuple((one, count) for one, count in starts.items() if count and one != primary.id),
    )


def wanted_count(service: Service, deployment: Deployment) -> int | None:
    """How many tasks a deployment of such a service is to have now; None: as many as it has.

    Outside of such a deployment: all of them for the primary one, none for the others.
    """
    primary = service.deployments[0]
    stage, first = primary.stage, deployment.id == primary.id
    if not stages.goes_by_stages(primary) or stage is None:
        return service.desired_count if first else 0
    if primary.rollout_state == "FAILED":
        return service.desired_count if deployment.weight else None
    if first:
        before = not stage.rolls_back and stage.name in ("RECONCILE_SERVICE", "PRE_SCALE_UP")
        return 0 if before else service.desired_count
    if stage.name == "CLEAN_UP":
        return 0
    if stage.rolls_back:
        return None
    source = stages.source_of(service.deployments)
    if source is not None and deployment.id == source.id:
        return service.desired_count
    # What was overtaken stays until the traffic that it has is home.
    return None if source is not None and deployment.weight else 0


def _step(service: Service, kept: Mapping[str, Kept], strays: bool, now: float, alarms: tuple[str, ...]) -> Step:
    primary, *others = service.deployments
    stage = primary.stage
    assert stage is not None
    if primary.rollout_state == "FAILED":
        return Step(service.deployments, [])
    why = rollback.failure(service, kept[primary.id].history, alarms, now)
    if why is not None:
        return Step(*rollback.given_up(service, why, now))
    found = hooks.timed_out(stage.hooks, now)
    stage = stage if found == stage.hooks else replace(stage, hooks=found)
    primary = replace(primary, stage=stage)
    if stage.name == "RECONCILE_SERVICE" and not stages.is_home(service.deployments):
        source = stages.source_of(service.deployments)
        up = source is not None and kept[source.id].up
        return Step(stages.home([primary, *others]) if up else [primary, *others], [], hooks.expires_at(found))
    expires = hooks.expires_at(found)
    wait = _waits_until(service, stage, primary, kept, strays)
    if expires is not None or wait is None or wait > now:
        return Step([primary, *others], [], earliest(expires, wait if wait is not None and wait > now else None))
    if stage.name == "CLEAN_UP":
        return Step([stages.complete(primary, now)], [messages.completed(service.name, primary.id)])
    to = replace(stages.following(primary), since=now)
    return Step(stages.entered(rollback.configuration_of(service), [primary, *others], to), [])


def _waits_until(
    service: Service, stage: DeploymentStage, primary: Deployment, kept: Mapping[str, Kept], strays: bool
) -> float | None:
    """When the stage is over, as far as it is not for hooks to say: a time, or None while tasks are waited for."""
    source = stages.source_of(service.deployments)
    configuration = rollback.configuration_of(service)
    others = [d.id for d in service.deployments[1:]]
    ready = True
    match stage.name:
        case "RECONCILE_SERVICE":
            left = [one for one in others if source is None or one != source.id]
            ready = not strays and all(kept[one].gone for one in left)
            ready = ready and (source is None or kept[source.id].up)
        case "SCALE_UP":
            ready = kept[primary.id].up
        case "CLEAN_UP":
            ready = not strays and kept[primary.id].up and all(kept[one].gone for one in others)
        case "PRODUCTION_TRAFFIC_SHIFT" if not stage.rolls_back and (primary.weight or 0.0) < 100.0:
            return stage.since + stages.step_bake_s(configuration, stage.strategy)
        case "TEST_TRAFFIC_SHIFT" if stage.rolls_back or service.connector is not None:
            return stage.since + stages.SHIFT_GRACE_S
        case "BAKE_TIME" if source is not None:
            bake = 60.0 * (configuration.get("bakeTimeInMinutes") or 0)
            return stage.since + max(bake, stages.SHIFT_GRACE_S)
    return stage.since if ready else None
