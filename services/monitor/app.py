"""The monitor, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiohttp import web

from contracts.records.monitor import KINDS
from contracts.rpc.monitor import GET_METRICS
from services.monitor.adapters.metrics import Measurements
from services.monitor.adapters.streams import EventReader, LogReader, TraceReader
from services.monitor.api import CloudWatch, Logs
from services.monitor.controllers.alarms import AlarmController
from services.monitor.controllers.express import ExpressAlarms
from services.monitor.handlers import Answers
from services.monitor.routes import (
    EVENT_ROUTES,
    TRACE_ROUTES,
    USAGE_ROUTES,
    Events,
    TaskMetrics,
    Traces,
    UsageOfTasks,
    measure_app_runner,
)
from services.monitor.settings import MonitorSettings
from services.shared.aws.mount import AwsDoor
from services.shared.aws.service import AwsService
from services.shared.http import bind
from services.shared.keys import KeyRing
from services.shared.runner import App, Host
from services.shared.state import Store


class MonitorApp(App):
    """CloudWatch Logs over the LOGS stream, CloudWatch over the METRICS stream, and the traces."""

    name = "monitor"

    def __init__(self, host: Host, settings: MonitorSettings) -> None:
        super().__init__(host)
        self._settings = settings
        self.aws_services: list[AwsService] = []

    async def start(self) -> None:
        """Open the groups, the alarms and the keys, read what was measured; answer, and judge the alarms."""
        self._store = await Store.open(self.host.bus, KINDS)
        host, budget = self.host, self._settings.metrics_bytes
        self._measurements = await Measurements.open(host.bus, host.clock, host.instance, budget)
        self._usage = UsageOfTasks(self._measurements)
        host.metrics.registry.register(TaskMetrics(self._measurements))
        measure_app_runner(host.metrics, self._measurements)
        self._keys = await KeyRing.open(self.host.bus)
        self._traces = Traces(TraceReader(self.host.bus))
        self._events = Events(EventReader(self.host.bus))
        self.aws_services = [
            Logs(self.host.bus, self._store, LogReader(self.host.bus), self.host.clock, self._settings.scan_bytes),
            CloudWatch(self._measurements, self._store),
        ]
        self._door = AwsDoor(self.host, self.aws_services, self._keys)
        self.aws_server = self._door.server
        await self.host.bus.serve(GET_METRICS, Answers(self._measurements).get_metrics)
        self._working = [
            host.bus.spawn(AlarmController(self._store, self._measurements).run(), "alarms"),
            host.bus.spawn(ExpressAlarms(host.bus, self._store, host.clock).run(), "express_alarms"),
        ]

    async def stop(self) -> None:
        """Let go."""
        working = getattr(self, "_working", ())
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        for part in ("_keys", "_measurements", "_store"):
            if hasattr(self, part):
                await getattr(self, part).close()

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Traces, events and usage, then the AWS APIs on every other path."""
        shown = [*bind(TRACE_ROUTES, self._traces), *bind(EVENT_ROUTES, self._events), *bind(USAGE_ROUTES, self._usage)]
        return [*shown, *self._door.routes()]
