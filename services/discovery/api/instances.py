"""Instances of services."""

from __future__ import annotations

from contracts.aws import servicediscovery as sd
from contracts.records.discovery import INSTANCE
from services.discovery.api.base import CloudMapBase
from services.discovery.decisions import names
from services.discovery.decisions.instances import check
from services.discovery.decisions.registries import Registration
from services.discovery.handlers import deregister, register, tell_health, tell_operation
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError


class Instances(CloudMapBase):
    """RegisterInstance and its like."""

    async def register_instance(
        self, context: RequestContext, request: sd.RegisterInstanceRequest
    ) -> sd.RegisterInstanceResponse:
        """Register, or replace the attributes of the instance with this id."""
        async with self.world.naming:
            service = self.service(context, request.service_id)
            check(service, request.attributes)
            there = self.world.instances.record(service.account, service.region, service.id, request.instance_id)
            if there is not None and there.owner:
                raise AwsError("ResourceInUse", f"The instance {there.id} is a task of {there.owner}.")
            await register(
                self.world,
                service,
                request.instance_id,
                Registration(request.attributes),
                request_id=request.creator_request_id or "",
            )
        operation = await self._told(context, "REGISTER_INSTANCE", service.id, request.instance_id)
        return sd.RegisterInstanceResponse(operation_id=operation)

    async def deregister_instance(
        self, context: RequestContext, request: sd.DeregisterInstanceRequest
    ) -> sd.DeregisterInstanceResponse:
        """Take it out."""
        service = self.service(context, request.service_id)
        instance = self.instance(service, request.instance_id)
        await deregister(self.world, INSTANCE.key_of(instance))
        operation = await self._told(context, "DEREGISTER_INSTANCE", service.id, instance.id)
        return sd.DeregisterInstanceResponse(operation_id=operation)

    async def _told(self, context: RequestContext, kind: str, service: str, instance: str) -> str:
        targets = {"INSTANCE": instance, "SERVICE": service}
        return await tell_operation(self.world, context.account, context.region, kind, targets)

    async def get_instance(self, context: RequestContext, request: sd.GetInstanceRequest) -> sd.GetInstanceResponse:
        """One of them."""
        found = self.instance(self.service(context, request.service_id), request.instance_id)
        shape = sd.Instance(
            id=found.id,
            creator_request_id=found.creator_request_id or None,
            attributes=found.attributes,
            created_by_account=found.account,
        )
        return sd.GetInstanceResponse(resource_owner=found.account, instance=shape)

    async def list_instances(
        self, context: RequestContext, request: sd.ListInstancesRequest
    ) -> sd.ListInstancesResponse:
        """All of a service."""
        found = self.instances_of(self.service(context, request.service_id))
        shown, token = names.page(found, lambda i: i.id, request.max_results, request.next_token)
        summaries = [sd.InstanceSummary(id=i.id, attributes=i.attributes, created_by_account=i.account) for i in shown]
        return sd.ListInstancesResponse(resource_owner=context.account, instances=summaries, next_token=token)

    async def get_instances_health_status(
        self, context: RequestContext, request: sd.GetInstancesHealthStatusRequest
    ) -> sd.GetInstancesHealthStatusResponse:
        """The health of the named instances, or of all. Raises InstanceNotFound for one that is not there."""
        service = self.service(context, request.service_id)
        if request.instances is None:
            found = self.instances_of(service)
        else:
            found = [self.instance(service, each) for each in dict.fromkeys(request.instances)]
        shown, token = names.page(found, lambda i: i.id, request.max_results, request.next_token)
        return sd.GetInstancesHealthStatusResponse(
            status={i.id: i.health for i in shown},  # type: ignore[misc]
            next_token=token,
        )

    async def update_instance_custom_health_status(
        self, context: RequestContext, request: sd.UpdateInstanceCustomHealthStatusRequest
    ) -> None:
        """Say how it is; the DNS leaves unhealthy ones out from now on, unless all are."""
        service = self.service(context, request.service_id)
        instance = self.instance(service, request.instance_id)
        if not service.custom_health:
            raise AwsError("CustomHealthNotFound", f"The service {service.id} has no HealthCheckCustomConfig.")
        if not await tell_health(self.world, INSTANCE.key_of(instance), request.status):
            raise AwsError("InstanceNotFound", f"The service {service.id} has no instance {instance.id}.")
