"""Puts bills of materials beside images once these were scanned, one image after the other: findings come first.

Level-triggered: a scan's record says whether its bills tell of what was found last, so that what was broken off is done
by the next process.
"""

from __future__ import annotations

import asyncio

import structlog

from contracts.kinds import Key
from contracts.records.scanner import IMAGE_SCAN
from services.scanner.decisions.scans import is_undocumented
from services.scanner.handlers.documents import Documents
from services.scanner.ports import NotNow, Refused, ScanFailed
from services.shared.errors import StateUnavailable
from services.shared.state import Change, Conflict, Store

log = structlog.get_logger()

RETRY_S = 0.5
RETRY_AT_MOST_S = 60.0


class DocumentController:
    """`heard` is a listener of the store; `run` works until cancelled."""

    def __init__(self, store: Store, documents: Documents) -> None:
        self._table = store.table(IMAGE_SCAN)
        self._documents = documents
        self._marked: dict[Key, None] = {}
        self._tries: dict[Key, int] = {}
        self._wake = asyncio.Event()

    def heard(self, change: Change) -> None:
        """Mark what was scanned."""
        if change.kind is IMAGE_SCAN and change.new is not None and is_undocumented(change.new.record):
            self._mark(change.key)

    def _mark(self, key: Key) -> None:
        self._marked[key] = None
        self._wake.set()

    async def run(self) -> None:
        """Begin with all that is left from before."""
        for key in self._table.all_keys():
            self._mark(key)
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._marked:
                key = next(iter(self._marked))
                del self._marked[key]
                await self._work(key)

    async def _work(self, key: Key) -> None:
        entry = self._table.get(*key)
        if entry is None or not is_undocumented(entry.record):
            return
        told = {"repository": key[2], "image": key[3]}
        try:
            await self._documents.store(key, entry)
            self._tries.pop(key, None)
        except (Refused, ScanFailed) as error:  # the next start tries again, and so does the next scan
            log.warning("sbom.not_stored", why=str(error), **told)
        except (NotNow, StateUnavailable, Conflict) as error:
            tries = self._tries[key] = self._tries.get(key, 0) + 1
            log.info("sbom.again_later", why=str(error) or type(error).__name__, tries=tries, **told)
            # Somebody is away: there is no event for "try again".
            asyncio.get_running_loop().call_later(
                min(RETRY_S * 2 ** min(tries - 1, 10), RETRY_AT_MOST_S), self._mark, key
            )
        except Exception:
            log.exception("sbom.broke_off", **told)
