"""Workloads: hidden ECS services that another service has run for it. A definition and a service, one write each."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from contracts.records.scheduler import CLUSTER, SERVICE, TASK_DEFINITION, Cluster, Service, TaskDefinition
from contracts.rpc.scheduler import WORKLOADS_CLUSTER, DeleteWorkload, PutWorkload, WorkloadDeleted, WorkloadPut
from services.scheduler.adapters import World
from services.scheduler.decisions import names
from services.scheduler.decisions import services as rules
from services.scheduler.decisions.express import NETWORK
from services.scheduler.decisions.requests import check_network, check_support
from services.scheduler.handlers.definitions import definition_record
from services.scheduler.handlers.tasks import next_revision
from services.shared.errors import AwsError

_WHO = "apprunner.amazonaws.com"


class Workloads:
    """Carries out PUT_WORKLOAD and DELETE_WORKLOAD."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def put(self, request: PutWorkload) -> WorkloadPut:
        """Make or change a workload. Raises AwsError as RegisterTaskDefinition and CreateService do."""
        self._world.require_connection()
        if not names.NAME.match(request.name):
            raise AwsError("InvalidParameterException", "Invalid service name.")
        await self._cluster(request.account, request.region)
        definition = await self._definition(request)
        network = request.network_configuration
        if not network and definition.definition.get("networkMode") == "awsvpc":
            network = NETWORK
        check_support(definition, "FARGATE")
        check_network(definition, network)
        given = {"desiredCount": request.desired_count, "launchType": "FARGATE", "networkConfiguration": network}
        given |= {"stopFirst": request.stop_first, "serviceRegistries": request.service_registries}
        rules.check(given)
        reference = f"{definition.family}:{definition.revision}"
        service = await self._service(request, given, reference)
        return WorkloadPut(cluster=service.cluster, service=service.name, task_definition=reference)

    async def delete(self, request: DeleteWorkload) -> WorkloadDeleted:
        """Let it drain; its definitions go when nothing uses them any more."""
        world = self._world
        world.require_connection()
        key = (request.account, request.region, WORKLOADS_CLUSTER, request.name)

        def drain(old: Service | None) -> Service | None:
            if old is None or old.status != "ACTIVE":
                return old
            return replace(old, status="DRAINING", desired_count=0)

        found = await world.store.update(SERVICE, key, drain, "service.draining.v1")
        for record in world.definitions.records(request.account, request.region, request.name):
            if record.hidden and record.status == "ACTIVE":
                await self._forget(record)
        return WorkloadDeleted(found=found is not None)

    async def _forget(self, record: TaskDefinition) -> None:
        now = self._world.clock()

        def change(old: TaskDefinition | None) -> TaskDefinition | None:
            if old is None or old.status != "ACTIVE":
                return old
            return replace(old, status="DELETE_IN_PROGRESS", deregistered_at=now, delete_requested_at=now)

        key = TASK_DEFINITION.key_of(record)
        await self._world.store.update(TASK_DEFINITION, key, change, "task_definition.deleting.v1")

    async def _cluster(self, account: str, region: str) -> None:
        fresh = Cluster(
            account=account,
            region=region,
            name=WORKLOADS_CLUSTER,
            status="ACTIVE",
            created_at=self._world.clock(),
            hidden=True,
        )

        def change(old: Cluster | None) -> Cluster:
            return old if old is not None and old.status == "ACTIVE" else fresh

        await self._world.store.update(CLUSTER, CLUSTER.key_of(fresh), change, "cluster.created.v1")

    async def _definition(self, request: PutWorkload) -> TaskDefinition:
        """The revision that says just this; a new one when there is none."""
        record = self._fresh_definition(request)
        for known in self._world.definitions.records(request.account, request.region, record.family):
            if known.status == "ACTIVE" and known.hidden and known.definition == record.definition:
                return known
        return await next_revision(self._world, record)

    def _fresh_definition(self, request: PutWorkload) -> TaskDefinition:
        return definition_record(
            request.definition, account=request.account, region=request.region, family=request.name,
            now=self._world.clock(), by=_WHO, tags=request.tags, hidden=True,
        )  # fmt: skip

    async def _service(self, request: PutWorkload, given: dict[str, Any], reference: str) -> Service:
        now, deployment_id = self._world.clock(), names.new_deployment_id()
        complete_request = {**given, "deploymentConfiguration": rules.completed(None)}
        key = (request.account, request.region, WORKLOADS_CLUSTER, request.name)
        deployments = rules.begun(complete_request, reference, deployment_id, now)
        count = request.desired_count
        fresh = rules.fresh(key, complete_request, deployments, _WHO, request.tags, now, desired_count=count)

        def change(old: Service | None) -> Service:
            if old is None or old.status == "INACTIVE":
                return fresh
            if old.status == "DRAINING":
                raise AwsError("InvalidParameterException", "Unable to Start a service that is still Draining.")
            primary = old.deployments[0]
            same = old.desired_count == request.desired_count and primary.task_definition == reference
            if same and all(old.request.get(member) == value for member, value in given.items()):
                return old
            return rules.updated(old, given, reference, False, deployment_id, now)

        known = self._world.services.record(*key)
        event = "service.created.v1" if known is None or known.status == "INACTIVE" else "service.updated.v1"
        return await self._world.store.update(SERVICE, key, change, event) or fresh
