"""Namespaces, and tags."""

from __future__ import annotations

from msgspec.structs import replace

from contracts.aws import servicediscovery as sd
from contracts.records.discovery import DISCOVERY_SERVICE, NAMESPACE, DiscoveryService, Namespace
from services.discovery.api.base import CloudMapBase, read_tags, selected
from services.discovery.decisions import names, wire
from services.discovery.decisions.instances import invalid
from services.discovery.handlers import tell_operation
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError

MOST_TAGS = 50


class Namespaces(CloudMapBase):
    """CreatePrivateDnsNamespace, CreateHttpNamespace and their like."""

    async def create_private_dns_namespace(
        self, context: RequestContext, request: sd.CreatePrivateDnsNamespaceRequest
    ) -> sd.CreatePrivateDnsNamespaceResponse:
        """A namespace whose services have names in the DNS. The VPC is kept, and means nothing here."""
        try:
            wire.name_of(request.name)
        except ValueError as error:
            raise invalid(str(error)) from None
        soa = request.properties.dns_properties.soa.ttl if request.properties is not None else 15
        operation = await self._create(
            context, request, "DNS_PRIVATE", vpc=request.vpc, soa_ttl=soa, hosted_zone_id=names.hosted_zone_id()
        )
        return sd.CreatePrivateDnsNamespaceResponse(operation_id=operation)

    async def create_http_namespace(
        self, context: RequestContext, request: sd.CreateHttpNamespaceRequest
    ) -> sd.CreateHttpNamespaceResponse:
        """A namespace whose services are found by DiscoverInstances alone."""
        return sd.CreateHttpNamespaceResponse(operation_id=await self._create(context, request, "HTTP"))

    async def create_public_dns_namespace(
        self, context: RequestContext, request: sd.CreatePublicDnsNamespaceRequest
    ) -> sd.CreatePublicDnsNamespaceResponse:
        """Refused: names of the public DNS are not this machine's to give."""
        raise invalid(
            "Roadstead has no public DNS: create a private namespace (CreatePrivateDnsNamespace); tasks resolve it."
        )

    async def _create(
        self,
        context: RequestContext,
        request: sd.CreatePrivateDnsNamespaceRequest | sd.CreateHttpNamespaceRequest,
        kind: str,
        *,
        vpc: str = "",
        soa_ttl: int = 15,
        hosted_zone_id: str = "",
    ) -> str:
        tags = read_tags(request.tags)
        _check_tags(tags)
        async with self.world.naming:
            there = self.world.namespace_named(context.account, context.region, request.name)
            if there is not None:
                if there.creator_request_id and there.creator_request_id == request.creator_request_id:
                    return there.operation
                raise AwsError(
                    "NamespaceAlreadyExists",
                    f"There is a namespace {there.name} already.",
                    CreatorRequestId=there.creator_request_id,
                    NamespaceId=there.id,
                )
            fresh = Namespace(
                account=context.account,
                region=context.region,
                id=names.namespace_id(),
                name=request.name,
                type=kind,
                created_at=self.world.clock(),
                operation=names.operation_id(),
                creator_request_id=request.creator_request_id or "",
                description=request.description,
                vpc=vpc,
                hosted_zone_id=hosted_zone_id,
                soa_ttl=soa_ttl,
                tags=tags,
            )
            await self.world.store.put(NAMESPACE, fresh, "namespace.created.v1", expect=0)
        return await self._told_of(fresh, "CREATE_NAMESPACE", fresh.operation)

    async def _told_of(self, namespace: Namespace, kind: str, operation: str = "") -> str:
        where = (namespace.account, namespace.region)
        return await tell_operation(self.world, *where, kind, {"NAMESPACE": namespace.id}, operation)

    async def get_namespace(
        self, context: RequestContext, request: sd.GetNamespaceRequest
    ) -> sd.GetNamespaceResponse:  # fmt: skip
        """One of them."""
        namespace = self.namespace(context, request.id)
        return sd.GetNamespaceResponse(
            namespace=sd.Namespace(
                id=namespace.id,
                arn=_arn(namespace),
                resource_owner=namespace.account,
                name=namespace.name,
                type=namespace.type,  # type: ignore[arg-type]
                description=namespace.description,
                service_count=len(self.world.services_of(namespace)),
                properties=_properties(namespace),
                create_date=namespace.created_at,
                creator_request_id=namespace.creator_request_id or None,
            )
        )

    async def list_namespaces(
        self, context: RequestContext, request: sd.ListNamespacesRequest
    ) -> sd.ListNamespacesResponse:
        """Those that pass every filter."""
        found = [
            n
            for n in self.world.namespaces.records(context.account, context.region)
            if all(selected(f.condition, f.values, _member(n, f.name)) for f in request.filters or ())
        ]
        shown, token = names.page(found, lambda n: n.id, request.max_results, request.next_token)
        return sd.ListNamespacesResponse(namespaces=[self._namespace_summary(n) for n in shown], next_token=token)

    def _namespace_summary(self, namespace: Namespace) -> sd.NamespaceSummary:
        return sd.NamespaceSummary(
            id=namespace.id,
            arn=_arn(namespace),
            resource_owner=namespace.account,
            name=namespace.name,
            type=namespace.type,  # type: ignore[arg-type]
            description=namespace.description,
            service_count=len(self.world.services_of(namespace)),
            properties=_properties(namespace),
            create_date=namespace.created_at,
        )

    async def delete_namespace(
        self, context: RequestContext, request: sd.DeleteNamespaceRequest
    ) -> sd.DeleteNamespaceResponse:
        """One that has no service any more."""
        async with self.world.naming:
            namespace = self.namespace(context, request.id)
            if self.world.services_of(namespace):
                raise AwsError("ResourceInUse", f"The namespace {namespace.id} still has services.")
            await self.world.store.delete(NAMESPACE, NAMESPACE.key_of(namespace), "namespace.deleted.v1")
        return sd.DeleteNamespaceResponse(operation_id=await self._told_of(namespace, "DELETE_NAMESPACE"))

    async def update_http_namespace(
        self, context: RequestContext, request: sd.UpdateHttpNamespaceRequest
    ) -> sd.UpdateHttpNamespaceResponse:
        """A new description."""
        operation = await self._update(context, request.id, request.namespace.description, None)
        return sd.UpdateHttpNamespaceResponse(operation_id=operation)

    async def update_private_dns_namespace(
        self, context: RequestContext, request: sd.UpdatePrivateDnsNamespaceRequest
    ) -> sd.UpdatePrivateDnsNamespaceResponse:
        """A new description, a new TTL of the SOA record."""
        change = request.namespace
        soa = change.properties.dns_properties.soa.ttl if change.properties is not None else None
        operation = await self._update(context, request.id, change.description, soa)
        return sd.UpdatePrivateDnsNamespaceResponse(operation_id=operation)

    async def _update(self, context: RequestContext, reference: str, description: str | None, soa: int | None) -> str:
        namespace = self.namespace(context, reference)

        def change(old: Namespace | None) -> Namespace:
            if old is None:
                raise AwsError("NamespaceNotFound", f"There is no namespace {reference}.")
            new = old if description is None else replace(old, description=description)
            return new if soa is None else replace(new, soa_ttl=soa)

        await self.world.store.update(NAMESPACE, NAMESPACE.key_of(namespace), change, "namespace.updated.v1")
        return await self._told_of(namespace, "UPDATE_NAMESPACE")

    async def tag_resource(self, context: RequestContext, request: sd.TagResourceRequest) -> sd.TagResourceResponse:
        """Add tags to a namespace or a service."""
        added = read_tags(request.tags)
        await self._retag(context, request.resource_arn, lambda tags: {**tags, **added})
        return sd.TagResourceResponse()

    async def untag_resource(
        self, context: RequestContext, request: sd.UntagResourceRequest
    ) -> sd.UntagResourceResponse:
        """Remove tags."""
        gone = set(request.tag_keys)
        await self._retag(context, request.resource_arn, lambda tags: {k: v for k, v in tags.items() if k not in gone})
        return sd.UntagResourceResponse()

    async def list_tags_for_resource(
        self, context: RequestContext, request: sd.ListTagsForResourceRequest
    ) -> sd.ListTagsForResourceResponse:
        """The tags."""
        tags = self._tagged(context, request.resource_arn).tags
        return sd.ListTagsForResourceResponse(tags=[sd.Tag(key=k, value=v) for k, v in sorted(tags.items())])

    def _tagged(self, context: RequestContext, arn: str) -> Namespace | DiscoveryService:
        key = (context.account, context.region, names.id_of(arn))
        found = self.world.services.record(*key) or self.world.namespaces.record(*key)
        if found is None or not arn.startswith("arn:"):
            raise AwsError("ResourceNotFoundException", f"There is no resource {arn}.")
        return found

    async def _retag(self, context, arn, change) -> None:
        found = self._tagged(context, arn)
        kind = NAMESPACE if isinstance(found, Namespace) else DISCOVERY_SERVICE

        def retagged(old):
            if old is None:
                raise AwsError("ResourceNotFoundException", f"There is no resource {arn}.")
            tags = change(old.tags)
            _check_tags(tags)
            return replace(old, tags=tags)

        event = "namespace.tagged.v1" if kind is NAMESPACE else "discovery_service.tagged.v1"
        await self.world.store.update(kind, kind.key_of(found), retagged, event)


def _check_tags(tags: dict[str, str]) -> None:
    if len(tags) > MOST_TAGS:
        raise AwsError("TooManyTagsException", f"A resource has at most {MOST_TAGS} tags.")


def _arn(namespace: Namespace) -> str:
    return names.arn(namespace.account, namespace.region, "namespace", namespace.id)


def _member(namespace: Namespace, name: str) -> str:
    if name == "TYPE":
        return namespace.type
    return "SELF" if name == "RESOURCE_OWNER" else namespace.name


def _properties(namespace: Namespace) -> sd.NamespaceProperties:
    http = sd.HttpProperties(http_name=namespace.name)
    if namespace.type == "HTTP":
        return sd.NamespaceProperties(http_properties=http)
    dns = sd.DnsProperties(hosted_zone_id=namespace.hosted_zone_id, soa=sd.SOA(ttl=namespace.soa_ttl))
    return sd.NamespaceProperties(dns_properties=dns, http_properties=http)
