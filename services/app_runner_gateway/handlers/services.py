"""Changes of services: one write each, and a line in the service's log."""

from __future__ import annotations

import contextlib

import msgspec
from msgspec.structs import replace

from contracts.kinds import Key
from contracts.records.app_runner_gateway import APP_SERVICE, AppService
from contracts.records.logs import LogBatch, LogEvent
from contracts.subjects import log_stream
from services.app_runner_gateway.adapters.world import World
from services.app_runner_gateway.decisions import life, names
from services.shared import telemetry
from services.shared.errors import StateUnavailable

BEGUN = {
    "CREATE_SERVICE": ("app_service.created.v1", "Service creation started."),
    "UPDATE_SERVICE": ("app_service.updating.v1", "Service update started."),
    "START_DEPLOYMENT": ("app_service.deploying.v1", "Deployment started."),
    "PAUSE_SERVICE": ("app_service.pausing.v1", "Service pause started."),
    "RESUME_SERVICE": ("app_service.resuming.v1", "Service resume started."),
    "DELETE_SERVICE": ("app_service.deleting.v1", "Service deletion started."),
}
DONE = {
    "CREATE_SERVICE": ("app_service.deployed.v1", "Service creation completed successfully."),
    "UPDATE_SERVICE": ("app_service.deployed.v1", "Service update completed successfully."),
    "START_DEPLOYMENT": ("app_service.deployed.v1", "Deployment completed successfully."),
    "PAUSE_SERVICE": ("app_service.paused.v1", "Service pause completed successfully."),
    "RESUME_SERVICE": ("app_service.deployed.v1", "Service resume completed successfully."),
    "DELETE_SERVICE": ("app_service.deleted.v1", "Service deletion completed successfully."),
}


async def create(world: World, service: AppService) -> AppService:
    """Write a new service. Raises StateUnavailable."""
    event, message = BEGUN["CREATE_SERVICE"]
    await world.store.put(APP_SERVICE, service, event, expect=0)
    await tell(world, service, message)
    return service


async def begin(world: World, key: Key, kind: str, image: str | None = None, **changes: object) -> AppService:
    """Begin an operation, with `image` a deployment of the service as it is after these changes. Raises
    InvalidStateException, StateUnavailable."""
    operation_id, trace = names.new_operation_id(), telemetry.traceparent()

    def change(old: AppService | None) -> AppService | None:
        if old is None:
            return None
        life.require(old, kind)
        now = world.clock()
        new = life.begin(replace(old, **changes), kind, operation_id, now)
        return life.deploy(new, image, trace, now) if image is not None else new

    event, message = BEGUN[kind]
    written = await world.store.update(APP_SERVICE, key, change, event)
    assert written is not None
    await tell(world, written, message)
    return written


async def finish(world: World, key: Key, operation_id: str, outcome: str, reason: str) -> None:
    """Write down what became of an operation; nothing when it is not in progress any more. Raises StateUnavailable."""
    before = world.services.record(*key)
    if before is None or (running := life.operation(before)) is None or running.id != operation_id:
        return
    event, message = DONE[running.type]
    if outcome == "failed":
        event, message = "app_service.failed.v1", f"Operation {running.type} failed. {reason}"

    def change(old: AppService | None) -> AppService | None:
        current = life.operation(old) if old is not None else None
        if old is None or current is None or current.id != operation_id:
            return old
        now = world.clock()
        return life.fail(old, reason, now) if outcome == "failed" else life.succeed(old, now)

    written = await world.store.update(APP_SERVICE, key, change, event)
    if written is not None:
        await tell(world, written, message)


async def mark_moved(world: World, key: Key) -> None:
    """Remember that a service's image is another now. Raises StateUnavailable."""

    def change(old: AppService | None) -> AppService | None:
        if old is None or old.image_moved or old.status in ("DELETED", "CREATE_FAILED"):
            return old
        return replace(old, image_moved=True)

    await world.store.update(APP_SERVICE, key, change, "app_service.image_moved.v1")


async def tell(world: World, service: AppService, message: str) -> None:
    """A line in the service's event log. It is no part of the change: without NATS it is left out."""
    now = int(world.clock() * 1000)
    batch = LogBatch(events=[LogEvent(now, f"[AppRunner] {message}")], ingested_at=now)
    subject = log_stream(service.account, service.region, names.log_group(service, "service"), "events")
    with contextlib.suppress(StateUnavailable):
        await world.bus.publish(subject, msgspec.json.encode(batch))
