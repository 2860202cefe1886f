"""Tags of clusters, gateways, task definitions, tasks, services and their task sets.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-using-tags.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from contracts.aws import ecs
from contracts.kinds import Key, Kind
from contracts.records.scheduler import (
    CAPACITY_PROVIDER,
    CLUSTER,
    GATEWAY,
    SERVICE,
    TASK,
    TASK_DEFINITION,
    Service,
    TaskSet,
)
from services.scheduler.api.base import EcsBase
from services.scheduler.decisions import tags
from services.scheduler.decisions.gateways import routed
from services.scheduler.decisions.names import DAEMON, family_and_revision, split_arn
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError

_MISSING = ("ResourceNotFoundException", "The specified resource could not be found.")


class Tagging(EcsBase):
    """TagResource, UntagResource, ListTagsForResource."""

    async def tag_resource(self, context: RequestContext, request: ecs.TagResourceRequest) -> ecs.TagResourceResponse:
        """Add tags, or give existing ones new values."""
        new = tags.read(request.tags)
        await self._change(context, request.resource_arn, lambda old: tags.joined(old, new))
        return ecs.TagResourceResponse()

    async def untag_resource(
        self, context: RequestContext, request: ecs.UntagResourceRequest
    ) -> ecs.UntagResourceResponse:
        """Take tags away."""
        gone = set(request.tag_keys)
        await self._change(context, request.resource_arn, lambda old: {k: v for k, v in old.items() if k not in gone})
        return ecs.UntagResourceResponse()

    async def list_tags_for_resource(
        self, context: RequestContext, request: ecs.ListTagsForResourceRequest
    ) -> ecs.ListTagsForResourceResponse:
        """The tags."""
        if split_arn(request.resource_arn)[0] == "gateway-route":
            return ecs.ListTagsForResourceResponse(tags=tags.write(self._of_route(context, request.resource_arn)))
        kind, key, set_id = self._resource(context, request.resource_arn)
        record = self.world.store.table(kind).record(*key)
        if set_id:
            record = _set(record, set_id)
        return ecs.ListTagsForResourceResponse(tags=tags.write(record.tags))

    def _of_route(self, context: RequestContext, arn: str) -> dict[str, str]:
        """The tags of a gateway's route: the gateway's own, if they are propagated, and none of its own."""
        self.world.require_connection()
        where, path = (context.account, context.region), split_arn(arn)[1]
        gateway = self.world.gateways.record(*where, path[0])
        services = routed(self.world.services.records(*where), path[0])
        there = [[r.gateway, r.route] for s in services for r in s.connector.routes]  # type: ignore[union-attr]
        if gateway is None or list(path) not in there:
            raise AwsError(*_MISSING)
        return gateway.tags if gateway.propagate_tags == "GATEWAY" else {}

    async def _change(
        self, context: RequestContext, arn: str, change: Callable[[dict[str, str]], dict[str, str]]
    ) -> None:
        kind, key, set_id = self._resource(context, arn)

        def tagged(old: Any) -> Any:
            new = change(old.tags)
            return old if new == old.tags else replace(old, tags=new)

        def changed(old: Any) -> Any:
            if old is None:
                raise AwsError(*_MISSING)
            if not set_id:
                return tagged(old)
            one = _set(old, set_id)
            new = tagged(one)
            return old if new is one else replace(old, task_sets=[new if s is one else s for s in old.task_sets])

        await self.world.store.update(kind, key, changed, f"{kind.name}.tagged.v1")

    def _resource(self, context: RequestContext, arn: str) -> tuple[Kind[Any], Key, str]:
        """Kind and key of what an ARN names, and the id of the task set in it, if it names one. Raises
        InvalidParameterException, ResourceNotFoundException."""
        self.world.require_connection()
        kind, path = split_arn(arn)
        where, set_id = (context.account, context.region), ""
        found: tuple[Kind[Any], Key | None]
        match kind, path:
            case "cluster", [name]:
                found = CLUSTER, (*where, name)
            case "service", [cluster, name]:
                found = SERVICE, (*where, cluster, name)
            case "task-set", [cluster, name, *rest] if rest:
                found, set_id = (SERVICE, (*where, cluster, name)), "/".join(rest)
            case "task", [cluster, task_id]:
                found = TASK, self.world.task_key(*where, cluster, task_id)
            case "gateway", [name]:
                found = GATEWAY, (*where, name)
            case "capacity-provider", [name]:
                found = CAPACITY_PROVIDER, (*where, name)
            case "daemon", [cluster, name]:
                found = SERVICE, (*where, cluster, f"{DAEMON}{name}")
            case (("task-definition" | "daemon-task-definition"), [name]):
                family, revision = family_and_revision(name)
                family = f"{DAEMON}{family}" if kind.startswith("daemon") else family
                found = TASK_DEFINITION, (*where, family, str(revision))
            case _:
                raise AwsError("InvalidParameterException", "Long arn format must be used for tagging operations")
        if found[1] is None or self.world.store.table(found[0]).get(*found[1]) is None:
            raise AwsError(*_MISSING)
        return found[0], found[1], set_id


def _set(service: Service, set_id: str) -> TaskSet:
    """The task set. Raises ResourceNotFoundException."""
    found = next((s for s in service.task_sets if s.id == set_id), None)
    if found is None:
        raise AwsError(*_MISSING)
    return found
