"""The scan gates, enforced: nobody gets leave to pull an image for a task unless its scans let it through."""

from __future__ import annotations

import asyncio
import contextlib
from typing import NamedTuple

from msgspec.structs import replace

from contracts.records.registry import Image
from contracts.records.scanner import EVERYWHERE, GATE_OVERRIDE, IMAGE_SCAN, SCAN_GATE, ImageScan, ScanGate
from contracts.rpc.scanner import JUDGE_FINDINGS, START_SCAN, JudgeFindings, StartScan
from services.registry.decisions.gate import Verdict, is_overridden, judge_all, judged
from services.registry.decisions.names import RepositoryId
from services.registry.handlers.images import Images
from services.shared import telemetry
from services.shared.bus import Bus, CommandRefused
from services.shared.clock import Clock
from services.shared.errors import AwsError, StateUnavailable
from services.shared.state import Change, View

WAIT_S = 20.0
"""How long a task waits for the scan of its image. The agent's patience with this command is longer."""


class Where(NamedTuple):
    """Who wants to run an image: a cluster of an account. An empty one has no gate of its own."""

    account: str = ""
    region: str = ""
    cluster: str = ""


class Gates:
    """Gates and scans, by view. Open with `Gates.open`."""

    def __init__(self, bus: Bus, images: Images, clock: Clock, wait_s: float = WAIT_S) -> None:
        self._bus = bus
        self._clock = clock
        self._images = images
        self._wait_s = wait_s
        self._waiting: set[asyncio.Event] = set()

    @classmethod
    async def open(cls, bus: Bus, images: Images, clock: Clock, wait_s: float = WAIT_S) -> Gates:
        """Read all there is."""
        gates = cls(bus, images, clock, wait_s)
        gates._view = await View.open(bus, IMAGE_SCAN, SCAN_GATE, GATE_OVERRIDE, listen=gates._heard)
        gates.scans = gates._view.table(IMAGE_SCAN)
        gates._gates = gates._view.table(SCAN_GATE)
        gates._overrides = gates._view.table(GATE_OVERRIDE)
        return gates

    async def close(self) -> None:
        """Stop following."""
        await self._view.close()

    def _heard(self, change: Change) -> None:
        for waiting in self._waiting:
            waiting.set()

    def over(self, repository: RepositoryId, where: Where) -> list[ScanGate]:
        """The gates that hold for a repository and whoever wants to run its images: its own, else that of all; and that
        of the cluster."""
        there = (repository.account, repository.region)
        found = [
            self._gates.record(*there, f"repository/{repository.name}") or self._gates.record(*there, EVERYWHERE),
            self._gates.record(where.account, where.region, f"cluster/{where.cluster}") if where.cluster else None,
        ]
        return [gate for gate in found if gate is not None]

    async def admit(self, repository: RepositoryId, digest: str | None, where: Where) -> None:
        """Raises ScanGate unless this image may run there now. Waits for a scan that is under way, and asks for one
        where there was none. An image that is not there is let through: the pull itself tells of it."""
        if digest is None or not self.over(repository, where):
            return
        heard = asyncio.Event()
        self._waiting.add(heard)
        try:
            with telemetry.span("registry.gate", repository=repository.name, image=digest) as span:
                verdict = await self._settled(repository, digest, where, heard)
                span.set_attribute("verdict", verdict.why or "passes")
        finally:
            self._waiting.discard(heard)
        if verdict.why:
            more = f"; `roadstead scan {repository.name}@{digest}` shows all" if verdict.found else ""
            raise AwsError("ScanGate", f"{repository.name}@{digest} {verdict.why}{more}")

    async def _settled(self, repository: RepositoryId, digest: str, where: Where, heard: asyncio.Event) -> Verdict:
        """The verdict, once there is nothing to wait for, or it was waited long enough."""
        verdict = self._judge(repository, digest, where)
        for unscanned in verdict.unscanned:
            of = (repository.account, repository.region, repository.name)
            request = StartScan(account=of[0], region=of[1], repository=of[2], digest=unscanned)
            with contextlib.suppress(StateUnavailable, CommandRefused):
                await self._bus.call(START_SCAN, request)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._wait_s):
                while True:
                    heard.clear()
                    verdict = self._judge(repository, digest, where)
                    if verdict.found:
                        verdict = await self._counted(repository, digest, where)
                    if not verdict.wait:
                        break
                    await heard.wait()
        return verdict

    async def _counted(self, repository: RepositoryId, digest: str, where: Where) -> Verdict:
        """The verdict by the findings that count: the scanner knows which are suppressed. Without its word all do."""
        scans = []
        for image, scan in self._scans_of(repository, digest):
            if scan is not None and scan.status == "COMPLETE":
                request = JudgeFindings(
                    account=scan.account, region=scan.region, repository=scan.repository, digest=scan.digest
                )
                with contextlib.suppress(StateUnavailable, CommandRefused):
                    told = await self._bus.call(JUDGE_FINDINGS, request)
                    scan = replace(scan, counts=told.counts, fixable=told.fixable, named=told.named)
            scans.append((image, scan))
        return judge_all(self.over(repository, where), scans)

    def _judge(self, repository: RepositoryId, digest: str, where: Where) -> Verdict:
        return judge_all(self.over(repository, where), self._scans_of(repository, digest))

    def _scans_of(self, repository: RepositoryId, digest: str) -> list[tuple[Image, ImageScan | None]]:
        """The scans that decide about an image; none of what is to run in any case."""
        image = self._images.find(repository, digest)
        if image is None or self._overridden(image):
            return []
        found = judged(image, lambda each: self._images.find(repository, each))
        of = (repository.account, repository.region, repository.name)
        return [(each, self.scans.record(*of, each.digest)) for each in found if not self._overridden(each)]

    def _overridden(self, image: Image) -> bool:
        known = self._overrides.record(image.account, image.region, image.repository, image.digest)
        return is_overridden(known, self._clock())
