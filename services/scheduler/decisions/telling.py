"""What EventBridge would be told of a change: events of `aws.ecs`, in the shapes that ECS documents.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_cwe_events.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from contracts.records.events import AwsEvent, told
from contracts.records.scheduler import Deployment, Service
from services.scheduler.decisions import names

SOURCE = "aws.ecs"
TASK_CHANGE = "ECS Task State Change"
INSTANCE_CHANGE = "ECS Container Instance State Change"
SERVICE_ACTION = "ECS Service Action"
DEPLOYMENT_CHANGE = "ECS Deployment State Change"

DESIRED_COUNT = "SERVICE_DESIRED_COUNT_UPDATED"
_TYPES = {
    "SERVICE_TASK_START_IMPAIRED": "WARN",
    "SERVICE_TASK_PLACEMENT_FAILURE": "ERROR",
    "SERVICE_DEPLOYMENT_FAILED": "ERROR",
}
"""All others are INFO."""


def moment(at: float) -> str:
    """A time as `detail` has it: RFC 3339 with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def spelled(value: Any) -> Any:
    """A shape of the API as an event has it: its times (`…At`) are text, what is not there is left out."""
    if isinstance(value, Mapping):
        return {
            name: moment(each) if name.endswith("At") and isinstance(each, int | float) else spelled(each)
            for name, each in value.items()
            if each is not None
        }
    return [spelled(each) for each in value] if isinstance(value, list) else value


class Teller:
    """The events of one change. Their ids come of where the change lies in the log, so that one that is told again has
    the id that it had. `at` is when it was logged, in seconds since the epoch."""

    def __init__(self, account: str, region: str, origin: str, at: float) -> None:
        self._where = (account, region)
        self._origin = origin
        self._at = at

    def _event(self, detail_type: str, resource: str, detail: dict[str, Any], what: str) -> AwsEvent:
        of = (self._origin, detail_type, resource, what)
        return told(SOURCE, detail_type, self._where, self._at, [resource], detail, *of)

    def task(self, shape: dict[str, Any]) -> AwsEvent:
        """A task's change. `shape` is the task as DescribeTasks shows it, in plain JSON.

        https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_task_events.html
        """
        detail = spelled(shape) | {"updatedAt": moment(self._at)}
        detail.pop("tags", None)
        for attachment in detail.get("attachments", ()):
            if attachment.get("type") == "ElasticNetworkInterface":
                attachment["type"] = "eni"
        return self._event(TASK_CHANGE, shape["taskArn"], detail, "")

    def instance(self, shape: dict[str, Any], cluster_arn: str) -> AwsEvent:
        """A container instance's change, `shape` being what DescribeContainerInstances shows.

        https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_container_instance_events.html
        """
        detail = spelled(shape) | {"clusterArn": cluster_arn, "updatedAt": moment(self._at)}
        detail.pop("tags", None)
        return self._event(INSTANCE_CHANGE, shape["containerInstanceArn"], detail, "")

    def service(self, before: Service | None, after: Service, since: float, *, by_itself: bool) -> Iterator[AwsEvent]:
        """What became of a service, oldest first. `before` is the record that this one took the place of, None when the
        log has none: then only what happened since `since`, which is how far the log reaches, is new. `by_itself`: the
        scheduler wrote it, nobody asked for it.

        https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_service_events.html
        """
        service_arn = names.arn(*self._where, "service", after.cluster, after.name)
        cluster_arn = names.arn(*self._where, "cluster", after.cluster)
        for deployment in reversed(after.deployments):
            if _moved(before, deployment, since):
                name = f"SERVICE_DEPLOYMENT_{deployment.rollout_state}"
                detail = _named(name) | {
                    "deploymentId": deployment.id,
                    "updatedAt": moment(deployment.updated_at),
                    "reason": deployment.rollout_state_reason,
                }
                yield self._event(DEPLOYMENT_CHANGE, service_arn, detail, f"{deployment.id} {name}")
        if by_itself and before is not None and before.desired_count != after.desired_count:
            detail = _named(DESIRED_COUNT) | {"clusterArn": cluster_arn, "createdAt": moment(self._at)}
            yield self._event(SERVICE_ACTION, service_arn, detail, DESIRED_COUNT)
        known = {event.id for event in before.events} if before is not None else set()
        for event in reversed(after.events):
            if event.action and event.id not in known and (before is not None or event.created_at >= since):
                detail = _named(event.action) | {"clusterArn": cluster_arn, **event.detail}
                yield self._event(
                    SERVICE_ACTION, service_arn, detail | {"createdAt": moment(event.created_at)}, event.id
                )


def _named(name: str) -> dict[str, Any]:
    return {"eventType": _TYPES.get(name, "INFO"), "eventName": name}


def _moved(before: Service | None, deployment: Deployment, since: float) -> bool:
    if before is None:
        return deployment.updated_at >= since
    old = next((d for d in before.deployments if d.id == deployment.id), None)
    return old is None or old.rollout_state != deployment.rollout_state
