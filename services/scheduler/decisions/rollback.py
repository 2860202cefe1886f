"""When a deployment has failed, and what the service goes back to.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-circuit-breaker.html
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-alarm-failure.html
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from contracts.records.monitor import MetricAlarm
from contracts.records.scheduler import Deployment, DeploymentStage, Service
from services.scheduler.decisions import hooks, messages, stages
from services.scheduler.decisions.backoff import History


class Failure(msgspec.Struct, frozen=True):
    """Why a deployment has failed: `reason` is its rolloutStateReason, `said` what its event says, `way_back` the
    beginning of the reason of what comes back."""

    reason: str
    said: str
    way_back: str
    rolls_back: bool = True
    alarms: tuple[str, ...] = ()


def configuration_of(service: Service) -> Mapping[str, Any]:
    """The service's deployment configuration, in wire form."""
    return service.request.get("deploymentConfiguration") or {}


def breaker(service: Service) -> Mapping[str, Any]:
    """The circuit breaker's configuration, in wire form."""
    return configuration_of(service).get("deploymentCircuitBreaker") or {}


def watched(service: Service) -> list[str]:
    """The names of the alarms that fail the service's deployment: none, when one was on as it began."""
    if service.deployments and service.deployments[0].unwatched:
        return []
    return alarm_names(service.request)


def alarm_names(request: Mapping[str, Any]) -> list[str]:
    """The names of the alarms that a service (wire form) wants its deployments to be watched by."""
    given = (request.get("deploymentConfiguration") or {}).get("alarms") or {}
    return list(given.get("alarmNames") or ()) if given.get("enable") else []


def triggered(service: Service, alarms: Iterable[MetricAlarm]) -> tuple[str, ...]:
    """Those of its alarms that went off since the deployment began."""
    names = watched(service)
    if not names or not service.deployments:
        return ()
    since = service.deployments[0].created_at
    return tuple(
        sorted(a.name for a in alarms if a.name in names and a.state == "ALARM" and a.state_changed_at > since)
    )


def watch_s(alarms: Iterable[MetricAlarm]) -> float:
    """How long alarms are watched once a rolling deployment has replaced the last task, in seconds: until each has seen
    as many periods as it judges by. ECS computes that time of the alarms' configuration, and does not say how."""
    return max((_seconds(alarm.request) for alarm in alarms), default=0.0)


def _seconds(request: Mapping[str, Any]) -> float:
    stats = (query.get("MetricStat") or query for query in request.get("Metrics") or ())
    periods = [request.get("Period") or 0, *(stat.get("Period") or 0 for stat in stats)]
    return float(max(periods) * (request.get("EvaluationPeriods") or 1))


def threshold(desired: int) -> int:
    """How many failures in a row break the circuit: half the desired count, at least 3, at most 200."""
    return min(max(math.ceil(desired * 0.5), 3), 200)


def failure(service: Service, history: History, alarms: tuple[str, ...], now: float) -> Failure | None:
    """Why the primary deployment has failed, if it has: its tasks, an alarm, a hook."""
    primary = service.deployments[0]
    stage = primary.stage
    if primary.rollout_state != "IN_PROGRESS" or (stages.goes_by_stages(primary) and stage and stage.rolls_back):
        return None
    run = hooks.failed(hooks.timed_out(stage.hooks, now)) if stage is not None else None
    if stage is not None and run is not None:
        told = f"the lifecycle hook {run.target or run.id} failed at the stage {stage.name}: {run.reason}"
        return Failure(f"ECS deployment lifecycle hook: {told}", told, "ECS deployment lifecycle hook")
    if stage is not None and stage.name == "CLEAN_UP":
        return None
    given = breaker(service)
    if given.get("enable") and history.failures >= threshold(service.desired_count):
        told, named = "tasks failed to start.", "ECS deployment circuit breaker"
        return Failure(f"{named}: {told}", told, named, rolls_back=bool(given.get("rollback")))
    if alarms and not _came_back(service, primary):
        told, named = f"alarm detected: {', '.join(alarms)}.", "ECS deployment alarms"
        rolls_back = bool(configuration_of(service)["alarms"].get("rollback"))
        return Failure(f"{named}: {told}", told, named, rolls_back, alarms)
    return None


def _came_back(service: Service, primary: Deployment) -> bool:
    """Whether it is what a failed one was rolled back to: alarms that go off then speak of that one."""
    return any(r.status == "ROLLBACK_IN_PROGRESS" and r.rolled_back_to == primary.id for r in service.rollouts)


def given_up(service: Service, why: Failure, now: float) -> tuple[list[Deployment], list[str]]:
    """The deployments after the primary one has failed, and what is told: back to the latest complete one, or as it
    is."""
    primary = service.deployments[0]
    failed = replace(
        primary,
        rollout_state="FAILED",
        rollout_state_reason=why.reason,
        updated_at=now,
        alarms=list(why.alarms),
    )
    told = [messages.failed(service.name, primary.id, why.said)]
    target = rollback_target(service)
    if not why.rolls_back or target is None:
        return [failed, *service.deployments[1:]], told
    told.append(messages.rolling_back(service.name, target.id))
    reason = f"{why.way_back}: rolling back to deploymentId {target.id}."
    return rolled_back(service, failed, target, reason, now), told


def rollback_target(service: Service) -> Deployment | None:
    """The deployment that comes back when the primary one is given up: the latest that was complete."""
    return stages.source_of(service.deployments)


def rolled_back(service: Service, failed: Deployment, target: Deployment, reason: str, now: float) -> list[Deployment]:
    """The deployments after `target` has taken the place of the primary one, which is `failed`.

    Where traffic was shifted it goes home at once; where blue may not be up (it was told to go, or has not got its
    traffic back yet from a deployment before), once it is.
    """
    stage = failed.stage
    restored = replace(
        target,
        status="PRIMARY",
        desired_count=service.desired_count,
        rollout_state="IN_PROGRESS",
        rollout_state_reason=reason,
        updated_at=now,
    )
    others = [replace(failed, status="ACTIVE", stage=None), *(d for d in service.deployments[1:] if d.id != target.id)]
    if stage is None or not stages.goes_by_stages(failed):
        back = DeploymentStage(name="SCALE_UP", since=now, strategy="ROLLING", rolls_back=True)
        return [replace(restored, weight=None, test_weight=None, stage=back), *others]
    name = "SCALE_UP" if stage.name in ("CLEAN_UP", "RECONCILE_SERVICE") else "PRODUCTION_TRAFFIC_SHIFT"
    back = DeploymentStage(name=name, since=now, strategy=stage.strategy, rolls_back=True)
    return stages.entered(configuration_of(service), [restored, *others], back)
