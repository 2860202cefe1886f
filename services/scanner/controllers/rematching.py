"""Holds advisories that changed against every image that has a package which they speak of, out of what is known of its
layers: none is read again.

Level-triggered. Which images something else comes of, the index of bills of materials says (adapters/held.py); what was
done, it is told behind the write of the record. A process that is killed in the middle leaves the rest to the next one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, zip_longest
from typing import Any

import msgspec
import structlog

from contracts.kinds import Key
from contracts.records.scanner import IMAGE_SCAN, ImageScan
from services.scanner.adapters.files import Files
from services.scanner.adapters.workers import Workers
from services.scanner.decisions import scans
from services.scanner.decisions.scans import Rematch
from services.scanner.handlers.advisories import Advisories, seconds
from services.scanner.handlers.scanning import once
from services.scanner.handlers.uses import Uses
from services.scanner.ports import WorkerFailed
from services.shared.clock import Clock
from services.shared.errors import StateUnavailable
from services.shared.metrics import Metrics
from services.shared.state import Change, Conflict, Store

log = structlog.get_logger()

BATCH = 2048
"""How many bills of materials a worker takes at a time."""
WRITES = 256
"""How many records are written at a time."""
SETTLE_S = 0.5
"""How long a new bill of materials waits for others before they are remembered."""
RETRY_S = 1.0
RETRY_AT_MOST_S = 60.0
WORK_S = 3600.0


class _Touched(msgspec.Struct):
    due: list[str] = []
    lost: list[str] = []
    refused: str = ""


class _Again(msgspec.Struct):
    changed: list[Rematch] = []
    packs: list[str] = []
    unchanged: list[str] = []
    lost: list[str] = []
    revision: int = 0
    version: str = ""
    newest: str = ""
    refused: str = ""


_touched, _again = msgspec.json.Decoder(_Touched), msgspec.json.Decoder(_Again)


class Rematching:
    """`wake` when advisories, settings or gates have changed; `heard` is a listener of the store; `run` works until
    cancelled. `follows` says whether an image is matched again; `pass_done` is told (images looked at, images
    changed)."""

    def __init__(
        self,
        store: Store,
        files: Files,
        workers: Workers,
        advisories: Advisories,
        uses: Uses,
        follows: Callable[[ImageScan], bool],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._table = store.table(IMAGE_SCAN)
        self._files = files
        self._workers = workers
        self._advisories = advisories
        self._uses = uses
        self._follows = follows
        self._clock = clock
        self._new: dict[str, int] = {}
        self._known: set[str] | None = None
        self._held_back: set[Key] = set()
        self._wake = asyncio.Event()
        self._writes = asyncio.Semaphore(WRITES)
        self._outcomes = metrics.counter(
            "images_matched_again_total", "Images looked at again after a change of advisories", ("outcome",)
        )
        self.passes = 0
        self.pass_done: Callable[[int, int], None] = lambda looked, changed: None
        self.reached = ""
        """The version of the advisories that every image was held against."""

    def wake(self) -> None:
        """There may be something to do."""
        self._wake.set()

    def heard(self, change: Change) -> None:
        """A scan that is new brings a bill of materials that is to be remembered."""
        if change.kind is not IMAGE_SCAN or change.new is None or self._known is None:
            return
        scan = change.new.record
        if scan.status == "COMPLETE" and scan.contents and scan.contents not in self._known:
            self._known.add(scan.contents)
            self._new[scan.contents] = self._revision(scan)
            if len(self._new) == 1:
                asyncio.get_running_loop().call_later(SETTLE_S, self._wake.set)

    def _revision(self, scan: ImageScan) -> int:
        """The revision of the index of now that a scan was matched with; -1 for another index, or none."""
        identity, _, revision = scan.advisories.partition(".")
        return int(revision) if identity and identity == self._advisories.current.version.partition(".")[0] else -1

    async def run(self) -> None:
        """Begin with all there is."""
        self._wake.set()
        delay = 0.0
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._pass()
                delay = 0.0
                continue
            except (WorkerFailed, StateUnavailable, Conflict, TimeoutError) as error:
                why = str(error) or type(error).__name__
            except Exception as error:
                log.exception("rematch.broke_off")
                why = f"{type(error).__name__}: {error}"
            delay = min(max(2 * delay, RETRY_S), RETRY_AT_MOST_S)
            log.warning("rematch.again_later", why=why, seconds=delay)
            # Somebody is away: there is no event for "try again".
            asyncio.get_running_loop().call_later(delay, self._wake.set)

    async def _pass(self) -> None:
        """Look at everything that is due."""
        version = self._advisories.current.version
        if not version:
            return
        told = await self._touch()
        for bill in told.lost:
            await self._scan_again(bill)
        held_back = {IMAGE_SCAN.key_of(scan) for scan in self._table.records() if not self._follows(scan)}
        freed = self._held_back - held_back
        if self.passes == 0 and held_back:
            freed |= {key for key in self._table.all_keys() if key not in held_back and self._behind(key)}
        self._held_back = held_back
        looked, changed = await self._rematch(told.due, freed)
        self.passes += 1
        self.reached = version
        self.pass_done(looked, changed)
        if looked:
            log.info("rematch.done", images=looked, changed=changed, version=version)

    def _behind(self, key: Key) -> bool:
        scan = self._table.record(*key)
        return scan is not None and scan.advisories != self._advisories.current.version

    async def _touch(self) -> _Touched:
        new, self._new = self._new, {}
        request: dict[str, Any] = {"hold": list(new.items())}
        if self._known is None:
            request["only"] = self._uses.bills()
            self._known = set(request["only"])
        try:
            told = _touched.decode(await self._work("touched", request))
            if told.refused:
                raise WorkerFailed(told.refused)
            return told
        except BaseException:
            self._new = {**new, **self._new}
            self._known = None
            raise

    def _work(self, mode: str, request: dict[str, Any]) -> Any:
        paths = (self._files.index, self._files.held, self._files.root)
        feed = once(msgspec.json.encode(request))
        return self._workers.run(mode, *map(str, paths), feed=feed, timeout_s=WORK_S, apart=True)

    async def _rematch(self, due: list[str], freed: set[Key]) -> tuple[int, int]:
        """How many images were looked at, and how many have changed. A worker matches the next batch while the records
        of one are written."""
        looked = changed = 0
        entries = list(self._entries(due, freed))
        left = Counter(bill for bill, _, _ in entries)
        batches = [*_batches(entries, BATCH)]
        ahead: asyncio.Task[_Again] | None = None
        sweeps: list[asyncio.Task[None]] = []
        done: list[tuple[int, list[str]]] = []
        try:
            for batch, next_ in zip_longest(batches, batches[1:]):
                told = await (ahead or self._match(done, batch))
                ahead = None
                if next_:
                    ahead, done = asyncio.create_task(self._match(done, next_)), []
                replaced = await self._written(told)
                sweeps.append(asyncio.create_task(asyncio.to_thread(self._uses.drop_unused, *replaced)))
                looked, changed = looked + len(told.unchanged) + len(replaced), changed + len(replaced)
                left.subtract(bill for bill, _, _ in batch)
                done.append((told.revision, [bill for bill in {each[0]: None for each in batch} if not left[bill]]))
        finally:
            if ahead is not None:
                ahead.cancel()
            await asyncio.gather(*([ahead] if ahead else []), *sweeps, return_exceptions=True)
        if done:
            await self._match(done, [])
        if changed:
            await asyncio.to_thread(self._files.tidy)
        return looked, changed

    async def _match(self, done: list[tuple[int, list[str]]], batch: list[tuple[str, str, bool]]) -> _Again:
        bills = [(bill, report, self._files.place(report), whole) for bill, report, whole in batch]
        told = _again.decode(await self._work("rematch", {"done": done, "bills": bills}))
        if told.refused:
            raise WorkerFailed(told.refused)
        await asyncio.to_thread(self._files.packed, told.packs)
        return told

    async def _written(self, told: _Again) -> list[ImageScan]:
        """Write what a worker found; the records that were replaced."""
        written = await asyncio.gather(*(self._write(each, told) for each in told.changed))
        for bill in told.lost:
            await self._scan_again(bill)
        replaced = [scan for each in written for scan in each]
        self._outcomes.labels("unchanged").inc(len(told.unchanged))
        self._outcomes.labels("changed").inc(len(replaced))
        return replaced

    def _entries(self, due: list[str], freed: set[Key]) -> Iterator[tuple[str, str, bool]]:
        """(bill, report, whether what the report says is of an unknown time), each once."""
        for bill in due:
            scans_ = (self._table.record(*key) for key in self._uses.images(bill) if key not in freed)
            reports = {scan.report for scan in scans_ if scan is not None and self._follows(scan)}
            yield from ((bill, report, False) for report in sorted(reports))
        found = (self._table.record(*key) for key in freed)
        yield from sorted({(scan.contents, scan.report, True) for scan in found if scan is not None and scan.contents})

    async def _write(self, told: Rematch, answer: _Again) -> list[ImageScan]:
        """One write for each image that has the bill and had the report; the records that were replaced."""
        told.version, told.newest = answer.version, seconds(answer.newest)
        replaced = [await self._write_one(key, told) for key in self._uses.images(told.bill)]
        return [scan for scan in replaced if scan is not None]

    async def _write_one(self, key: Key, told: Rematch) -> ImageScan | None:
        scan = self._table.record(*key)
        if scan is None or not self._follows(scan):
            return None

        def change(old: ImageScan | None) -> ImageScan | None:
            if old is None or (old.status, old.contents, old.report) != ("COMPLETE", told.bill, told.before):
                return old  # scanned anew meanwhile, or told before by who was killed then
            return scans.matched(old, told, self._clock())

        async with self._writes:
            written = await self._store.update(IMAGE_SCAN, key, change, "findings.changed.v1")
        return scan if written is not None and written.report == told.report else None

    async def _scan_again(self, bill: str) -> None:
        """The file of a bill of materials is lost: its images are read again, mostly out of what is kept of layers."""
        for key in self._uses.images(bill):
            log.warning("bill.lost", bill=bill, repository=key[2], image=key[3])
            await self._store.update(IMAGE_SCAN, key, scans.lost(bill, self._clock()), "scan.requested.v1")

    def settled(self, scan: ImageScan) -> bool:
        """Whether an image was held against the advisories of now, be it that nothing came of it."""
        current = self._advisories.current.version
        return bool(current) and (scan.advisories == current or (self.reached == current and self._follows(scan)))


def _batches(entries: Iterable[Any], size: int) -> Iterator[list[Any]]:
    left = iter(entries)
    while batch := list(islice(left, size)):
        yield batch
