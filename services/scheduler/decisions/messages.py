"""Service events in ECS' words.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-event-messages-list.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.scheduler.decisions.placement import CAPACITY

KEPT = 100
"""How many events a service's story has."""
_SEE = "For more information, see the Troubleshooting section of the Amazon ECS Developer Guide."
_LACK = {
    "RESOURCE:CPU": "has insufficient CPU units available",
    "RESOURCE:MEMORY": "has insufficient memory available",
    "RESOURCE:PORTS": "is already using a port required by your task",
    "RESOURCE:GPU": "has insufficient GPU resources available",
    "ATTRIBUTE": "is missing an attribute required by your task",
    "AGENT": "has the agent disconnected",
}


class Message(str):
    """The words of a service event. `action` is what EventBridge calls it, empty for what is told in words alone;
    `detail` what its event says besides."""

    action = ""
    detail: dict[str, Any] = {}


def _said(action: str, text: str, **detail: Any) -> Message:
    message = Message(text)
    message.action, message.detail = action, detail
    return message


def _tasks(ids: Sequence[str]) -> str:
    return " ".join(f"(task {one})" for one in ids)


def steady(service: str) -> str:
    """It has what it wants."""
    return _said("SERVICE_STEADY_STATE", f"(service {service}) has reached a steady state.")


def started(service: str, ids: Sequence[str]) -> str:
    """Tasks were started."""
    return f"(service {service}) has started {len(ids)} tasks: {_tasks(ids)}."


def stopped(service: str, ids: Sequence[str]) -> str:
    """Tasks were told to stop."""
    return _said("TASKS_STOPPED", f"(service {service}) has stopped {len(ids)} running tasks: {_tasks(ids)}.")


def unhealthy(service: str, task: str) -> str:
    """A task failed its health check."""
    return f"(service {service}) (task {task}) failed container health checks."


def interrupted(service: str, task: str) -> str:
    """Spot capacity is taken back: the task is about to be stopped."""
    return f"(service {service}) (task {task}) received a Spot interruption notice."


def unavailable(service: str) -> str:
    """There is no capacity of a Fargate provider."""
    return f"(service {service}) was unable to place a task. Reason: {CAPACITY}. {_SEE}"


def unplaced(service: str, instance: str | None, reason: str) -> str:
    """No node took a task. `instance` is the ARN of the container instance that came nearest."""
    said = f"(service {service}) was unable to place a task because no container instance met all of its requirements."
    if instance is None:
        return _said("SERVICE_TASK_PLACEMENT_FAILURE", f"{said} Reason: {reason}. {_SEE}", reason=reason)
    lack = _LACK.get(reason, f"does not fit: {reason}")
    text = f"{said} The closest matching (container-instance {instance.rpartition('/')[2]}) {lack}. {_SEE}"
    return _said("SERVICE_TASK_PLACEMENT_FAILURE", text, containerInstanceArns=[instance], reason=reason)


def inconsistent(service: str) -> str:
    """Tasks fail again and again; starts are held back."""
    text = f"(service {service}) is unable to consistently start tasks successfully. {_SEE}"
    return _said("SERVICE_TASK_START_IMPAIRED", text)


def stuck(service: str) -> str:
    """The limits of the deployment configuration allow neither a stop nor a start."""
    return (
        f"(service {service}) was unable to stop or start tasks during a deployment because of the service deployment "
        "configuration. Update the minimumHealthyPercent or maximumPercent value and try again."
    )


def completed(service: str, deployment: str) -> str:
    """A rollout came to its end."""
    return f"(service {service}) (deployment {deployment}) deployment completed."


def failed(service: str, deployment: str, why: str = "tasks failed to start.") -> str:
    """The circuit breaker, an alarm or a lifecycle hook ended a rollout."""
    return f"(service {service}) (deployment {deployment}) deployment failed: {why}"


def rolling_back(service: str, deployment: str) -> str:
    """The deployment before it comes back."""
    return f"(service {service}) rolling back to deployment {deployment}."


def rebalancing(service: str, zone: str) -> str:
    """A zone gets a task that another has too many."""
    return f"(service {service}) is rebalancing its tasks over Availability Zones: one more in {zone}."


def scaling(deployment: str) -> str:
    """Why a task is stopped that is not needed any more (its stoppedReason)."""
    return f"Scaling activity initiated by (deployment {deployment})"
