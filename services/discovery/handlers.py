"""What changes instances: one write each, and the operation that tells of it afterwards."""

from __future__ import annotations

from msgspec.structs import replace

from contracts.records.discovery import INSTANCE, OPERATION, DiscoveryService, Instance, Operation
from services.discovery.adapters.world import World
from services.discovery.decisions import names
from services.discovery.decisions.instances import first_health

OPERATIONS_KEPT = 1000


async def register(
    world: World, service: DiscoveryService, instance_id: str, attributes: dict[str, str], *, owner: str = "",
    request_id: str = "",
) -> Instance:  # fmt: skip
    """Register an instance, or give it these attributes. No write when it has them already."""
    now = world.clock()

    def change(old: Instance | None) -> Instance:
        if old is not None and (old.attributes, old.owner) == (attributes, owner):
            return old
        return Instance(
            account=service.account,
            region=service.region,
            service_id=service.id,
            id=instance_id,
            attributes=attributes,
            registered_at=old.registered_at if old is not None else now,
            health=first_health(service, attributes, old),
            owner=owner,
            creator_request_id=request_id,
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
