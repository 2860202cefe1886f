"""The name that a service's instances have in the DNS: `<service>.apprunner.local`, by way of Cloud Map.

Discovery registers them as it does any ECS task with a service registry.
"""

from __future__ import annotations

import structlog
from msgspec.structs import replace

from contracts.kinds import Key
from contracts.records.app_runner_gateway import APP_SERVICE, AppService
from contracts.rpc.discovery import PROVIDE_NAME, REMOVE_NAME, ProvideName, RemoveName
from services.app_runner_gateway.adapters.world import World
from services.shared.bus import CommandRefused
from services.shared.errors import StateUnavailable

log = structlog.get_logger()

NAMESPACE = "apprunner.local"
_TRY_AGAIN = ("StateUnavailable", "Internal")


async def provide_name(world: World, key: Key, service: AppService) -> None:
    """Ask for the name, and write down where it is. Raises StateUnavailable."""
    wanted = ProvideName(
        account=service.account, region=service.region, namespace=NAMESPACE, name=service.name.lower().replace("_", "-")
    )
    try:
        arn = (await world.bus.call(PROVIDE_NAME, wanted)).registry_arn
    except CommandRefused as refusal:
        if refusal.code in _TRY_AGAIN:
            raise StateUnavailable(refusal.message) from refusal
        log.warning("app_service.no_name", name=service.name, error=refusal.message)
        arn = ""

    def change(old: AppService | None) -> AppService | None:
        return replace(old, registry_arn=arn) if old is not None and old.registry_arn is None else old

    await world.store.update(APP_SERVICE, key, change, "app_service.named.v1")


async def remove_name(world: World, service: AppService) -> None:
    """Let the name go, unless another service has it since. Raises StateUnavailable."""
    shared = any(
        other.registry_arn == service.registry_arn and other.id != service.id and other.deleted_at is None
        for other in world.services.records(service.account, service.region)
    )
    if not service.registry_arn or shared:
        return
    request = RemoveName(account=service.account, region=service.region, registry_arn=service.registry_arn)
    try:
        await world.bus.call(REMOVE_NAME, request)
    except CommandRefused as refusal:
        raise StateUnavailable(refusal.message) from refusal
