"""Services. What is wanted is written here; controllers bring it about.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_services.html
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from contracts.aws import ecs
from contracts.records.scheduler import SERVICE, Cluster, Deployment, Service, TaskDefinition
from services.scheduler.api.base import wire
from services.scheduler.api.task_sets import TaskSets
from services.scheduler.decisions import express, gateways, names, tags
from services.scheduler.decisions import services as rules
from services.scheduler.decisions.backoff import Member, history
from services.scheduler.decisions.capacity import launch_type_of, of_launch_type
from services.scheduler.decisions.expressions import read
from services.scheduler.decisions.pages import page
from services.scheduler.decisions.requests import check_network, check_support
from services.scheduler.decisions.rollouts import revision_id
from services.scheduler.decisions.shifting import wanted_count
from services.scheduler.decisions.task_sets import check_service, check_update, is_external
from services.scheduler.handlers.counts import SERVICE_NOT_ACTIVE, SERVICE_NOT_FOUND
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError

_OWN = ("cluster", "service", "serviceName", "tags", "forceNewDeployment")
MAX_DESCRIBED = 10


class Services(TaskSets):
    """CreateService and its like."""

    async def create_service(
        self, context: RequestContext, request: ecs.CreateServiceRequest
    ) -> ecs.CreateServiceResponse:
        """Write a service with its first deployment. An INACTIVE one of that name is replaced."""
        cluster = await self._used_cluster(context, request.cluster)
        name = request.service_name
        if not names.NAME.match(name):
            raise AwsError("InvalidParameterException", "Invalid service name.")
        given = {k: v for k, v in wire(request).items() if k not in _OWN}
        rules.check(given, self._known(cluster))
        if not given.get("gatewayConnectors"):
            given.pop("gatewayConnectors", None)
        now = self.world.clock()
        deployments = self._first(context, cluster, request, given, now)
        key, by = (cluster.account, cluster.region, cluster.name, name), context.principal_arn
        fresh = rules.fresh(key, given, deployments, by, tags.read(request.tags), now)
        await self._require_groups(cluster, given.get("networkConfiguration"))

        def change(old: Service | None) -> Service:
            if old is None or old.status == "INACTIVE":
                # Which gateways there are is looked at here: one may have gone since the request came.
                return self._connected(context, cluster, fresh)
            if old.status == "DRAINING":
                raise AwsError("InvalidParameterException", "Unable to Start a service that is still Draining.")
            token = request.client_token
            if token is not None and old.request.get("clientToken") == token:
                return old
            raise AwsError("InvalidParameterException", "Creation of service was not idempotent.")

        service = await self.world.store.update(SERVICE, SERVICE.key_of(fresh), change, "service.created.v1")
        return ecs.CreateServiceResponse(service=self._service_shape(service or fresh, with_tags=True))

    def _connected(self, context: RequestContext, cluster: Cluster, fresh: Service) -> Service:
        """A new service with its routes, if it asks to be behind a gateway."""
        if gateways.connector_of(fresh.request) is None:
            return fresh
        definition = self._definition(context, fresh.deployments[0].task_definition)
        assert definition is not None
        return gateways.connected(fresh, self._around(cluster), definition.definition)

    def _around(self, cluster: Cluster) -> gateways.Around:
        where = (cluster.account, cluster.region)
        services = self.world.services.records(*where)
        found = gateways.of_cluster(self.world.gateways.records(*where), cluster)
        full = [gateway.name for gateway in found if gateways.is_full(gateway, services)]
        return gateways.Around(found, self._ingress(), names.new_id, full)

    def _first(
        self,
        context: RequestContext,
        cluster: Cluster,
        request: ecs.CreateServiceRequest,
        given: dict[str, Any],
        now: float,
    ) -> list[Deployment]:
        """What a new service begins with: its first deployment, or nothing where there are to be task sets. Fills in
        what `given` (the request in wire form) leaves open."""
        external = check_service(given)
        daemon = given.get("schedulingStrategy") == "DAEMON"
        given["deploymentConfiguration"] = rules.completed(given.get("deploymentConfiguration"), daemon=daemon)
        given.setdefault("desiredCount", 0)
        if external:
            read(given.get("placementConstraints") or (), given.get("placementStrategy") or ())
            return []
        if request.task_definition is None:
            raise AwsError("InvalidParameterException", "TaskDefinition can not be blank.")
        definition = self._runnable(context, request.task_definition)
        self._settle_capacity(cluster, given)
        _check_fit(definition, given, self._known(cluster))
        reference = f"{definition.family}:{definition.revision}"
        alarmed = self.world.alarmed(context.account, context.region, given)
        return rules.begun(given, reference, names.new_deployment_id(), now, alarmed=alarmed)

    def _known(self, cluster: Cluster) -> dict[str, str]:
        return self.world.providers_of(cluster.account, cluster.region, cluster.name)

    def _settle_capacity(self, cluster: Cluster, given: dict[str, Any]) -> None:
        """Launch type or strategy: the request's, else the cluster's default strategy, else EC2."""
        if "launchType" not in given and not given.get("capacityProviderStrategy"):
            strategy = cluster.request.get("defaultCapacityProviderStrategy")
            if strategy:
                given["capacityProviderStrategy"] = strategy
            else:
                given["launchType"] = "EC2"

    async def update_service(
        self, context: RequestContext, request: ecs.UpdateServiceRequest
    ) -> ecs.UpdateServiceResponse:
        """Change a service; a new deployment begins when what its tasks are made of has changed, or is forced to."""
        cluster = self._own_cluster(context, request.cluster)
        changes = {k: v for k, v in wire(request).items() if k not in _OWN}
        known = self._known(cluster)
        alone = {k: v for k, v in changes.items() if k != "deploymentConfiguration"}
        rules.check(alone, known)
        await self._require_groups(cluster, changes.get("networkConfiguration"))
        definition = self._runnable(context, request.task_definition) if request.task_definition else None
        reference = f"{definition.family}:{definition.revision}" if definition is not None else None
        now, deployment_id = self.world.clock(), names.new_deployment_id()

        def change(old: Service | None) -> Service:
            if old is None:
                raise AwsError(*SERVICE_NOT_FOUND)
            if old.status != "ACTIVE":
                raise AwsError(*SERVICE_NOT_ACTIVE)
            merged = gateways.check_change(old, changes)
            rules.check_registries({**old.request, **merged})
            if is_external(old):
                check_update({**merged, "forceNewDeployment": request.force_new_deployment})
                return rules.updated(old, merged, None, False, deployment_id, now)
            if rules.is_daemon(old) and merged.get("desiredCount") is not None:
                rules.check({"schedulingStrategy": "DAEMON", "desiredCount": max(1, merged["desiredCount"])})
            if "deploymentConfiguration" in merged:
                configuration = rules.merged(old.request["deploymentConfiguration"], changes["deploymentConfiguration"])
                merged["deploymentConfiguration"] = configuration
                scheduling = old.request.get("schedulingStrategy", "REPLICA")
                rules.check({"schedulingStrategy": scheduling, "deploymentConfiguration": configuration})
            alarmed = self.world.alarmed(context.account, context.region, {**old.request, **merged})
            force = bool(request.force_new_deployment) or gateways.rolls(old, changes)
            new = rules.updated(old, merged, reference, force, deployment_id, now, alarmed=alarmed)
            used = definition or self._definition(context, new.deployments[0].task_definition)
            if used is not None:
                _check_fit(used, new.request, known)
            if new.express is not None and used is not None:
                new = express.followed(new, express.port_of(used.definition), None, now)
            if gateways.connector_of(new.request) is not None and used is not None:
                asked = bool(changes.get("gatewayConnectors"))
                new = gateways.followed(new, self._around(cluster), used.definition, asked=asked)
            return new

        key = (cluster.account, cluster.region, cluster.name, names.service_name(request.service))
        service = await self.world.store.update(SERVICE, key, change, "service.updated.v1")
        return ecs.UpdateServiceResponse(service=self._service_shape(service, with_tags=True) if service else None)

    async def delete_service(
        self, context: RequestContext, request: ecs.DeleteServiceRequest
    ) -> ecs.DeleteServiceResponse:
        """Let a service drain; with `force` also one that is scaled above 0. It is INACTIVE when its tasks are gone."""
        cluster = self._own_cluster(context, request.cluster)

        def change(old: Service | None) -> Service:
            if old is None or old.status == "INACTIVE":
                raise AwsError(*SERVICE_NOT_FOUND)
            if old.desired_count > 0 and not request.force and not rules.is_daemon(old):
                raise AwsError("InvalidParameterException", "The service cannot be stopped while it is scaled above 0.")
            return old if old.status == "DRAINING" else replace(old, status="DRAINING", desired_count=0)

        key = (cluster.account, cluster.region, cluster.name, names.service_name(request.service))
        service = await self.world.store.update(SERVICE, key, change, "service.draining.v1")
        return ecs.DeleteServiceResponse(service=self._service_shape(service, with_tags=False) if service else None)

    async def describe_services(
        self, context: RequestContext, request: ecs.DescribeServicesRequest
    ) -> ecs.DescribeServicesResponse:
        """The named services with their deployments and events; those that are not there as MISSING failures."""
        cluster = self._seen_cluster(context, request.cluster)
        if not 1 <= len(request.services) <= MAX_DESCRIBED:
            raise AwsError("InvalidParameterException", f"Specify between 1 and {MAX_DESCRIBED} services.")
        with_tags = "TAGS" in (request.include or ())
        found, failures = [], []
        for reference in request.services:
            name = names.service_name(reference)
            service = self.world.services.record(cluster.account, cluster.region, cluster.name, name)
            if service is None:
                arn = names.arn(cluster.account, cluster.region, "service", cluster.name, name)
                failures.append(ecs.Failure(arn=arn, reason="MISSING"))
            else:
                found.append(self._service_shape(service, with_tags=with_tags))
        return ecs.DescribeServicesResponse(services=found, failures=failures)

    async def list_services(
        self, context: RequestContext, request: ecs.ListServicesRequest
    ) -> ecs.ListServicesResponse:
        """The ARNs of services that are not INACTIVE."""
        cluster = self._seen_cluster(context, request.cluster)
        arns = sorted(
            names.arn(s.account, s.region, "service", s.cluster, s.name)
            for s in self.world.services.records(cluster.account, cluster.region, cluster.name)
            if s.status != "INACTIVE"
            and names.daemon_name(s.name) is None
            and request.launch_type in (None, _launch_type(s.request))
            and request.scheduling_strategy in (None, s.request.get("schedulingStrategy", "REPLICA"))
            and request.resource_management_type in (None, _managed_by(s))
        )
        shown, token = page(arns, request.next_token, request.max_results)
        return ecs.ListServicesResponse(service_arns=shown, next_token=token)

    def _service_shape(self, service: Service, *, with_tags: bool) -> ecs.Service:
        where = (service.account, service.region)
        members = self.world.members(*where, service.cluster, service.name)
        states = Counter(m.state for m in members)
        shape = msgspec.convert(_shown(service.request), ecs.Service)
        primary = service.deployments[0] if service.deployments else None
        shape.service_arn = names.arn(*where, "service", service.cluster, service.name)
        shape.service_name = service.name
        shape.cluster_arn = names.arn(*where, "cluster", service.cluster)
        shape.status = service.status
        shape.desired_count = service.desired_count
        shape.running_count = states["running"]
        shape.pending_count = states["pending"]
        if primary is not None:
            shape.task_definition = _definition_arn(service, primary)
        if is_external(service):
            shape.task_sets = [self._task_set(service, each) for each in service.task_sets]
            _show_primary(shape)
        shape.deployments = [self._deployment(service, d, members) for d in service.deployments]
        shape.events = [ecs.ServiceEvent(id=e.id, created_at=e.created_at, message=e.message) for e in service.events]
        if service.rollouts:
            latest = revision_id(service.rollouts[0].id)
            shape.current_service_deployment = names.arn(
                *where, "service-deployment", service.cluster, service.name, latest
            )
        shape.current_service_revisions = [self._revision(service, d, members) for d in service.deployments]
        shape.created_at = service.created_at
        shape.created_by = service.created_by or None
        shape.resource_management_type = _managed_by(service)  # type: ignore[assignment]
        shape.tags = tags.write(service.tags) if with_tags else None
        return shape

    def _revision(
        self, service: Service, deployment: Deployment, members: list[Member]
    ) -> ecs.ServiceCurrentRevisionSummary:
        where = (service.account, service.region)
        states = Counter(m.state for m in members if m.deployment == deployment.id)
        number = revision_id(deployment.id)
        return ecs.ServiceCurrentRevisionSummary(
            arn=names.arn(*where, "service-revision", service.cluster, service.name, number),
            requested_task_count=_requested(service, deployment, states),
            running_task_count=states["running"],
            pending_task_count=states["pending"],
        )

    def _deployment(self, service: Service, deployment: Deployment, members: list[Member]) -> ecs.Deployment:
        own = [m for m in members if m.deployment == deployment.id]
        states = Counter(m.state for m in own)
        shape = msgspec.convert(
            {
                "capacityProviderStrategy": deployment.capacity_provider_strategy,
                "networkConfiguration": deployment.network_configuration or None,
            },
            ecs.Deployment,
        )
        shape.id = deployment.id
        shape.status = deployment.status
        shape.task_definition = _definition_arn(service, deployment)
        shape.desired_count = _requested(service, deployment, states)
        shape.running_count = states["running"]
        shape.pending_count = states["pending"]
        shape.failed_tasks = history(own, self.world.clock(), self.world.backoff).failures
        shape.created_at = deployment.created_at
        shape.updated_at = deployment.updated_at
        shape.rollout_state = deployment.rollout_state  # type: ignore[assignment]
        shape.rollout_state_reason = deployment.rollout_state_reason
        if deployment.launch_type:
            shape.launch_type = deployment.launch_type  # type: ignore[assignment]
            shape.platform_version = of_launch_type(
                deployment.launch_type, deployment.platform_version
            ).platform_version
            shape.platform_family = "Linux" if deployment.launch_type == "FARGATE" else None
        return shape


def _managed_by(service: Service) -> str:
    """Who sees to what is around it: ECS for an Express service."""
    return "ECS" if service.express is not None else "CUSTOMER"


def _requested(service: Service, deployment: Deployment, states: Counter[str]) -> int:
    """How many tasks a deployment is to have; one that is kept as it is, those that it has."""
    wanted = wanted_count(service, deployment)
    return states["running"] + states["pending"] if wanted is None else wanted


def _show_primary(shape: ecs.Service) -> None:
    """What a service's primary task set is made of is shown as the service's own."""
    primary = next((s for s in shape.task_sets or () if s.status == "PRIMARY"), None)
    if primary is not None:
        for member in ("task_definition", "launch_type", "platform_version", "platform_family"):
            setattr(shape, member, getattr(primary, member))
        shape.network_configuration = primary.network_configuration
        shape.service_registries = primary.service_registries
        shape.capacity_provider_strategy = primary.capacity_provider_strategy


def _launch_type(request: dict[str, Any]) -> str:
    return request.get("launchType") or "FARGATE"


def _definition_arn(service: Service, deployment: Deployment) -> str:
    family, _, revision = deployment.task_definition.rpartition(":")
    return names.task_definition_arn(service.account, service.region, family, int(revision))


def _shown(request: dict[str, Any]) -> dict[str, Any]:
    """The members of the request that DescribeServices gives back, with ECS' defaults."""
    shown = {
        "loadBalancers": [],
        "serviceRegistries": [],
        "placementConstraints": [],
        "placementStrategy": [],
        "schedulingStrategy": "REPLICA",
        "deploymentController": {"type": "ECS"},
        "enableECSManagedTags": False,
        "enableExecuteCommand": False,
        "propagateTags": "NONE",
        "availabilityZoneRebalancing": "DISABLED",
        **request,
    }
    if shown.get("launchType") == "FARGATE":
        shown["platformVersion"] = of_launch_type("FARGATE", shown.get("platformVersion")).platform_version
        shown["platformFamily"] = "Linux"
    return shown


def _check_fit(definition: TaskDefinition, request: dict[str, Any], known: Mapping[str, str]) -> None:
    """Refuse a service that could not start a single task of this definition. `known`: the capacity providers with the
    launch types of their tasks."""
    check_support(definition, launch_type_of(request, known))
    check_network(definition, request.get("networkConfiguration") or {})
    read(request.get("placementConstraints") or (), request.get("placementStrategy") or ())
