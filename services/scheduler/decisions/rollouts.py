"""The story of a service's deployments, made of what changes: which one took over from which, how it ended.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-deployment.html
"""

from __future__ import annotations

from msgspec.structs import replace

from contracts.records.scheduler import Deployment, Rollout, Service
from services.scheduler.decisions.names import daemon_name
from services.shared.errors import AwsError

KEPT = 10
_OPEN = ("IN_PROGRESS", "ROLLBACK_IN_PROGRESS")


def recorded(service: Service, now: float) -> Service:
    """The service with its rollouts brought up to what its deployments are; the same object if nothing is new."""
    if not service.deployments:
        rollouts = [_ended(r, "STOPPED", "The service was deleted.", now) for r in service.rollouts]
    else:
        rollouts = _brought_up(service, service.deployments[0], now)
    return service if rollouts == service.rollouts else replace(service, rollouts=rollouts[:KEPT])


def _brought_up(service: Service, primary: Deployment, now: float) -> list[Rollout]:
    known = {rollout.id for rollout in service.rollouts}
    rollouts = [_staged(_followed(r, primary, service.deployments, now), primary) for r in service.rollouts]
    if primary.id not in known:
        sources = [d.id for d in service.deployments[1:] if d.rollout_state == "COMPLETED"]
        rollouts.insert(0, begun(primary, sources))
        rollouts[0] = _staged(_followed(rollouts[0], primary, service.deployments, now), primary)
    return rollouts


def _staged(rollout: Rollout, primary: Deployment) -> Rollout:
    """The story with the lifecycle stage that it is in: its own deployment's, or that of what it is rolled back to."""
    stage = primary.stage
    if rollout.status not in _OPEN or stage is None or (stage.rolls_back and stage.strategy == "ROLLING"):
        return rollout
    if stage.name == rollout.stage or primary.id not in (rollout.id, rollout.rolled_back_to):
        return rollout
    return replace(rollout, stage=stage.name)


def begun(deployment: Deployment, sources: list[str]) -> Rollout:
    """The beginning of a story."""
    return Rollout(
        id=deployment.id,
        status="IN_PROGRESS",
        deployment=deployment,
        created_at=deployment.created_at,
        updated_at=deployment.updated_at,
        sources=sources,
    )


def _followed(rollout: Rollout, primary: Deployment, deployments: list[Deployment], now: float) -> Rollout:
    if rollout.status not in _OPEN:
        return rollout
    if rollout.status == "ROLLBACK_IN_PROGRESS":
        if rollout.rolled_back_to != primary.id:
            return _ended(rollout, "ROLLBACK_FAILED", "A newer deployment took over.", now)
        if primary.rollout_state == "COMPLETED":
            return _ended(rollout, "ROLLBACK_SUCCESSFUL", rollout.status_reason, now)
        if primary.rollout_state == "FAILED":
            return _ended(rollout, "ROLLBACK_FAILED", primary.rollout_state_reason, now)
        return rollout
    if rollout.id == primary.id:
        if primary.rollout_state == "COMPLETED":
            return _ended(rollout, "SUCCESSFUL", "", now)
        if primary.rollout_state == "FAILED":
            ended = _ended(rollout, "STOPPED", primary.rollout_state_reason, now)
            return replace(ended, alarms=primary.alarms)
        return rollout
    own = next((d for d in deployments if d.id == rollout.id), None)
    if own is not None and own.rollout_state == "FAILED":
        return replace(
            rollout,
            status="ROLLBACK_IN_PROGRESS",
            status_reason=own.rollout_state_reason,
            updated_at=now,
            rolled_back_to=primary.id,
            rollback_reason=primary.rollout_state_reason,
            rollback_at=now,
            alarms=own.alarms,
        )
    if own is not None and own.rollout_state == "COMPLETED":
        return _ended(rollout, "SUCCESSFUL", "", now)
    return _ended(rollout, "STOPPED", "Superseded by a newer deployment.", now)


def _ended(rollout: Rollout, status: str, reason: str, now: float) -> Rollout:
    if rollout.status not in _OPEN:
        return rollout
    stopped = now if status == "STOPPED" else None
    return replace(rollout, status=status, status_reason=reason, updated_at=now, finished_at=now, stopped_at=stopped)


def of_arn(arn: str, kind: str) -> tuple[str, str, str]:
    """Cluster, service and id in a service-deployment's or service-revision's ARN. Raises InvalidParameterException."""
    parts = arn.split(":", 5)
    path = parts[5].split("/") if len(parts) == 6 else []
    daemons = len(path) == 4 and daemon_name(path[2]) is not None  # the record's name is nobody's to say
    if len(path) != 4 or path[0] != kind or parts[2] != "ecs" or daemons:
        raise AwsError("InvalidParameterException", f"The {kind} ARN '{arn}' is invalid.")
    return path[1], path[2], path[3]


def revision_id(deployment: str) -> str:
    """The id of the revision (and service deployment) of a deployment `ecs-svc/<digits>`: the digits."""
    return deployment.removeprefix("ecs-svc/")


def deployment_of(number: str) -> str:
    """The deployment that a revision's id belongs to."""
    return f"ecs-svc/{number}"
