"""What changes instances, and names that other services want: one write each, and the operation told afterwards."""

from __future__ import annotations

from msgspec.structs import replace

from contracts.records.discovery import (
    DISCOVERY_SERVICE,
    INSTANCE,
    NAMESPACE,
    OPERATION,
    DiscoveryService,
    DnsRecord,
    Instance,
    Namespace,
    Operation,
)
from contracts.rpc.discovery import ProvidedName, ProvideName, RemovedName, RemoveName
from services.discovery.adapters.world import World
from services.discovery.decisions import names, wire
from services.discovery.decisions.instances import first_health, invalid
from services.discovery.decisions.registries import Registration

OPERATIONS_KEPT = 1000


def has(instance: Instance) -> tuple[dict[str, str], str, float | None, str]:
    """What registering an instance gives it: a Registration's members, and its owner."""
    return (instance.attributes, instance.group, instance.weight, instance.owner)


async def register(
    world: World, service: DiscoveryService, instance_id: str, wants: Registration, *, owner: str = "",
    request_id: str = "",
) -> Instance:  # fmt: skip
    """Register an instance, or make it what it is to be. No write when it is that already."""
    now = world.clock()

    def change(old: Instance | None) -> Instance:
        if old is not None and has(old) == (*wants, owner):
            return old
        return Instance(
            account=service.account,
            region=service.region,
            service_id=service.id,
            id=instance_id,
            attributes=wants.attributes,
            registered_at=old.registered_at if old is not None else now,
            health=first_health(service, wants.attributes, old),
            owner=owner,
            creator_request_id=request_id,
            group=wants.group,
            weight=wants.weight,
        )

    key = (service.account, service.region, service.id, instance_id)
    written = await world.store.update(INSTANCE, key, change, "instance.registered.v1")
    assert written is not None
    return written


async def deregister(world: World, key: tuple[str, ...]) -> None:
    """Take an instance out. No error when it is not there."""
    await world.store.delete(INSTANCE, key, "instance.deregistered.v1")


async def tell_health(world: World, key: tuple[str, ...], health: str) -> bool:
    """Keep what was told of an instance's health; False when there is no such instance."""

    def change(old: Instance | None) -> Instance | None:
        return old if old is None or old.health == health else replace(old, health=health)

    return await world.store.update(INSTANCE, key, change, "instance.health_changed.v1") is not None


async def tell_operation(
    world: World, account: str, region: str, kind: str, targets: dict[str, str], operation_id: str = ""
) -> str:
    """Write down an operation that has been done; its id."""
    now = world.clock()
    operation = Operation(
        account=account,
        region=region,
        id=operation_id or names.operation_id(),
        type=kind,
        status="SUCCESS",
        targets=targets,
        created_at=now,
        updated_at=now,
    )
    await world.store.put(OPERATION, operation, "operation.succeeded.v1")
    await _forget_oldest(world)
    return operation.id


async def _forget_oldest(world: World) -> None:
    """Operations are told of for a while, not for ever."""
    table = world.store.table(OPERATION)
    if len(table) <= OPERATIONS_KEPT * 1.1:
        return
    for old in sorted(table.records(), key=lambda o: o.created_at)[:-OPERATIONS_KEPT]:
        await world.store.delete(OPERATION, OPERATION.key_of(old), "operation.forgotten.v1")


class Names:
    """The names that other services want for their tasks."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def provide(self, request: ProvideName) -> ProvidedName:
        """Find or make the namespace, then the service in it: whichever was made stays when the other could not be.
        Raises AwsError."""
        full = f"{request.name}.{request.namespace}"
        try:
            wire.name_of(full)
        except ValueError as error:
            raise invalid(str(error)) from None
        async with self._world.naming:
            namespace = await self._namespace(request)
            service = self._world.service_named(namespace, request.name)
            if service is None:
                service = DiscoveryService(
                    account=request.account,
                    region=request.region,
                    id=names.service_id(),
                    name=request.name,
                    namespace=namespace.id,
                    type="DNS_HTTP",
                    created_at=self._world.clock(),
                    dns_records=[DnsRecord(type="A", ttl=request.ttl)],
                )
                await self._world.store.put(DISCOVERY_SERVICE, service, "discovery_service.created.v1", expect=0)
        return ProvidedName(
            registry_arn=names.arn(request.account, request.region, "service", service.id), dns_name=full
        )

    async def _namespace(self, request: ProvideName) -> Namespace:
        there = self._world.namespace_named(request.account, request.region, request.namespace)
        if there is not None:
            if there.type == "HTTP":
                raise invalid(f"The namespace {there.name} has no DNS.")
            return there
        fresh = Namespace(
            account=request.account,
            region=request.region,
            id=names.namespace_id(),
            name=request.namespace,
            type="DNS_PRIVATE",
            created_at=self._world.clock(),
            hosted_zone_id=names.hosted_zone_id(),
        )
        await self._world.store.put(NAMESPACE, fresh, "namespace.created.v1", expect=0)
        return fresh

    async def remove(self, request: RemoveName) -> RemovedName:
        """Take the service of a name away, once nothing is registered in it."""
        key = (request.account, request.region, names.id_of(request.registry_arn))
        async with self._world.naming:
            if self._world.services.record(*key) is None or self._world.instances.records(*key):
                return RemovedName(removed=False)
            await self._world.store.delete(DISCOVERY_SERVICE, key, "discovery_service.deleted.v1")
        return RemovedName(removed=True)
