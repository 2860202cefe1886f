"""Who runs the controllers: one scheduler at a time, the holder of the lease `controller`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from services.scheduler.adapters import World
from services.scheduler.controllers.cleaning import CleaningController
from services.scheduler.controllers.hooks import HookController
from services.scheduler.controllers.instances import InstanceController
from services.scheduler.controllers.nodes import NodeController, TellNode
from services.scheduler.controllers.services import ServiceController
from services.scheduler.controllers.spot import SpotController
from services.scheduler.ports import Hooks
from services.shared.errors import StateUnavailable
from services.shared.leases import Lease
from services.shared.state import Change, Conflict

log = structlog.get_logger()

RETRY_S = 0.5


class Leader:
    """Wants the lease; while it is held, runs the controllers, made anew for each term."""

    def __init__(self, world: World, lease: Lease, targets: Hooks, tell_node: TellNode) -> None:
        self._world = world
        self._targets = targets
        self._tell_node = tell_node
        self._lease = lease
        self._heard: Callable[[Change], None] | None = None
        self._task: asyncio.Task[None] | None = None
        self.leading = asyncio.Event()
        world.listen(self._on_change)

    def start(self) -> None:
        """Begin to want the lease."""
        self._task = self._world.bus.spawn(self._run(), "leader")

    async def stop(self) -> None:
        """Stop the controllers and give the lease up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._lease.release()

    def _on_change(self, change: Change) -> None:
        if self._heard is not None:
            self._heard(change)

    async def _run(self) -> None:
        while True:
            try:
                await self._lease.acquire()
            except (StateUnavailable, Conflict):
                await asyncio.sleep(RETRY_S)  # there is no event for "NATS answers again" that covers all cases
                continue
            log.info("leader.began", fence=self._lease.fence)
            try:
                await self._lead()
            finally:
                self._heard = None
                self.leading.clear()
            log.warning("leader.ended")

    async def _lead(self) -> None:
        world = self._world
        leads = lambda: self._lease.held  # noqa: E731
        controllers = (
            ServiceController(world, lambda: self._lease.writes),
            HookController(world, self._targets, leads),
            NodeController(world, leads, self._tell_node),
            SpotController(world, leads),
            InstanceController(world, leads),
            CleaningController(world, world.settings.keep_stopped_s),
        )

        def heard(change: Change) -> None:
            for controller in controllers:
                controller.heard(change)

        self._heard = heard
        running = [asyncio.create_task(controller.run()) for controller in controllers]
        self.leading.set()
        keeping = asyncio.create_task(self._lease.keep())
        try:
            done, _ = await asyncio.wait([*running, keeping], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if task is not keeping and task.exception() is not None:
                    log.error("controller.failed", exc_info=task.exception())
        finally:
            for task in (*running, keeping):
                task.cancel()
            await asyncio.gather(*running, keeping, return_exceptions=True)
