"""One image, for somebody who waits: scanned if it was not, and all that was found."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import msgspec

from contracts.kinds import Key
from contracts.records.registry import IMAGE, Image, is_container_image
from contracts.records.scanner import IMAGE_SCAN, SEVERITIES, ImageScan
from contracts.rpc.scanner import Finding, ScanStarted, StartScan
from services.scanner.adapters.files import Files
from services.scanner.handlers.suppressing import Suppressing
from services.scanner.ports import ImageGone, ScanFailed
from services.shared.bus import Bus
from services.shared.errors import AwsError
from services.shared.state import Change, Store, fetch

DEPTH = 4
"""How far indexes of indexes are followed."""


class Problem(msgspec.Struct, kw_only=True, frozen=True):
    """A secret in an image, or what is wrong with its configuration. `path` is a file's, with its `line` (from 1) and
    the `layer` it came in, or a place in the image's configuration. `shown` is how a secret begins, not more."""

    rule: str
    title: str
    severity: str
    path: str
    line: int
    shown: str
    layer: str


class Inspected(msgspec.Struct, kw_only=True, frozen=True):
    """An image and what was found in it. `error` says why that is not known."""

    repository: str
    digest: str
    error: str = ""
    description: str = ""
    packages: int = 0
    advisories_at: float = 0.0
    findings: list[Finding] = []
    problems: list[Problem] = []


class Inspection(msgspec.Struct, kw_only=True, frozen=True):
    """An image, or all of an index."""

    images: list[Inspected]


class _Bill(msgspec.Struct):
    """What of a bill of materials is told here."""

    secrets: list[tuple[str, str, str, str, int, str, str]] = []


_bill = msgspec.json.Decoder(_Bill)


class Inspecting:
    """Waits for scans. `settled` says of one that nothing else is about to come of it."""

    def __init__(
        self,
        bus: Bus,
        store: Store,
        files: Files,
        suppressing: Suppressing,
        start: Callable[[StartScan], Awaitable[ScanStarted]],
        settled: Callable[[ImageScan], bool],
    ) -> None:
        self._bus = bus
        self._files = files
        self._scans = store.table(IMAGE_SCAN)
        self._suppressing = suppressing
        self._start = start
        self._settled = settled
        self._waiting: set[asyncio.Event] = set()

    def heard(self, change: Change | None = None) -> None:
        """Something changed: whoever waits looks again."""
        for waiting in self._waiting:
            waiting.set()

    async def inspect(self, key: Key, wait_s: float) -> Inspection:
        """All that is known of an image, its scan being waited for. Raises ImageGone, StateUnavailable."""
        image = await fetch(self._bus, IMAGE, key)
        if image is None:
            raise ImageGone(key[3])
        images = await self._images(image, DEPTH)
        async with asyncio.TaskGroup() as group:
            told = [group.create_task(self._one(each, wait_s)) for each in images]
        return Inspection(images=[each.result() for each in told])

    async def _images(self, image: Image, depth: int) -> list[Image]:
        """The images of an index; one that is none stands for itself."""
        if not image.manifests or not depth:
            return [image]
        found: list[Image] = []
        for child in image.manifests:
            known = await fetch(self._bus, IMAGE, (image.account, image.region, image.repository, child.digest))
            if known is not None and (known.manifests or is_container_image(known)):
                found += await self._images(known, depth - 1)
        return found

    async def _one(self, image: Image, wait_s: float) -> Inspected:
        try:
            scan = await self._scanned(IMAGE.key_of(image), wait_s)
            if scan is None or scan.status == "IN_PROGRESS":
                raise ScanFailed(f"its scan was not done within {wait_s:.0f} s")
            if scan.status != "COMPLETE":
                raise ScanFailed(scan.description)
            if not scan.advisories:
                raise ScanFailed("it was scanned without advisories: `roadstead advisories import` brings them")
            findings = await self._suppressing.findings(scan)
            problems = await asyncio.to_thread(self._problems, scan.contents)
        except (ScanFailed, AwsError) as error:
            why = error.message if isinstance(error, AwsError) else str(error)
            return Inspected(repository=image.repository, digest=image.digest, error=why)
        return Inspected(
            repository=image.repository,
            digest=image.digest,
            description=scan.description,
            packages=scan.packages,
            advisories_at=scan.advisories_at,
            findings=findings,
            problems=problems,
        )

    def _problems(self, contents: str) -> list[Problem]:
        data = self._files.bill(contents)
        if data is None:
            raise ScanFailed("what is known of it is lost: scan it again")
        told = [dict(zip(Problem.__struct_fields__, each, strict=True)) for each in _bill.decode(data).secrets]
        found = [Problem(**each) for each in told]
        return sorted(found, key=lambda each: (-SEVERITIES.index(each.severity), each.rule, each.path, each.line))

    async def _scanned(self, key: Key, wait_s: float) -> ImageScan | None:
        """The scan, once it is over and held against the advisories of now, or it was waited long enough."""
        if self._scans.record(*key) is None:
            await self._start(StartScan(account=key[0], region=key[1], repository=key[2], digest=key[3]))
        heard = asyncio.Event()
        self._waiting.add(heard)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    while not self._over(self._scans.record(*key)):
                        heard.clear()
                        await heard.wait()
        finally:
            self._waiting.discard(heard)
        return self._scans.record(*key)

    def _over(self, scan: ImageScan | None) -> bool:
        if scan is None or scan.status == "IN_PROGRESS":
            return False
        return scan.status != "COMPLETE" or self._settled(scan)
