"""Takes away what has been deleted for long enough."""

from __future__ import annotations

import asyncio

import structlog

from contracts.records.app_runner_gateway import APP_SERVICE
from services.app_runner_gateway.adapters.world import World
from services.app_runner_gateway.handlers.naming import remove_name
from services.shared.errors import StateUnavailable
from services.shared.state import Conflict

log = structlog.get_logger()

LOOK_S = 60.0


class CleaningController:
    """Deleted services are shown for `keep_s`, then forgotten."""

    def __init__(self, world: World, keep_s: float) -> None:
        self._world, self._keep_s = world, keep_s

    async def run(self) -> None:
        """Look each minute; nothing depends on the moment."""
        while True:
            now = self._world.clock()
            for service in self._world.services.records():
                if service.deleted_at is not None and service.deleted_at + self._keep_s <= now:
                    try:
                        key = APP_SERVICE.key_of(service)
                        await remove_name(self._world, service)
                        await self._world.store.delete(APP_SERVICE, key, "app_service.removed.v1")
                    except (StateUnavailable, Conflict) as error:
                        log.warning("app_service.not_removed", name=service.name, error=str(error))
            await asyncio.sleep(min(LOOK_S, self._keep_s))
