"""Scans what is to be scanned: what was asked for. What other advisories say of it is rematching.py's work.

Level-triggered: the records say what is due, so that a scan which was broken off is done by the next process.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import structlog

from contracts.kinds import Key
from contracts.records.scanner import IMAGE_SCAN
from services.scanner.decisions.scans import is_due
from services.scanner.handlers.scanning import Scans
from services.scanner.ports import NotNow
from services.shared.errors import StateUnavailable
from services.shared.marked import Marked
from services.shared.state import Change, Conflict, Store

log = structlog.get_logger()

RETRY_S = 0.5
RETRY_AT_MOST_S = 30.0
FAULTS = 8
"""After how many tries a fault of the scanner's own counts as the image's."""


class ScanController(Marked):
    """`heard` is a listener of the store; `run` works until cancelled."""

    def __init__(self, store: Store, scans: Scans, at_once: int) -> None:
        super().__init__(at_once=at_once)
        self._table = store.table(IMAGE_SCAN)
        self._scans = scans
        self._tries: dict[Key, int] = {}

    def heard(self, change: Change) -> None:
        """Mark what a change is about."""
        if change.kind is IMAGE_SCAN and change.new is not None and change.new.record.status == "IN_PROGRESS":
            self.mark(change.key)

    def all_keys(self) -> Iterable[Key]:
        """Every image."""
        return self._table.all_keys()

    async def _reconcile(self, key: Key) -> None:
        entry = self._table.get(*key)
        if entry is None or not is_due(entry.record):
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
        self._look_again(key, min(RETRY_S * 2 ** (tries - 1), RETRY_AT_MOST_S))  # others have their turn meanwhile
