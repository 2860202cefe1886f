"""The monitor, put together."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from contracts.records.monitor import KINDS
from services.monitor.adapters import EventReader, LogReader, TraceReader
from services.monitor.api import Logs
from services.monitor.routes import EVENT_ROUTES, TRACE_ROUTES, Events, Traces
from services.monitor.settings import MonitorSettings
from services.shared.aws.mount import AwsDoor
from services.shared.aws.service import AwsService
from services.shared.http import bind
from services.shared.keys import KeyRing
from services.shared.runner import App, Host
from services.shared.state import Store


class MonitorApp(App):
    """CloudWatch Logs over the LOGS stream, and the traces."""

    name = "monitor"

    def __init__(self, host: Host, settings: MonitorSettings) -> None:
        super().__init__(host)
        self._settings = settings
        self.aws_services: list[AwsService] = []

    async def start(self) -> None:
        """Open the groups and the keys; answer."""
        self._store = await Store.open(self.host.bus, KINDS)
        self._keys = await KeyRing.open(self.host.bus)
        self._traces = Traces(TraceReader(self.host.bus))
        self._events = Events(EventReader(self.host.bus))
        self.aws_services = [
            Logs(self.host.bus, self._store, LogReader(self.host.bus), self.host.clock, self._settings.scan_bytes)
        ]
        self._door = AwsDoor(self.host, self.aws_services, self._keys)
        self.aws_server = self._door.server

    async def stop(self) -> None:
        """Let go."""
        for part in ("_keys", "_store"):
            if hasattr(self, part):
                await getattr(self, part).close()

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Traces and events, then the AWS APIs on every other path."""
        return [*bind(TRACE_ROUTES, self._traces), *bind(EVENT_ROUTES, self._events), *self._door.routes()]
