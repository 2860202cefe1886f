"""Watches the requests in flight: what scales services, tells when something is drained, and is measured.

The proxy tells nobody of a request, so it is asked: often while something is going on, seldom while nothing is, never
while there are no services.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Protocol

import msgspec
import structlog

from contracts.kinds import Key
from contracts.records.app_runner_gateway import APP_SERVICE, AppService
from contracts.records.metrics import MetricBatch, MetricSample
from contracts.subjects import metrics
from services.app_runner_gateway.adapters.haproxy import ProxyAway
from services.app_runner_gateway.adapters.proxy import Proxy
from services.app_runner_gateway.adapters.world import World
from services.app_runner_gateway.decisions.life import revision
from services.app_runner_gateway.decisions.measuring import Meter, samples
from services.app_runner_gateway.decisions.proxy import Seen
from services.app_runner_gateway.decisions.scaling import Load
from services.app_runner_gateway.settings import AppRunnerGatewaySettings
from services.shared import telemetry
from services.shared.waiting import woken

log = structlog.get_logger()

CLOSE_S, USUAL_S, IDLE_S = 0.1, 0.5, 1.0
QUIET_LOOKS = 20


class Watcher(Protocol):
    """Who else wants to know what the proxy carries: the Express services."""

    def live(self) -> bool:
        """Whether there is anything to be looked at."""

    def closely(self) -> bool:
        """Whether to look often."""

    def take_in(self, seen: list[Seen]) -> None:
        """A look at the proxy."""

    def measured(self) -> list[MetricSample]:
        """What was seen since this was asked for last."""


class Traffic:
    """`in_flight` and `wanted` are what the services' controller decides with; `mark` hears which to look at."""

    def __init__(self, world: World, proxy: Proxy, settings: AppRunnerGatewaySettings, instance: str) -> None:
        self._world, self._proxy, self._settings = world, proxy, settings
        self._subject = metrics("app_runner_gateway", instance)
        self.mark: Callable[[Key], None] = lambda key: None
        self.watchers: list[Watcher] = []
        self.looked_at = 0.0
        """When the last look began, in the loop's time."""
        self._loads: dict[Key, Load] = {}
        self._wanted: dict[Key, int] = {}
        self._in_flight: Counter[str] = Counter()
        self._first: dict[Key, int] = {}
        self._closely: set[Key] = set()
        self._meters: dict[Key, Meter] = {}
        self._quiet = 0
        self._asked = 0
        self._measured_at = 0.0
        self._wake = asyncio.Event()

    def wanted(self, key: Key, instances: int) -> int:
        """How many instances the load asks for; `instances` while nothing is known of it."""
        return self._wanted.get(key, instances)

    def in_flight(self, task: str) -> int:
        """The requests on an instance, when it was last looked."""
        return self._in_flight.get(task, 0)

    def closely(self, key: Key, draining: bool) -> None:
        """Look often while a service has instances that drain."""
        if draining:
            self._closely.add(key)
            self._wake.set()
        else:
            self._closely.discard(key)

    def expect_first(self, key: Key, number: int) -> None:
        """Tell, in the deployment's trace, when a revision's first request was answered."""
        self._first[key] = number
        self._wake.set()

    def woken(self) -> None:
        """There is something to look at now."""
        self._wake.set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            wait = self._pause()
            self._wake.clear()
            if await woken(self._wake, wait):
                await asyncio.sleep(CLOSE_S / 2)  # however often it is woken, not more often than this
            watchers = [watcher for watcher in self.watchers if watcher.live()]
            if not self._proxy.running or not (watchers or self._live()):
                continue
            try:
                began = asyncio.get_running_loop().time()
                seen = await self._proxy.look()
                self._take_in(seen)
                self.looked_at = began
                for watcher in watchers:
                    watcher.take_in(seen)
            except ProxyAway as error:
                log.warning("traffic.unseen", error=error.message)
            await self._measure()

    def _live(self) -> list[AppService]:
        return [s for s in self._world.services.records() if s.status not in ("DELETED", "CREATE_FAILED")]

    def _pause(self) -> float | None:
        watchers = [watcher for watcher in self.watchers if watcher.live()]
        if not watchers and not self._live():
            return None
        close = self._closely or any(watcher.closely() for watcher in watchers)
        if close or (self._first and self._quiet < QUIET_LOOKS):
            return CLOSE_S
        return USUAL_S if self._quiet < QUIET_LOOKS else IDLE_S

    def _take_in(self, seen: list[Seen]) -> None:
        by_server = {(s.backend, s.server): s for s in seen}
        self._in_flight = Counter()
        for each in seen:
            if each.server:  # one may be in several backends
                self._in_flight[each.server] += each.in_flight
        asked = sum(s.asked for s in seen if not s.server)
        self._quiet = self._quiet + 1 if asked == self._asked and not any(self._in_flight.values()) else 0
        self._asked = asked
        for service in self._live():
            key = APP_SERVICE.key_of(service)
            backend = self._proxy.backend(service.host)
            whole = by_server.get((backend, "")) if backend else None
            if whole is None:
                continue
            self._scale(key, service, whole)
            self._meters.setdefault(key, Meter()).observe(backend or "", whole)
            if key in self._first:
                self._first_request(key, service, seen)
            if key in self._closely:
                self.mark(key)
        for gone in set(self._loads) - set(self._world.services.all_keys()):
            for kept in (self._loads, self._wanted, self._meters, self._first):
                kept.pop(gone, None)
            self._closely.discard(gone)

    def _scale(self, key: Key, service: AppService, whole: Seen) -> None:
        if service.status not in ("RUNNING", "OPERATION_IN_PROGRESS") or not service.active:
            self._loads.pop(key, None)
            self._wanted.pop(key, None)
            return
        bounds, now = self._world.bounds(service), self._world.clock()
        load = self._loads.get(key)
        if load is None:
            there = [w.desired_count for n, w in self._world.workloads_of(service) if n == service.active]
            load = self._loads[key] = Load(self._settings.scale_in_s, max([bounds.low, *there]), now)
        wanted = load.observe(whole.in_flight, bounds, now)
        before, self._wanted[key] = self._wanted.get(key), wanted
        if before != wanted:
            if before is not None:
                log.info("app_service.scales", name=service.name, before=before, wanted=wanted, seen=whole.in_flight)
            self.mark(key)

    def _first_request(self, key: Key, service: AppService, seen: list[Seen]) -> None:
        number = self._first[key]
        tasks = {task.id for task, _ in self._world.tasks_of(service, number)}
        if any(s.ok for s in seen if s.server in tasks):
            del self._first[key]
            made = revision(service, number)
            told = {"app": service.name, "revision": number, "host": service.host}
            with telemetry.continued("first request", made.trace if made else None, **told):
                log.info("app_service.first_request", name=service.name, revision=number)

    async def _measure(self) -> None:
        now = self._world.clock()
        period = now - self._measured_at
        if period < self._settings.metrics_s:
            return
        self._measured_at = now
        told = []
        for service in self._live():
            meter = self._meters.get(APP_SERVICE.key_of(service))
            if meter is not None:
                ready = sum(s.state == "ready" for s in self._proxy.carried(service.host).values())
                told += samples(service, meter.take(), ready)
        for watcher in self.watchers:
            told += watcher.measured()
        if told:
            batch = MetricBatch(source="app_runner_gateway", at=now, period_s=min(period, 60.0), samples=told)
            await self._world.bus.tell(self._subject, msgspec.json.encode(batch))
