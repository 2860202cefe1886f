"""One scan: read the layers that were not read before, look the packages up, write down what was found."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import structlog
from msgspec.structs import replace

from contracts.kinds import Key
from contracts.records.registry import IMAGE, Image, is_container_image
from contracts.records.scanner import IMAGE_SCAN, ImageScan
from contracts.rpc.scanner import AdvisoryDetail
from services.scanner.adapters.files import Files
from services.scanner.adapters.workers import Workers
from services.scanner.decisions.configuration import LIMIT as CONFIGURATION_LIMIT
from services.scanner.decisions.layers import FORMAT
from services.scanner.decisions.scans import completed, documented
from services.scanner.decisions.tar import Limits
from services.scanner.handlers.advisories import Advisories, seconds
from services.scanner.handlers.uses import Uses
from services.scanner.ports import ImageGone, ImageUnsupported, Layers, ScanFailed, WorkerFailed
from services.shared import telemetry
from services.shared.bus import Bus
from services.shared.clock import Clock
from services.shared.state import Entry, Store, fetch

log = structlog.get_logger()

REPORT_LIMIT, REPORTS_LIMIT = 64 << 20, 128 << 20
"""What a layer's report, and those of an image together, may have (bytes): this process holds them."""

OpenLayers = Callable[[Image], Awaitable[Layers]]


class _LayerAnswer(msgspec.Struct):
    """What of a worker's answer matters here; the rest goes on as it is."""

    digest: str = ""
    format: int = 0
    refused: str = ""
    unsupported: str = ""


class _MatchAnswer(msgspec.Struct):
    """What a worker found: the summary, and the report as it is to be kept."""

    note: str
    packages: int
    advisories: str
    newest: str
    counts: dict[str, int]
    fixable: dict[str, int]
    named: dict[str, list[str]]
    exploited: int
    problems: dict[str, int]
    report: msgspec.Raw
    bill: msgspec.Raw


_layer_answer = msgspec.json.Decoder(_LayerAnswer)
_match_answer = msgspec.json.Decoder(_MatchAnswer)
_details = msgspec.json.Decoder(dict[str, AdvisoryDetail])


class Scans:
    """Scans images."""

    def __init__(
        self,
        bus: Bus,
        store: Store,
        files: Files,
        workers: Workers,
        advisories: Advisories,
        open_layers: OpenLayers,
        clock: Clock,
        limits: Limits,
    ) -> None:
        self._bus = bus
        self._store = store
        self._files = files
        self._workers = workers
        self._advisories = advisories
        self._open_layers = open_layers
        self._clock = clock
        self._limits = limits
        self._reading: dict[str, asyncio.Task[bytes]] = {}
        self.uses = Uses(store, files)

    async def scan(self, key: Key, entry: Entry[ImageScan]) -> None:
        """Scan an image and write what came of it, in the trace that asked for it. Raises NotNow, StateUnavailable."""
        told = {"repository": key[2], "image": key[3]}
        with telemetry.continued("scanner.scan", entry.trace, **told) as span:
            image = await fetch(self._bus, IMAGE, key)
            if image is None:
                await self.forget(key)
                return
            try:
                result = await self._result(entry.record, image)
            except ImageGone:
                await self.forget(key)
                return
            except ScanFailed as error:
                status = "UNSUPPORTED_IMAGE" if isinstance(error, ImageUnsupported) else "FAILED"
                log.warning("scan.not_done", repository=key[2], image=key[3], status=status, why=str(error))
                result = replace(entry.record, status=status, description=str(error), completed_at=self._clock())
            span.set_attribute("status", result.status)
            try:
                await self._write(key, entry.record, result)
            finally:
                self.uses.pin(key)

    async def _result(self, scan: ImageScan, image: Image) -> ImageScan:
        if not is_container_image(image):
            raise ImageUnsupported("It is no image of layers: its manifests are scanned, not an index or an artifact")
        elsewhere = [layer.digest for layer in image.layers if layer.external]
        if elsewhere:
            raise ImageUnsupported(f"layer {elsewhere[0]} lies elsewhere, not in this registry")
        digests = list(dict.fromkeys(layer.digest for layer in image.layers))
        reports = await self._reports(image, digests)
        configuration = await self._configuration(image)
        feed = _joined(configuration, [(layer.digest, reports[layer.digest]) for layer in image.layers])
        index = self._advisories.current
        with telemetry.span("scanner.match", layers=len(image.layers), advisories=index.version):
            try:
                text = await self._workers.run("match", *index.arguments, feed=feed)
            except (WorkerFailed, TimeoutError) as error:
                raise ScanFailed(f"its packages could not be matched: {error or 'it took too long'}") from error
        answer = _match_answer.decode(text)
        files = bytes(answer.bill), bytes(answer.report)
        self.uses.pin(IMAGE_SCAN.key_of(scan), *map(self._files.name_of, files))
        contents = await asyncio.to_thread(self._files.keep_bill, files[0])
        report = await asyncio.to_thread(self._files.keep_report, files[1])
        return replace(
            scan,
            status="COMPLETE",
            description=completed(answer.note),
            completed_at=self._clock(),
            counts=answer.counts,
            fixable=answer.fixable,
            named=answer.named,
            exploited=answer.exploited,
            problems=answer.problems,
            packages=answer.packages,
            advisories=answer.advisories,
            advisories_at=seconds(answer.newest),
            report=report,
            contents=contents,
        )

    async def report(self, scan: ImageScan) -> bytes | None:
        """The findings of a scan. Those that were lost are made again of its bill of materials, by the advisories of
        now; None when that is lost too. Raises ScanFailed."""
        data = await asyncio.to_thread(self._files.report, scan.report)
        if data is not None:
            return data
        bill = await asyncio.to_thread(self._files.bill, scan.contents)
        if bill is None:
            return None
        log.warning("report.made_again", report=scan.report, repository=scan.repository, image=scan.digest)
        try:
            text = await self._workers.run("match-bill", *self._advisories.current.arguments, feed=once(bill))
        except (WorkerFailed, TimeoutError) as error:
            raise ScanFailed(f"its packages could not be matched: {error or 'it took too long'}") from error
        return bytes(_match_answer.decode(text).report)

    async def details(self, ids: list[str]) -> dict[str, AdvisoryDetail]:
        """What advisories say in words, by their ids. Raises ScanFailed."""
        arguments = self._advisories.current.arguments
        if not arguments or not ids:
            return {}
        try:
            text = await self._workers.run("details", *arguments, feed=once(msgspec.json.encode(ids)))
        except (WorkerFailed, TimeoutError) as error:
            raise ScanFailed(f"the advisories could not be read: {error or 'it took too long'}") from error
        return _details.decode(text)

    async def _configuration(self, image: Image) -> bytes:
        """The image's configuration, as it is stored. Raises ImageGone, NotNow, ScanFailed."""
        told = image.config
        if told is None or told.external or told.size > CONFIGURATION_LIMIT:
            raise ImageUnsupported(f"its configuration is not here, or has more than {CONFIGURATION_LIMIT >> 20} MiB")
        parts = []
        source = await self._open_layers(image)
        async for part in source.read(told.digest):
            parts.append(part)
        return b"".join(parts)

    async def _reports(self, image: Image, digests: list[str]) -> dict[str, bytes]:
        """The reports of these layers, read or kept. When one fails, the others are not waited for."""
        opened: list[asyncio.Task[Layers]] = []

        async def layers() -> Layers:
            """Leave to read is asked for once, and only when something must be read."""
            if not opened:
                opened.append(asyncio.ensure_future(self._open_layers(image)))
            return await asyncio.shield(opened[0])

        held = 0

        async def report(digest: str) -> bytes:
            nonlocal held
            text = await self._layer(digest, layers)
            held += len(text)
            if held > REPORTS_LIMIT:
                raise ScanFailed(f"its layers tell of more than {REPORTS_LIMIT >> 20} MiB of packages and names")
            return text

        tasks = [asyncio.ensure_future(report(digest)) for digest in digests]
        try:
            return dict(zip(digests, await asyncio.gather(*tasks), strict=True))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, *opened, return_exceptions=True)

    async def _layer(self, digest: str, layers: Callable[[], Awaitable[Layers]]) -> bytes:
        """A layer that several images have is read once, also when they come at the same time."""
        while True:
            running = self._reading.get(digest)
            if running is None:
                running = self._reading[digest] = asyncio.ensure_future(self._read_layer(digest, layers))
                running.add_done_callback(lambda _: self._reading.pop(digest, None))
                try:
                    return await running
                except asyncio.CancelledError:
                    running.cancel()
                    raise
            await asyncio.wait([running])
            if not running.cancelled() and running.exception() is None:
                return running.result()

    async def _read_layer(self, digest: str, layers: Callable[[], Awaitable[Layers]]) -> bytes:
        kept = await asyncio.to_thread(self._files.layer, digest)
        if kept is not None and _is_report(kept, digest):
            return kept
        with telemetry.span("scanner.layer", layer=digest) as span:
            source = await layers()
            limits = msgspec.json.encode(self._limits._asdict()).decode()
            try:
                text = await self._workers.run("layer", limits, feed=source.read(digest), most=REPORT_LIMIT)
            except (WorkerFailed, TimeoutError) as error:
                raise ScanFailed(f"layer {digest} could not be read: {error or 'it took too long'}") from error
            answer = _layer_answer.decode(text)
            if answer.unsupported:
                raise ImageUnsupported(f"layer {digest}: {answer.unsupported}")
            if answer.refused or answer.digest != digest:
                raise ScanFailed(f"layer {digest}: {answer.refused or 'its content has another digest'}")
            span.set_attribute("report_bytes", len(text))
        await asyncio.to_thread(self._files.keep_layer, digest, text)
        return text

    async def _write(self, key: Key, scanned: ImageScan, result: ImageScan) -> None:
        """One write, unless something newer was asked for meanwhile."""
        event = "image.scanned.v1" if result.status == "COMPLETE" else "scan.failed.v1"

        def change(old: ImageScan | None) -> ImageScan | None:
            if old is None or documented(old, scanned) != scanned:
                return old
            return documented(result, old)

        await self._store.update(IMAGE_SCAN, key, change, event)
        self.uses.pin(key)
        self.uses.drop_unused(scanned, result)

    async def give_up(self, key: Key, scanned: ImageScan, why: str) -> None:
        """It can't be done, and not for want of somebody else."""
        failed = replace(scanned, status="FAILED", description=why, completed_at=self._clock())
        await self._write(key, scanned, failed)

    async def forget(self, key: Key) -> None:
        """The image is gone."""
        scan = self._store.table(IMAGE_SCAN).record(*key)
        if scan is not None:
            await self._store.delete(IMAGE_SCAN, key, "scan.forgotten.v1")
            self.uses.drop_unused(scan)


def _is_report(text: bytes, digest: str) -> bool:
    try:
        answer = _layer_answer.decode(text)
    except msgspec.DecodeError:
        return False
    return (answer.digest, answer.format) == (digest, FORMAT)


async def once(data: bytes) -> AsyncIterator[bytes]:
    """What a worker is fed."""
    yield data


async def _joined(configuration: bytes, reports: list[tuple[str, bytes]]) -> AsyncIterator[bytes]:
    """[configuration, [digest, report], …] without reading what is in them; the configuration in Base64."""
    yield b'["%s"' % b64encode(configuration)
    for digest, report in reports:
        yield b',["%s",%s]' % (digest.encode(), report)
    yield b"]"
