"""The scanner, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from pathlib import Path

import aiohttp
import structlog
from aiohttp import web

from contracts.records.registry import IMAGE, REGISTRY_SETTINGS, Image
from contracts.records.scanner import IMAGE_SCAN, KINDS, SCAN_GATE, ImageScan
from contracts.rpc.scanner import DESCRIBE_FINDINGS, JUDGE_FINDINGS, START_SCAN
from services.scanner.adapters.files import Files
from services.scanner.adapters.registry import open_attachments, open_layers
from services.scanner.adapters.workers import Workers
from services.scanner.controllers.documents import DocumentController
from services.scanner.controllers.rematching import Rematching
from services.scanner.controllers.scanning import ScanController
from services.scanner.decisions.tar import Limits
from services.scanner.handlers.advisories import Advisories, ImportFailed
from services.scanner.handlers.asking import Asking
from services.scanner.handlers.documents import Documents
from services.scanner.handlers.inspecting import Inspecting
from services.scanner.handlers.isolation import Isolation
from services.scanner.handlers.measures import Measures
from services.scanner.handlers.policy import Policy
from services.scanner.handlers.scanning import Scans
from services.scanner.handlers.suppressing import Suppressing
from services.scanner.ports import Attachments, Layers
from services.scanner.routes import Door, Rules
from services.scanner.settings import ScannerSettings
from services.shared.consumers import Consumer
from services.shared.runner import App, Host
from services.shared.state import Change, Store, View

log = structlog.get_logger()

MIB = 1 << 20


class ScannerApp(App):
    """Scans every image that is pushed; keeps findings, bills of materials, gates and the index of advisories."""

    name = "scanner"

    def __init__(self, host: Host, settings: ScannerSettings) -> None:
        super().__init__(host)
        self._settings = settings

    async def start(self) -> None:
        """Read what there is, hear of pushes, scan."""
        host, settings = self.host, self._settings
        self._files = Files(host.data / "scanner", settings.layer_cache_mib * MIB)
        self._files.trim_layers()
        workers = Workers(settings.workers)
        self.advisories = Advisories(self._files, workers, host.clock)
        self._session = aiohttp.ClientSession(
            auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None, connect=5, sock_read=60)
        )
        self._store, _ = await asyncio.gather(Store.open(host.bus, KINDS), self.advisories.open())
        known = self._store.table(IMAGE_SCAN).records()
        self._files.drop_others((scan.report for scan in known), (scan.contents for scan in known))
        self._view = await View.open(host.bus, REGISTRY_SETTINGS)
        policy = Policy(self._view, self._store)
        scans = Scans(
            host.bus,
            self._store,
            self._files,
            workers,
            self.advisories,
            self._open_layers,
            host.clock,
            _limits(settings),
        )
        self._controller = ScanController(self._store, scans, settings.scans)
        self._store.listen(self._controller.heard)
        self._documents = Documents(host.bus, self._store, self._files, Workers(1), self._open_attachments)
        self.rematching = Rematching(
            self._store, self._files, workers, self.advisories, scans.uses, policy.follows, host.clock, host.metrics
        )
        self._store.listen(self.rematching.heard)
        self._store.listen(self._policy_changed)
        self._view.listen(self._policy_changed)
        self.advisories.changed = self.rematching.wake
        measures = Measures(host.bus, self._store, host.instance, host.clock)
        suppressing = Suppressing(self._store, scans, host.clock)
        asking = Asking(
            host.bus, self._store, self.advisories, scans, self.rematching.settled, policy, suppressing, host.clock
        )

        def settled(scan: ImageScan) -> bool:
            now = self.advisories.current.version
            return not now or self.rematching.settled(scan) or not policy.follows(scan)

        inspecting = Inspecting(host.bus, self._store, self._files, suppressing, asking.start_scan, settled)
        self._store.listen(inspecting.heard)

        def pass_done(looked: int, changed: int) -> None:
            measures.tell(looked, changed)
            inspecting.heard()

        self.rematching.pass_done = pass_done
        self.isolation = Isolation(workers)
        documents = self._documents
        self._door = Door(self._store, self._files, self.advisories, documents, self.isolation, suppressing)
        self._door.measure(host.metrics)
        self._rules = Rules(self._store, self._files, suppressing, inspecting, documents.digest_of, host.clock)
        handlers = {"image.pushed.v1": asking.on_image_pushed, "image.deleted.v1": asking.on_image_deleted}
        self._consumer = Consumer(host.bus, "images", (IMAGE,), handlers)
        await self._consumer.start()
        await host.bus.serve(START_SCAN, asking.start_scan)
        await host.bus.serve(DESCRIBE_FINDINGS, asking.describe_findings)
        await host.bus.serve(JUDGE_FINDINGS, asking.judge_findings)
        self._work = [
            host.bus.spawn(self.isolation.look(), "isolation"),
            host.bus.spawn(self._controller.run(), "scanning"),
            host.bus.spawn(self.rematching.run(), "rematching"),
        ]
        if settings.sbom:
            documenting = DocumentController(self._store, self._documents)
            self._store.listen(documenting.heard)
            self._work.append(host.bus.spawn(documenting.run(), "sboms"))
        if settings.advisories:
            self._work.append(host.bus.spawn(self._import(Path(settings.advisories)), "import"))
        if settings.update_minutes > 0:
            self._work.append(host.bus.spawn(self._update(settings.update_minutes * 60), "update"))

    def _open_layers(self, image: Image) -> Awaitable[Layers]:
        return open_layers(self.host.bus, self._session, image, self._settings.registry)

    def _open_attachments(self, image: Image) -> Awaitable[Attachments]:
        return open_attachments(self.host.bus, self._session, image, self._settings.registry)

    async def _import(self, path: Path) -> None:
        try:
            await self.advisories.import_if_new(path)
        except ImportFailed as error:
            log.error("advisories.not_imported", path=str(path), why=str(error))

    async def _update(self, every_s: float) -> None:
        """Take in what is new in all feeds, now and again and again."""
        named = [feed.strip() for feed in self._settings.feeds.split(",") if feed.strip()]
        while True:
            await self.advisories.update([*named, *self.advisories.feeds()])
            await asyncio.sleep(every_s)

    def _policy_changed(self, change: Change) -> None:
        if change.kind in (REGISTRY_SETTINGS, SCAN_GATE):
            self.rematching.wake()

    async def stop(self) -> None:
        """Let go. A scan that is broken off is done by the next start."""
        if hasattr(self, "_consumer"):
            await self._consumer.stop()
        work = getattr(self, "_work", [])
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        for followed in ("_view", "_store"):
            if hasattr(self, followed):
                await getattr(self, followed).close()
        if hasattr(self, "_session"):
            await self._session.close()

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Gates, suppressions, advisories, reports."""
        return [*self._rules.routes(), *self._door.routes()]


def _limits(settings: ScannerSettings) -> Limits:
    return Limits(
        unpacked=settings.layer_unpacked_mib * MIB,
        entries=settings.layer_entries,
        file=settings.layer_file_mib * MIB,
        memory=settings.worker_memory_mib * MIB,
        seconds=settings.layer_seconds,
    )
