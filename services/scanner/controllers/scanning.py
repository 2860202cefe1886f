"""Scans what is to be scanned: what was asked for, and what was matched with advisories that are not in force any more.

Level-triggered: the records say what is due, so that a scan which was broken off is done by the next process.
"""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from contracts.kinds import Key
from contracts.records.scanner import IMAGE_SCAN
from services.scanner.decisions.scans import is_due
from services.scanner.handlers.advisories import Advisories
from services.scanner.handlers.scanning import Scans
from services.scanner.ports import NotNow
from services.shared.errors import StateUnavailable
from services.shared.state import Change, Conflict, Store

log = structlog.get_logger()

RETRY_S = 0.5
RETRY_AT_MOST_S = 30.0
FAULTS = 8
"""After how many tries a fault of the scanner's own counts as the image's."""


class ScanController:
    """`heard` is a listener of the store; `run` works until cancelled."""

    def __init__(self, store: Store, scans: Scans, advisories: Advisories, at_once: int) -> None:
        self._table = store.table(IMAGE_SCAN)
        self._scans = scans
        self._advisories = advisories
        self._at_once = at_once
        self._dirty: dict[Key, None] = {}
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._tries: dict[Key, int] = {}
        self._wake = asyncio.Event()

    def heard(self, change: Change) -> None:
        """Mark what a change is about."""
        if change.kind is IMAGE_SCAN and change.new is not None and change.new.record.status == "IN_PROGRESS":
            self._mark(change.key)

    def mark_all(self) -> None:
        """The advisories are others: look at every image."""
        for key in self._table.all_keys():
            self._mark(key)

    def _mark(self, key: Key) -> None:
        self._dirty[key] = None
        self._wake.set()

    async def run(self) -> None:
        """Begin with all there is."""
        self.mark_all()
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                for key in [k for k in self._dirty if k not in self._running]:
                    if len(self._running) >= self._at_once:
                        break
                    del self._dirty[key]
                    self._begin(key)
        finally:
            for work in list(self._running.values()):
                work.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    def _begin(self, key: Key) -> None:
        work = self._running[key] = asyncio.create_task(self._work(key))
        work.add_done_callback(lambda _: self._ended(key))

    def _ended(self, key: Key) -> None:
        self._running.pop(key, None)
        self._wake.set()

    async def _work(self, key: Key) -> None:
        entry = self._table.get(*key)
        if entry is None or not is_due(entry.record, self._advisories.current.version):
            return
        try:
            await self._scans.scan(key, entry)
            self._tries.pop(key, None)
            return
        except (NotNow, StateUnavailable, Conflict) as error:
            why = str(error) or type(error).__name__
        except Exception as error:
            log.exception("scan.broke_off", repository=key[2], image=key[3])
            why = f"the scanner can't do it: {type(error).__name__}: {error}"
            if self._tries.get(key, 0) + 1 >= FAULTS:
                with contextlib.suppress(StateUnavailable, Conflict):
                    await self._scans.give_up(key, entry.record, why)
                    self._tries.pop(key, None)
                    return
        tries = self._tries[key] = self._tries.get(key, 0) + 1
        log.info("scan.again_later", repository=key[2], image=key[3], why=why, tries=tries)
        # Somebody is away: there is no event for "try again".
        asyncio.get_running_loop().call_later(min(RETRY_S * 2 ** (tries - 1), RETRY_AT_MOST_S), self._mark, key)
