"""The scan gates, enforced: nobody gets leave to pull an image for a task unless its scans let it through."""

from __future__ import annotations

import asyncio
import contextlib

from contracts.records.scanner import EVERYWHERE, IMAGE_SCAN, SCAN_GATE, ScanGate
from contracts.rpc.scanner import START_SCAN, StartScan
from services.registry.decisions.gate import Verdict, judge, judged
from services.registry.decisions.names import RepositoryId
from services.registry.handlers.images import Images
from services.shared import telemetry
from services.shared.bus import Bus, CommandRefused
from services.shared.errors import AwsError, StateUnavailable
from services.shared.state import Change, View

WAIT_S = 20.0
"""How long a task waits for the scan of its image. The agent's patience with this command is longer."""


class Gates:
    """Gates and scans, by view. Open with `Gates.open`."""

    def __init__(self, bus: Bus, images: Images, wait_s: float = WAIT_S) -> None:
        self._bus = bus
        self._images = images
        self._wait_s = wait_s
        self._waiting: set[asyncio.Event] = set()

    @classmethod
    async def open(cls, bus: Bus, images: Images, wait_s: float = WAIT_S) -> Gates:
        """Read all there is."""
        gates = cls(bus, images, wait_s)
        gates._view = await View.open(bus, IMAGE_SCAN, SCAN_GATE, listen=gates._heard)
        gates.scans = gates._view.table(IMAGE_SCAN)
        gates._gates = gates._view.table(SCAN_GATE)
        return gates

    async def close(self) -> None:
        """Stop following."""
        await self._view.close()

    def _heard(self, change: Change) -> None:
        for waiting in self._waiting:
            waiting.set()

    def of(self, repository: RepositoryId) -> ScanGate | None:
        """The gate that holds for a repository: its own, else that of all."""
        where = (repository.account, repository.region)
        return self._gates.record(*where, f"repository/{repository.name}") or self._gates.record(*where, EVERYWHERE)

    async def admit(self, repository: RepositoryId, digest: str | None) -> None:
        """Raises ScanGate unless this image may run now. Waits for a scan that is under way, and asks for one where
        there was none. An image that is not there is let through: the pull itself tells of it."""
        if self.of(repository) is None or digest is None:
            return
        heard = asyncio.Event()
        self._waiting.add(heard)
        try:
            with telemetry.span("registry.gate", repository=repository.name, image=digest) as span:
                verdict = await self._settled(repository, digest, heard)
                span.set_attribute("verdict", verdict.why or "passes")
        finally:
            self._waiting.discard(heard)
        if verdict.why:
            raise AwsError("ScanGate", f"{repository.name}@{digest} refused by the scan gate: {verdict.why}")

    async def _settled(self, repository: RepositoryId, digest: str, heard: asyncio.Event) -> Verdict:
        """The verdict, once there is nothing to wait for, or it was waited long enough."""
        verdict = self._judge(repository, digest)
        for unscanned in verdict.unscanned:
            where = (repository.account, repository.region, repository.name)
            request = StartScan(account=where[0], region=where[1], repository=where[2], digest=unscanned)
            with contextlib.suppress(StateUnavailable, CommandRefused):
                await self._bus.call(START_SCAN, request)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._wait_s):
                while True:
                    heard.clear()
                    verdict = self._judge(repository, digest)
                    if not verdict.wait:
                        break
                    await heard.wait()
        return verdict

    def _judge(self, repository: RepositoryId, digest: str) -> Verdict:
        image = self._images.find(repository, digest)
        if image is None:
            return Verdict()
        found = judged(image, lambda each: self._images.find(repository, each))
        where = (repository.account, repository.region, repository.name)
        return judge(self.of(repository), [(each, self.scans.record(*where, each.digest)) for each in found])
