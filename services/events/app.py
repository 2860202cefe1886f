"""The events service, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiohttp import web

from contracts.records.events import KINDS
from services.events.adapters import HttpTargets
from services.events.controllers import Deliverers
from services.events.decisions.deliveries import Rules
from services.events.handlers import Courier, Webhooks
from services.events.routes import Door
from services.events.settings import EventsSettings
from services.shared.runner import App, Host
from services.shared.sealing import Vault
from services.shared.state import Store


class EventsApp(App):
    """Owns webhooks; tells them of what happened."""

    name = "events"

    def __init__(self, host: Host, settings: EventsSettings) -> None:
        super().__init__(host)
        self._settings = settings

    async def start(self) -> None:
        """Read the webhooks, open the door, follow the stream for each."""
        host, settings = self.host, self._settings
        directory = host.data / "events"
        vault = Vault.open(directory / "secrets.key")
        self._targets = HttpTargets(settings.timeout_s)
        rules = Rules(settings.retry_s, settings.retry_limit_s, settings.give_up_s)
        courier = Courier(vault, self._targets, rules, host.clock, host.metrics)
        self._store = await Store.open(host.bus, KINDS)
        deliverers = Deliverers(host.bus, self._store, courier, at_once=settings.at_once, timeout_s=settings.timeout_s)
        self._store.listen(deliverers.heard)
        webhooks = Webhooks(self._store, vault, host.clock)
        self._door = Door(host.bus, self._store, webhooks, courier, deliverers.waiting, directory / "door.key")
        self._work = host.bus.spawn(deliverers.run(), "webhooks")

    async def stop(self) -> None:
        """Let go. What was not acknowledged is told by the next start."""
        if hasattr(self, "_work"):
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
        for part in ("_targets", "_store"):
            if hasattr(self, part):
                await getattr(self, part).close()

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Webhooks and events."""
        return self._door.routes()
