"""What an operation makes of a service: how it begins, and what it leaves when it is over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from contracts.records.app_runner_gateway import AppOperation, AppService, Revision
from services.shared.errors import AwsError

OPERATIONS_KEPT = 50
IN_PROGRESS = "OPERATION_IN_PROGRESS"

#: What may be begun in which status, and how AWS words that it may not.
_MAY = {
    "UPDATE_SERVICE": (("RUNNING",), "be updated"),
    "START_DEPLOYMENT": (("RUNNING",), "be deployed"),
    "PAUSE_SERVICE": (("RUNNING",), "be paused"),
    "RESUME_SERVICE": (("PAUSED",), "be resumed"),
    "DELETE_SERVICE": (("RUNNING", "PAUSED", "CREATE_FAILED"), "be deleted"),
}


def operation(service: AppService) -> AppOperation | None:
    """The operation that is in progress."""
    first = service.operations[0] if service.operations else None
    return first if first is not None and first.status == "IN_PROGRESS" else None


def revision(service: AppService, number: int) -> Revision | None:
    """One of the service's revisions."""
    return next((r for r in service.revisions if r.number == number), None)


def require(service: AppService, kind: str) -> None:
    """Raise InvalidStateException unless this operation may begin now."""
    allowed, done = _MAY[kind]
    if service.status not in allowed:
        raise AwsError(
            "InvalidStateException", f"Service cannot {done} in the current state: {service.status}. ({service.name})"
        )


def begin(service: AppService, kind: str, operation_id: str, now: float) -> AppService:
    """The service with this operation in progress."""
    fresh = AppOperation(id=operation_id, type=kind, status="IN_PROGRESS", started_at=now, updated_at=now)
    operations = [fresh, *service.operations][:OPERATIONS_KEPT]
    return replace(service, status=IN_PROGRESS, updated_at=now, operations=operations)


def deploy(service: AppService, image: str, trace: str | None, now: float) -> AppService:
    """The service with a candidate, made of what it now says."""
    number = service.last_revision + 1
    fresh = Revision(
        number=number,
        created_at=now,
        image=image,
        source=service.source,
        instance=service.instance,
        health_check=service.health_check,
        trace=trace,
    )
    kept = [r for r in service.revisions if r.number == service.active]
    return replace(
        service, revisions=[*kept, fresh], candidate=number, last_revision=number, image_moved=False, updated_at=now
    )


def succeed(service: AppService, now: float) -> AppService:
    """The operation in progress has done what it was to do."""
    kind = service.operations[0].type
    done = _end(service, "SUCCEEDED", "", now)
    if kind == "DELETE_SERVICE":
        return replace(done, status="DELETED", deleted_at=now, revisions=[], active=0, candidate=0)
    if kind == "PAUSE_SERVICE":
        return replace(done, status="PAUSED")
    if service.candidate:
        kept = [r for r in service.revisions if r.number == service.candidate]
        done = replace(done, active=service.candidate, candidate=0, revisions=kept)
    return replace(done, status="RUNNING")


def fail(service: AppService, reason: str, now: float) -> AppService:
    """The operation in progress can't be done: what was before goes on."""
    kind = service.operations[0].type
    current = revision(service, service.active)
    if kind == "RESUME_SERVICE":
        return replace(_end(service, "FAILED", reason, now), status="PAUSED")
    if current is None:
        return replace(_end(service, "FAILED", reason, now), status="CREATE_FAILED", revisions=[], candidate=0)
    # An update is taken back; a deployment changed nothing that could be.
    status = "ROLLBACK_SUCCEEDED" if kind == "UPDATE_SERVICE" else "FAILED"
    restored = replace(_end(service, status, reason, now), status="RUNNING", candidate=0, revisions=[current])
    if kind == "UPDATE_SERVICE":
        restored = replace(
            restored, source=current.source, instance=current.instance, health_check=current.health_check
        )
    return restored


def _end(service: AppService, status: str, reason: str, now: float) -> AppService:
    ended = replace(service.operations[0], status=status, ended_at=now, updated_at=now, reason=reason)
    return replace(service, operations=[ended, *service.operations[1:]], updated_at=now)


def rolls(old: AppService, new: AppService) -> bool:
    """Whether a change of the service needs instances that are made anew."""
    return (_made_of(old.source), old.instance, old.health_check) != (
        _made_of(new.source),
        new.instance,
        new.health_check,
    )


def _made_of(source: Mapping[str, Any]) -> Mapping[str, Any]:
    return {k: v for k, v in source.items() if k != "AutoDeploymentsEnabled"}
