"""Task sets of services whose deployments somebody else controls.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-type-external.html
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import msgspec

from contracts.aws import ecs
from contracts.kinds import Key
from contracts.records.scheduler import SERVICE, Service, TaskSet
from services.scheduler.api.base import EcsBase, wire
from services.scheduler.decisions import names, tags, task_sets
from services.scheduler.decisions import services as rules
from services.scheduler.decisions.capacity import launch_type_of, of_launch_type
from services.scheduler.decisions.requests import check_network, check_support, invalid
from services.scheduler.handlers.counts import SERVICE_NOT_ACTIVE, SERVICE_NOT_FOUND
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError


class TaskSets(EcsBase):
    """CreateTaskSet and its like."""

    async def create_task_set(
        self, context: RequestContext, request: ecs.CreateTaskSetRequest
    ) -> ecs.CreateTaskSetResponse:
        """One set more, ACTIVE until it is made PRIMARY. Its tasks start at once, its share of the desired count."""
        cluster = self._own_cluster(context, request.cluster)
        given = wire(request)
        known = self.world.providers_of(cluster.account, cluster.region, cluster.name)
        rules.check({k: v for k, v in given.items() if k in _CHECKED}, known)
        definition = self._runnable(context, request.task_definition)
        if "launchType" not in given and not given.get("capacityProviderStrategy"):
            strategy = cluster.request.get("defaultCapacityProviderStrategy")
            given |= {"capacityProviderStrategy": strategy} if strategy else {"launchType": "EC2"}
        check_support(definition, launch_type_of(given, known))
        check_network(definition, given.get("networkConfiguration") or {})
        await self._require_groups(cluster, given.get("networkConfiguration"))
        now = self.world.clock()
        fresh = TaskSet(
            id=names.new_deployment_id(),
            status="ACTIVE",
            task_definition=f"{definition.family}:{definition.revision}",
            scale=task_sets.read_scale(given.get("scale")),
            created_at=now,
            updated_at=now,
            external_id=request.external_id or "",
            launch_type=given.get("launchType", ""),
            capacity_provider_strategy=given.get("capacityProviderStrategy") or [],
            platform_version=request.platform_version,
            network_configuration=given.get("networkConfiguration") or {},
            service_registries=given.get("serviceRegistries") or [],
            tags=tags.read(request.tags),
            client_token=request.client_token or "",
        )
        made = fresh.id

        def change(old: Service) -> Service:
            nonlocal made
            for known in old.task_sets:
                if request.client_token and known.client_token == request.client_token:
                    made = known.id
                    return old
            return task_sets.added(old, fresh)

        service = await self._changed(context, request.cluster, request.service, change)
        return ecs.CreateTaskSetResponse(task_set=self._task_set(service, task_sets.find(service, made)))

    async def describe_task_sets(
        self, context: RequestContext, request: ecs.DescribeTaskSetsRequest
    ) -> ecs.DescribeTaskSetsResponse:
        """The named sets, or all; those that are not there as MISSING failures."""
        cluster = self._seen_cluster(context, request.cluster)
        name = names.last_part(request.service)
        service = _usable(self.world.services.record(cluster.account, cluster.region, cluster.name, name))
        with_tags = "TAGS" in (request.include or ())
        known = {s.id: s for s in service.task_sets}
        wanted = [_id(reference) for reference in request.task_sets or ()] or list(known)
        missing = [ecs.Failure(arn=_arn(service, one), reason="MISSING") for one in wanted if one not in known]
        shapes = [self._task_set(service, known[one], with_tags=with_tags) for one in wanted if one in known]
        return ecs.DescribeTaskSetsResponse(task_sets=shapes, failures=missing)

    async def update_task_set(
        self, context: RequestContext, request: ecs.UpdateTaskSetRequest
    ) -> ecs.UpdateTaskSetResponse:
        """Give a set another share of the desired count."""
        scale, now, one = task_sets.read_scale(wire(request.scale)), self.world.clock(), _id(request.task_set)
        change = lambda old: task_sets.scaled(old, one, scale, now)  # noqa: E731
        service = await self._changed(context, request.cluster, request.service, change)
        return ecs.UpdateTaskSetResponse(task_set=self._task_set(service, task_sets.find(service, one)))

    async def delete_task_set(
        self, context: RequestContext, request: ecs.DeleteTaskSetRequest
    ) -> ecs.DeleteTaskSetResponse:
        """Let a set drain; with `force` also one that is scaled above 0."""
        now, one = self.world.clock(), _id(request.task_set)
        change = lambda old: task_sets.draining(old, one, bool(request.force), now)  # noqa: E731
        service = await self._changed(context, request.cluster, request.service, change)
        return ecs.DeleteTaskSetResponse(task_set=self._task_set(service, task_sets.find(service, one)))

    async def update_service_primary_task_set(
        self, context: RequestContext, request: ecs.UpdateServicePrimaryTaskSetRequest
    ) -> ecs.UpdateServicePrimaryTaskSetResponse:
        """Make a set the one that serves production traffic; the one before it is ACTIVE."""
        now, one = self.world.clock(), _id(request.primary_task_set)
        change = lambda old: task_sets.made_primary(old, one, now)  # noqa: E731
        service = await self._changed(context, request.cluster, request.service, change)
        return ecs.UpdateServicePrimaryTaskSetResponse(task_set=self._task_set(service, task_sets.find(service, one)))

    async def _changed(
        self, context: RequestContext, cluster: str, reference: str, change: Callable[[Service], Service]
    ) -> Service:
        """The service after one write of it."""
        own = self._own_cluster(context, cluster)
        key: Key = (own.account, own.region, own.name, names.last_part(reference))
        written: list[Service] = []

        def changed(old: Service | None) -> Service:
            written[:] = [change(_usable(old))]
            return written[0]

        await self.world.store.update(SERVICE, key, changed, "service.updated.v1")
        return written[0]

    def _task_set(self, service: Service, of: TaskSet, *, with_tags: bool = True) -> ecs.TaskSet:
        where = (service.account, service.region)
        members = self.world.members(*SERVICE.key_of(service))
        states = Counter(m.state for m in members if m.deployment == of.id)
        family, _, revision = of.task_definition.rpartition(":")
        given = {
            "capacityProviderStrategy": of.capacity_provider_strategy,
            "networkConfiguration": of.network_configuration or None,
            "serviceRegistries": of.service_registries,
            "loadBalancers": [],
            "scale": {"value": of.scale, "unit": "PERCENT"},
            "launchType": of.launch_type or None,
        }
        shape = msgspec.convert(given, ecs.TaskSet)
        shape.id = of.id
        shape.task_set_arn = _arn(service, of.id)
        shape.service_arn = names.arn(*where, "service", service.cluster, service.name)
        shape.cluster_arn = names.arn(*where, "cluster", service.cluster)
        shape.external_id = of.external_id or None
        shape.status = of.status
        shape.task_definition = names.task_definition_arn(*where, family, int(revision))
        shape.computed_desired_count = task_sets.computed_count(service, of)
        shape.pending_count = states["pending"]
        shape.running_count = states["running"]
        shape.created_at = of.created_at
        shape.updated_at = of.updated_at
        shape.stability_status = "STEADY_STATE" if task_sets.is_steady(service, of, members) else "STABILIZING"
        shape.stability_status_at = self.world.clock()
        shape.tags = tags.write(of.tags) if with_tags else None
        if of.launch_type == "FARGATE":
            shape.platform_version = of_launch_type("FARGATE", of.platform_version).platform_version
            shape.platform_family = "Linux"
        return shape


_CHECKED = ("launchType", "capacityProviderStrategy", "loadBalancers", "serviceRegistries")


def _usable(service: Service | None) -> Service:
    """The service, if it is ACTIVE and has task sets. Raises AwsError."""
    if service is None or service.status == "INACTIVE":
        raise AwsError(*SERVICE_NOT_FOUND)
    if service.status != "ACTIVE":
        raise AwsError(*SERVICE_NOT_ACTIVE)
    if not task_sets.is_external(service):
        raise invalid("Only services with the deployment controller EXTERNAL have task sets.")
    return service


def _id(reference: str) -> str:
    """A set's id out of itself, its digits or its ARN."""
    return f"ecs-svc/{names.last_part(reference)}"


def _arn(service: Service, set_id: str) -> str:
    return names.arn(service.account, service.region, "task-set", service.cluster, service.name, set_id)
