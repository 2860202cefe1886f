"""Bills of materials: made of what a scan found, and put beside the image as its referrers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import structlog

from contracts.kinds import Key
from contracts.records.registry import IMAGE, Image
from contracts.records.scanner import IMAGE_SCAN, ImageScan
from services.scanner.adapters.files import Files
from services.scanner.adapters.registry import tagged
from services.scanner.adapters.workers import Workers
from services.scanner.decisions import attachments, cyclonedx, spdx
from services.scanner.decisions.inventory import About
from services.scanner.decisions.scans import is_undocumented, stored
from services.scanner.handlers.scanning import once
from services.scanner.ports import Attachments, ImageGone, ScanFailed, WorkerFailed
from services.shared import telemetry
from services.shared.bus import Bus
from services.shared.state import Entry, Store, fetch

log = structlog.get_logger()

MEDIA_TYPES = {"cyclonedx": cyclonedx.MEDIA_TYPE, "spdx": spdx.MEDIA_TYPE}
"""By format."""

OpenAttachments = Callable[[Image], Awaitable[Attachments]]

_documents = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Documents:
    """The bills of materials of images that were scanned. Their workers are not those of scans, which come first."""

    def __init__(
        self, bus: Bus, store: Store, files: Files, workers: Workers, open_attachments: OpenAttachments
    ) -> None:
        self._bus = bus
        self._store = store
        self._files = files
        self._workers = workers
        self._open_attachments = open_attachments

    async def of(self, account: str, region: str, repository: str, reference: str) -> dict[str, bytes] | None:
        """The bills of an image (a digest or a tag) by format, made now; None for one that was not scanned, or is not
        there. Raises NotNow, ScanFailed, StateUnavailable."""
        digest = await self.digest_of(account, region, repository, reference)
        key: Key = (account, region, repository, digest)
        scan, image = self._store.table(IMAGE_SCAN).record(*key), await fetch(self._bus, IMAGE, key)
        return await self._made(scan, image) if scan is not None and image is not None else None

    async def digest_of(self, account: str, region: str, repository: str, reference: str) -> str:
        """The digest that a tag, or a digest, names; empty for none. Raises NotNow."""
        if ":" in reference:
            return reference
        return await tagged(self._bus, account, region, repository, reference)

    async def _made(self, scan: ImageScan, image: Image) -> dict[str, bytes] | None:
        contents = await asyncio.to_thread(self._files.bill, scan.contents) if scan.contents else None
        if contents is None:
            return None

        about = msgspec.json.encode(about_of(image)._asdict()).decode()
        try:
            text = await self._workers.run("documents", about, feed=once(contents))
        except (WorkerFailed, TimeoutError) as error:
            raise ScanFailed(f"its bills of materials could not be made: {error or 'it took too long'}") from error
        return {name: bytes(raw) for name, raw in _documents.decode(text).items()}

    async def store(self, key: Key, entry: Entry[ImageScan]) -> None:
        """Put the bills of an image beside it, take away those of what was found before, and write that down, in the
        trace of the scan. What is there already stays as it is. Raises NotNow, Refused, ScanFailed,
        StateUnavailable."""
        scan = entry.record
        with telemetry.continued("scanner.sbom", entry.trace, repository=key[2], image=key[3]):
            image = await fetch(self._bus, IMAGE, key)
            made = await self._made(scan, image) if image is not None and is_undocumented(scan) else None
            if image is None or made is None:
                return
            try:
                beside = await self._open_attachments(image)
                boms = {name: await _put(beside, image, name, data) for name, data in made.items()}
                for digest in set(scan.boms.values()) - set(boms.values()):
                    await beside.remove(digest)
            except ImageGone:
                return
            await self._store.update(IMAGE_SCAN, key, lambda old: stored(old, scan.contents, boms), "sbom.stored.v1")


def about_of(image: Image) -> About:
    """What a bill of materials says of its image."""
    return About(image.account, image.region, image.repository, image.digest, image.pushed_at)


async def _put(beside: Attachments, image: Image, name: str, document: bytes) -> str:
    """The digest of the manifest."""
    manifest = attachments.manifest(image, MEDIA_TYPES[name], document, about_of(image).time)
    blobs = {attachments.digest_of(data): data for data in (attachments.EMPTY, document)}
    await beside.put(manifest, blobs)
    return attachments.digest_of(manifest)
