"""A task as others see it: what is wanted of it (the scheduler's Task) joined with what it is (its agent's TaskStatus).

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-lifecycle-explanation.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from contracts.records.agent import TaskStatus
from contracts.records.app_runner_gateway import Target
from contracts.records.scheduler import Task
from services.scheduler.decisions.backoff import Member

UNHEALTHY_REASON = "Task failed container health checks"
SPOT_INTERRUPTION = "SpotInterruption"
UNANSWERED_REASON = "Task failed the gateway's health checks"
_ENDING = frozenset({"DEACTIVATING", "STOPPING", "DEPROVISIONING", "STOPPED"})
_KILLED = frozenset({137, 143})
_ILL = (UNHEALTHY_REASON, UNANSWERED_REASON)


def over(task: Task, status: TaskStatus | None) -> bool:
    """Whether nothing of the task runs any more, so that what it reserved is free."""
    return task.lost_at is not None or (status is not None and status.last_status == "STOPPED")


def last_status(task: Task, status: TaskStatus | None) -> str:
    """Where it is in its life; PROVISIONING until its agent says otherwise."""
    if task.lost_at is not None:
        return "STOPPED"
    if status is None:
        return "PROVISIONING" if task.desired_status == "RUNNING" else "STOPPING"
    return status.last_status


def desired_status(task: Task, status: TaskStatus | None) -> str:
    """RUNNING or STOPPED; a task that ends on its own wants to be STOPPED."""
    return "STOPPED" if task.desired_status == "STOPPED" or last_status(task, status) in _ENDING else "RUNNING"


def stopped_at(task: Task, status: TaskStatus | None) -> float | None:
    """When it was over, in seconds since the epoch; None when it is not."""
    if task.lost_at is not None:
        return task.lost_at
    if status is not None and status.last_status == "STOPPED":
        return status.stopped_at or status.execution_stopped_at or task.stopping_at or task.created_at
    return None


def stop_code(task: Task, status: TaskStatus | None) -> str | None:
    """Why it stopped, as a code: who asked for it knows better than who saw it happen."""
    return task.stop_code or (status.stop_code if status is not None else None)


def stopped_reason(task: Task, status: TaskStatus | None) -> str | None:
    """Why it stopped, in words."""
    return task.stopped_reason or (status.stopped_reason if status is not None else None)


def counts_as(task: Task, status: TaskStatus | None) -> str:
    """How a service counts it: pending, running, stopping or stopped."""
    if over(task, status):
        return "stopped"
    if desired_status(task, status) == "STOPPED":
        return "stopping"
    return "running" if status is not None and status.last_status == "RUNNING" else "pending"


def failed(task: Task, status: TaskStatus | None) -> bool:
    """Whether it ended on its own. Being killed from outside is not its failing, unless it was for its memory."""
    if status is None or task.lost_at is not None or task.desired_status == "STOPPED":
        return False
    if status.last_status != "STOPPED":
        return False
    if "OutOfMemory" in (status.stopped_reason or ""):
        return True
    return not any(
        c.essential and c.exit_code in _KILLED and "OutOfMemory" not in (c.reason or "") for c in status.containers
    )


def has_health_check(definition: Mapping[str, Any]) -> bool:
    """Whether an essential container of this definition (in wire form) has a health check."""
    return any(c.get("healthCheck") and c.get("essential", True) for c in definition.get("containerDefinitions", ()))


def member(task: Task, status: TaskStatus | None, checked: bool, *, leaving: bool = False) -> Member:
    """The task as a rollout sees it. `checked`: its definition has a health check; `leaving`: its node is drained."""
    state = counts_as(task, status)
    health = status.health_status if status is not None else "UNKNOWN"
    return Member(
        id=task.id,
        deployment=task.deployment,
        created_at=task.created_at,
        zone=task.zone,
        state=state,
        checked=checked,
        healthy=state == "running" and (health == "HEALTHY" or not checked),
        unhealthy=(state == "running" and health == "UNHEALTHY") or (task.stopped_reason or "").startswith(_ILL),
        failed=failed(task, status),
        started_at=status.started_at if status is not None else None,
        stopped_at=stopped_at(task, status),
        node=task.node,
        leaving=leaving,
        protected_until=task.protected_until,
        interrupted_at=task.stopping_at if task.stop_code == SPOT_INTERRUPTION else None,
    )


def behind_gateway(member: Member, target: Target | None) -> Member:
    """The task as a rollout sees it that gets its requests through the gateway: healthy is who gets some, ill who does
    not answer the gateway's checks (ECS: the load balancer's)."""
    if member.state != "running" or target is None:
        return replace(member, checked=True, healthy=False)
    ill = target.state == "unhealthy"
    return replace(
        member,
        checked=True,
        healthy=member.healthy and target.state == "healthy",
        unhealthy=member.unhealthy or ill,
        illness=": ".join(filter(None, (UNANSWERED_REASON, target.reason))) if ill and not member.unhealthy else "",
    )
