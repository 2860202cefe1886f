"""Keeps an alarm for each Express service: made when the service is, deleted when it goes. Level-triggered: what
services there are now says which alarms there are to be."""

from __future__ import annotations

import asyncio

import structlog

from contracts.kinds import Key
from contracts.records.monitor import METRIC_ALARM, MetricAlarm
from contracts.records.scheduler import SERVICE, Service
from services.monitor.decisions import alarms, express
from services.shared.bus import Bus
from services.shared.clock import Clock
from services.shared.errors import StateUnavailable
from services.shared.state import Change, Conflict, Store
from services.shared.views import View

log = structlog.get_logger()

RETRY_S = 1.0


class ExpressAlarms:
    """`run` works until cancelled."""

    def __init__(self, bus: Bus, store: Store, clock: Clock) -> None:
        self._bus = bus
        self._store = store
        self._clock = clock
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Follow the services."""
        services = await self._opened()
        try:
            while True:
                self._wake.clear()
                if not await self._look(services):
                    await asyncio.sleep(RETRY_S)  # NATS is away: there is no event for "try again"
                    continue
                await self._wake.wait()
        finally:
            await services.close()

    async def _opened(self) -> View:
        while True:
            try:
                return await View.open(self._bus, SERVICE, listen=self._heard)
            except StateUnavailable as error:
                log.warning("express_alarms.unread", error=error.message)
                await asyncio.sleep(RETRY_S)

    def _heard(self, change: Change) -> None:
        keys = [express.key_of(entry.record) for entry in (change.old, change.new) if entry is not None]
        if len(set(keys)) > 1 or (len(keys) == 1 and keys[0] is not None):
            self._wake.set()

    async def _look(self, services: View) -> bool:
        """Make and delete what is to be; False when it is to be tried again."""
        wanted: dict[Key, Service] = {}
        for service in services.table(SERVICE).records():
            key = express.key_of(service)
            if key is not None:
                wanted[key] = service
        missing, over = express.differs(wanted, self._store.table(METRIC_ALARM).records())
        try:
            for key in missing:
                await self._make(key, wanted[key])
            for key in over:
                await self._store.delete(METRIC_ALARM, key, "alarm.deleted.v1")
        except (StateUnavailable, Conflict) as error:
            log.info("express_alarms.delayed", error=str(error))
            return False
        return True

    async def _make(self, key: Key, service: Service) -> None:
        made = alarms.made(key[0], key[1], express.definition(service), dict(express.MANAGED), self._clock())

        def change(old: MetricAlarm | None) -> MetricAlarm:
            return made if old is None else old

        await self._store.update(METRIC_ALARM, key, change, "alarm.put.v1")
