"""Who scales: one autoscaler at a time, the holder of the lease `scaling`; nobody, while there is nothing to scale."""

from __future__ import annotations

import asyncio

import structlog

from contracts.records.autoscaler import SCALABLE_TARGET
from services.autoscaler.adapters.world import World
from services.autoscaler.controllers.rounds import Rounds
from services.autoscaler.handlers import Scaling
from services.autoscaler.ports import Metrics
from services.autoscaler.settings import AutoscalerSettings
from services.shared.errors import StateUnavailable
from services.shared.leases import Lease
from services.shared.state import Change, Conflict

log = structlog.get_logger()

RETRY_S = 0.5


class Leader:
    """Wants the lease while there are targets; while it is held, makes the rounds."""

    def __init__(
        self, world: World, lease: Lease, scaling: Scaling, metrics: Metrics, settings: AutoscalerSettings
    ) -> None:
        self._world = world
        self._lease = lease
        self._scaling = scaling
        self._metrics = metrics
        self._settings = settings
        self._targets = asyncio.Event()
        self._rounds: Rounds | None = None
        world.listen(self._heard)
        if len(world.targets):
            self._targets.set()

    @property
    def leading(self) -> bool:
        """Whether this copy makes the rounds now."""
        return self._rounds is not None

    def start(self) -> None:
        """Begin to want the lease."""
        self._task = self._world.bus.spawn(self._run(), "leader")

    async def stop(self) -> None:
        """Stop the rounds and give the lease up."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._lease.release()

    def metrics_came(self) -> None:
        """There is something new to be read."""
        if self._rounds is not None:
            self._rounds.metrics_came()

    def _heard(self, change: Change) -> None:
        if change.kind is SCALABLE_TARGET and change.new is not None:
            self._targets.set()
        if self._rounds is not None:
            self._rounds.heard(change)

    async def _run(self) -> None:
        while True:
            await self._targets.wait()
            try:
                await self._lease.acquire()
            except (StateUnavailable, Conflict):
                await asyncio.sleep(RETRY_S)  # there is no event for "NATS answers again" that covers all cases
                continue
            log.info("leader.began", fence=self._lease.fence)
            await self._lead()
            log.info("leader.ended")

    async def _lead(self) -> None:
        self._rounds = Rounds(self._world, self._scaling, self._metrics, self._settings, lambda: self._lease.held)
        work = asyncio.ensure_future(self._rounds.run())
        keeping = asyncio.ensure_future(self._lease.keep())
        try:
            done, _ = await asyncio.wait((work, keeping), return_when=asyncio.FIRST_COMPLETED)
            if work in done and work.exception() is not None:
                log.error("rounds.failed", exc_info=work.exception())
                await asyncio.sleep(RETRY_S)  # what failed once may fail again: not at full speed
            if work in done and not len(self._world.targets):
                self._targets.clear()
                await self._lease.release()
        finally:
            self._rounds = None
            for task in (work, keeping):
                task.cancel()
            await asyncio.gather(work, keeping, return_exceptions=True)
