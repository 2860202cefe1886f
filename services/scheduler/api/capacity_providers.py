"""Capacity providers: FARGATE, FARGATE_SPOT, and those of users, which are kinds of nodes.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/cluster-capacity-providers.html
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from contracts.aws import ecs
from contracts.records.scheduler import CAPACITY_PROVIDER, CapacityProvider
from services.scheduler.api.base import EcsBase, wire
from services.scheduler.decisions import names, tags
from services.scheduler.decisions.capacity import FARGATE_PROVIDERS, check_provider, check_scaling, not_found
from services.scheduler.decisions.pages import page
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError

LARGEST_PAGE = 10


class CapacityProviders(EcsBase):
    """CreateCapacityProvider and its like."""

    async def create_capacity_provider(
        self, context: RequestContext, request: ecs.CreateCapacityProviderRequest
    ) -> ecs.CreateCapacityProviderResponse:
        """Make a provider of the nodes whose kind is its name."""
        self.world.require_connection()
        given = {k: v for k, v in wire(request).items() if k not in ("name", "tags")}
        check_provider(request.name, given)
        cluster = self._own_cluster(context, given.pop("cluster")).name if given.get("cluster") else ""
        fresh = CapacityProvider(
            account=context.account,
            region=context.region,
            name=request.name,
            status="ACTIVE",
            created_at=self.world.clock(),
            request=given,
            cluster=cluster,
            tags=tags.read(request.tags),
        )

        def change(old: CapacityProvider | None) -> CapacityProvider:
            if old is not None and old.status == "ACTIVE":
                said = "A capacity provider with the specified name already exists."
                raise AwsError("InvalidParameterException", f"{said} Specify a unique name and try again.")
            return fresh

        key = CAPACITY_PROVIDER.key_of(fresh)
        await self.world.store.update(CAPACITY_PROVIDER, key, change, "capacity_provider.created.v1")
        return ecs.CreateCapacityProviderResponse(capacity_provider=_shape(fresh, with_tags=True))

    async def describe_capacity_providers(
        self, context: RequestContext, request: ecs.DescribeCapacityProvidersRequest
    ) -> ecs.DescribeCapacityProvidersResponse:
        """The named providers, all of them when none is named; those that are not there as MISSING failures."""
        self.world.require_connection()
        account, region = context.account, context.region
        own = {p.name: p for p in self.world.providers.records(account, region)}
        every = {**{name: _fargate(account, region, name) for name in FARGATE_PROVIDERS}, **own}
        wanted = [names.last_part(reference) for reference in request.capacity_providers or sorted(every)]
        missing = [
            ecs.Failure(arn=names.arn(account, region, "capacity-provider", name), reason="MISSING")
            for name in wanted
            if name not in every
        ]
        known = sorted({name for name in wanted if name in every})
        shown, token = page(known, request.next_token, request.max_results, largest=LARGEST_PAGE)
        with_tags = "TAGS" in (request.include or ())
        return ecs.DescribeCapacityProvidersResponse(
            capacity_providers=[_shape(every[name], with_tags=with_tags) for name in shown],
            failures=missing,
            next_token=token,
        )

    async def update_capacity_provider(
        self, context: RequestContext, request: ecs.UpdateCapacityProviderRequest
    ) -> ecs.UpdateCapacityProviderResponse:
        """Change how the group, or the instances, are managed; what is not given stays."""
        given = wire(request)
        changes = {
            name: given[name] for name in ("autoScalingGroupProvider", "managedInstancesProvider") if name in given
        }
        if len(changes) != 1:
            said = "Specify either an autoScalingGroupProvider or a managedInstancesProvider."
            raise AwsError("InvalidParameterException", said)
        ((member, changed),) = changes.items()
        check_scaling(changed)

        def change(old: CapacityProvider) -> CapacityProvider:
            if member not in old.request:
                raise AwsError("InvalidParameterException", f"The capacity provider has no {member}.")
            made: dict[str, Any] = {**old.request, member: {**old.request[member], **changed}}
            return replace(old, request=made, update_status="UPDATE_COMPLETE")

        updated = await self._change_provider(context, request.name, change, "capacity_provider.updated.v1")
        return ecs.UpdateCapacityProviderResponse(capacity_provider=_shape(updated, with_tags=True))

    async def delete_capacity_provider(
        self, context: RequestContext, request: ecs.DeleteCapacityProviderRequest
    ) -> ecs.DeleteCapacityProviderResponse:
        """Make a provider INACTIVE; refused while a cluster or a service has it."""
        name = names.last_part(request.capacity_provider)
        if name in FARGATE_PROVIDERS:
            raise AwsError("InvalidParameterException", f"The capacity provider '{name}' is reserved.")
        self.world.require_connection()
        where = (context.account, context.region)
        clusters = [c for c in self.world.clusters.records(*where) if c.status == "ACTIVE"]
        used = [c.name for c in clusters if name in c.request.get("capacityProviders", ())]
        used += [
            service.name
            for service in self.world.services.records(*where)
            if service.status != "INACTIVE"
            and any(i["capacityProvider"] == name for i in service.request.get("capacityProviderStrategy") or ())
        ]
        if used:
            said = "The specified capacity provider is in use and cannot be removed"
            raise AwsError("ResourceInUseException", f"{said} ({', '.join(sorted(used))}).")

        def change(old: CapacityProvider) -> CapacityProvider:
            return replace(old, status="INACTIVE", update_status="DELETE_COMPLETE")

        deleted = await self._change_provider(context, name, change, "capacity_provider.deleted.v1")
        return ecs.DeleteCapacityProviderResponse(capacity_provider=_shape(deleted, with_tags=False))

    async def _change_provider(self, context: RequestContext, name: str, change: Any, event: str) -> CapacityProvider:
        self.world.require_connection()

        def changed(old: CapacityProvider | None) -> CapacityProvider:
            if old is None or old.status != "ACTIVE":
                raise not_found(name)
            new: CapacityProvider = change(old)
            return new

        key = (context.account, context.region, names.last_part(name))
        updated = await self.world.store.update(CAPACITY_PROVIDER, key, changed, event)
        assert updated is not None
        return updated


def _fargate(account: str, region: str, name: str) -> CapacityProvider:
    return CapacityProvider(account=account, region=region, name=name, status="ACTIVE", created_at=0.0)


def _type(provider: CapacityProvider) -> str:
    if provider.name in FARGATE_PROVIDERS:
        return provider.name
    return "MANAGED_INSTANCES" if provider.cluster else "EC2_AUTOSCALING"


def _shape(provider: CapacityProvider, *, with_tags: bool) -> ecs.CapacityProvider:
    shape = ecs.CapacityProvider(
        capacity_provider_arn=names.arn(provider.account, provider.region, "capacity-provider", provider.name),
        name=provider.name,
        status=provider.status,  # type: ignore[arg-type]
        type=_type(provider),  # type: ignore[arg-type]
        update_status=provider.update_status,  # type: ignore[arg-type]
        tags=tags.write(provider.tags) if with_tags else [],
    )
    if provider.cluster:
        shape.cluster = names.arn(provider.account, provider.region, "cluster", provider.cluster)
        managed = provider.request["managedInstancesProvider"]
        shape.managed_instances_provider = msgspec.convert(managed, ecs.ManagedInstancesProvider)
    group = provider.request.get("autoScalingGroupProvider")
    if group is not None:
        given = {
            "managedScaling": {"status": "DISABLED"},
            "managedTerminationProtection": "DISABLED",
            "managedDraining": "DISABLED",
            **group,
        }
        shape.auto_scaling_group_provider = msgspec.convert(given, ecs.AutoScalingGroupProvider)
    return shape
