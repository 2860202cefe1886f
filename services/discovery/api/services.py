"""Services of namespaces."""

from __future__ import annotations

from msgspec.structs import replace

from contracts.aws import servicediscovery as sd
from contracts.records.discovery import DISCOVERY_SERVICE, DiscoveryService, DnsRecord, Namespace
from services.discovery.api.base import CloudMapBase, read_tags, selected
from services.discovery.decisions import names, wire
from services.discovery.decisions.instances import check_records, invalid
from services.discovery.handlers import tell_operation
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError

MOST_ATTRIBUTES = 30


class Services(CloudMapBase):
    """CreateService and its like."""

    async def create_service(
        self, context: RequestContext, request: sd.CreateServiceRequest
    ) -> sd.CreateServiceResponse:
        """A name in a namespace. Route 53's own health checks are refused: there is nobody to make them."""
        reference = request.namespace_id or (request.dns_config.namespace_id if request.dns_config else None)
        if not reference:
            raise invalid("NamespaceId is required.")
        if request.health_check_config is not None:
            raise invalid("Roadstead makes no Route 53 health checks: use HealthCheckCustomConfig.")
        async with self.world.naming:
            namespace = self.namespace(context, reference)
            fresh = self._fresh(context, request, namespace)
            there = self.world.service_named(namespace, fresh.name)
            if there is not None:
                if fresh.creator_request_id and there.creator_request_id == fresh.creator_request_id:
                    return sd.CreateServiceResponse(service=self._service_shape(there))
                raise AwsError(
                    "ServiceAlreadyExists",
                    f"The namespace {namespace.id} has a service {there.name} already.",
                    CreatorRequestId=there.creator_request_id,
                    ServiceId=there.id,
                )
            await self.world.store.put(DISCOVERY_SERVICE, fresh, "discovery_service.created.v1", expect=0)
        return sd.CreateServiceResponse(service=self._service_shape(fresh))

    def _fresh(
        self, context: RequestContext, request: sd.CreateServiceRequest, namespace: Namespace
    ) -> DiscoveryService:
        records: list[DnsRecord] = []
        routing = "MULTIVALUE"
        if request.dns_config is not None and request.type is None:
            if namespace.type == "HTTP":
                raise invalid("A service of an HTTP namespace has no DnsConfig.")
            records = [DnsRecord(type=r.type, ttl=r.ttl) for r in request.dns_config.dns_records]
            routing = request.dns_config.routing_policy or "MULTIVALUE"
            check_records(records, routing)
            try:
                wire.name_of(namespace.name if request.name == "." else f"{request.name}.{namespace.name}")
            except ValueError as error:
                raise invalid(str(error)) from None
        return DiscoveryService(
            account=context.account,
            region=context.region,
            id=names.service_id(),
            name=request.name,
            namespace=namespace.id,
            type="DNS_HTTP" if records else "HTTP",
            created_at=self.world.clock(),
            creator_request_id=request.creator_request_id or "",
            description=request.description,
            routing_policy=routing,
            dns_records=records,
            custom_health=request.health_check_custom_config is not None,
            tags=read_tags(request.tags),
        )

    async def get_service(self, context: RequestContext, request: sd.GetServiceRequest) -> sd.GetServiceResponse:
        """One of them."""
        return sd.GetServiceResponse(service=self._service_shape(self.service(context, request.id)))

    async def list_services(
        self, context: RequestContext, request: sd.ListServicesRequest
    ) -> sd.ListServicesResponse:  # fmt: skip
        """Those that pass every filter."""
        found = [
            s
            for s in self.world.services.records(context.account, context.region)
            if all(
                selected(f.condition, [names.id_of(v) for v in f.values], s.namespace)
                if f.name == "NAMESPACE_ID"
                else selected(f.condition, f.values, "SELF")
                for f in request.filters or ()
            )
        ]
        shown, token = names.page(found, lambda s: s.id, request.max_results, request.next_token)
        return sd.ListServicesResponse(services=[self._service_summary(s) for s in shown], next_token=token)

    async def update_service(
        self, context: RequestContext, request: sd.UpdateServiceRequest
    ) -> sd.UpdateServiceResponse:  # fmt: skip
        """What the request has replaces what there was; DNS records can get other TTLs, and be removed."""
        service = self.service(context, request.id)
        if request.service.health_check_config is not None:
            raise invalid("Roadstead makes no Route 53 health checks: use HealthCheckCustomConfig.")

        def change(old: DiscoveryService | None) -> DiscoveryService:
            if old is None:
                raise AwsError("ServiceNotFound", f"There is no service {request.id}.")
            new = old
            if request.service.description is not None:
                new = replace(new, description=request.service.description)
            if request.service.dns_config is not None:
                given = [DnsRecord(type=r.type, ttl=r.ttl) for r in request.service.dns_config.dns_records]
                if {r.type for r in given} - {r.type for r in old.dns_records}:
                    raise invalid("A service can't get records of a type that it was not created with.")
                check_records(given, old.routing_policy)
                new = replace(new, dns_records=given)
            return new

        key = DISCOVERY_SERVICE.key_of(service)
        await self.world.store.update(DISCOVERY_SERVICE, key, change, "discovery_service.updated.v1")
        targets = {"SERVICE": service.id}
        operation = await tell_operation(self.world, context.account, context.region, "UPDATE_SERVICE", targets)
        return sd.UpdateServiceResponse(operation_id=operation)

    async def delete_service(
        self, context: RequestContext, request: sd.DeleteServiceRequest
    ) -> sd.DeleteServiceResponse:  # fmt: skip
        """One that has no instance any more."""
        async with self.world.naming:
            service = self.service(context, request.id)
            if self.instances_of(service):
                raise AwsError("ResourceInUse", f"The service {service.id} still has instances.")
            key = DISCOVERY_SERVICE.key_of(service)
            await self.world.store.delete(DISCOVERY_SERVICE, key, "discovery_service.deleted.v1")
        return sd.DeleteServiceResponse()

    async def get_service_attributes(
        self, context: RequestContext, request: sd.GetServiceAttributesRequest
    ) -> sd.GetServiceAttributesResponse:
        """What somebody noted about a service."""
        service = self.service(context, request.service_id)
        shape = sd.ServiceAttributes(
            service_arn=_arn(service), resource_owner=service.account, attributes=service.attributes
        )
        return sd.GetServiceAttributesResponse(service_attributes=shape)

    async def update_service_attributes(
        self, context: RequestContext, request: sd.UpdateServiceAttributesRequest
    ) -> sd.UpdateServiceAttributesResponse:
        """Add to it."""
        await self._note(context, request.service_id, lambda old: {**old, **request.attributes})
        return sd.UpdateServiceAttributesResponse()

    async def delete_service_attributes(
        self, context: RequestContext, request: sd.DeleteServiceAttributesRequest
    ) -> sd.DeleteServiceAttributesResponse:
        """Take from it."""
        gone = set(request.attributes)
        await self._note(context, request.service_id, lambda old: {k: v for k, v in old.items() if k not in gone})
        return sd.DeleteServiceAttributesResponse()

    async def _note(self, context, reference, change) -> None:
        def noted(old: DiscoveryService | None) -> DiscoveryService:
            if old is None:
                raise AwsError("ServiceNotFound", f"There is no service {reference}.")
            attributes = change(old.attributes)
            if len(attributes) > MOST_ATTRIBUTES:
                raise AwsError("ServiceAttributesLimitExceededException", f"At most {MOST_ATTRIBUTES} attributes.")
            return replace(old, attributes=attributes)

        key = DISCOVERY_SERVICE.key_of(self.service(context, reference))
        await self.world.store.update(DISCOVERY_SERVICE, key, noted, "discovery_service.updated.v1")

    def _service_shape(self, service: DiscoveryService) -> sd.Service:
        return sd.Service(
            id=service.id,
            arn=_arn(service),
            resource_owner=service.account,
            name=service.name,
            namespace_id=service.namespace,
            description=service.description,
            instance_count=len(self.instances_of(service)),
            dns_config=_dns(service),
            type=service.type,  # type: ignore[arg-type]
            health_check_custom_config=_custom(service),
            create_date=service.created_at,
            creator_request_id=service.creator_request_id or None,
            created_by_account=service.account,
        )

    def _service_summary(self, service: DiscoveryService) -> sd.ServiceSummary:
        return sd.ServiceSummary(
            id=service.id,
            arn=_arn(service),
            resource_owner=service.account,
            name=service.name,
            type=service.type,  # type: ignore[arg-type]
            description=service.description,
            instance_count=len(self.instances_of(service)),
            dns_config=_dns(service),
            health_check_custom_config=_custom(service),
            create_date=service.created_at,
            created_by_account=service.account,
        )


def _arn(service: DiscoveryService) -> str:
    return names.arn(service.account, service.region, "service", service.id)


def _dns(service: DiscoveryService) -> sd.DnsConfig | None:
    if not service.dns_records:
        return None
    return sd.DnsConfig(
        namespace_id=service.namespace,
        routing_policy=service.routing_policy,  # type: ignore[arg-type]
        dns_records=[sd.DnsRecord(type=r.type, ttl=r.ttl) for r in service.dns_records],  # type: ignore[arg-type]
    )


def _custom(service: DiscoveryService) -> sd.HealthCheckCustomConfig | None:
    return sd.HealthCheckCustomConfig(failure_threshold=1) if service.custom_health else None
