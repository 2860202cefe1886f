"""Puts bills of materials beside images once these were scanned, one image after the other: findings come first.

Level-triggered: a scan's record says whether its bills tell of what was found last, so that what was broken off is done
by the next process.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from contracts.kinds import Key
from contracts.records.scanner import IMAGE_SCAN
from services.scanner.decisions.scans import is_undocumented
from services.scanner.handlers.documents import Documents
from services.scanner.ports import NotNow, Refused, ScanFailed
from services.shared.errors import StateUnavailable
from services.shared.marked import Marked
from services.shared.state import Change, Conflict, Store

log = structlog.get_logger()

RETRY_S = 0.5
RETRY_AT_MOST_S = 60.0


class DocumentController(Marked):
    """`heard` is a listener of the store; `run` works until cancelled."""

    def __init__(self, store: Store, documents: Documents) -> None:
        super().__init__(at_once=1)
        self._table = store.table(IMAGE_SCAN)
        self._documents = documents
        self._tries: dict[Key, int] = {}

    def heard(self, change: Change) -> None:
        """Mark what was scanned."""
        if change.kind is IMAGE_SCAN and change.new is not None and is_undocumented(change.new.record):
            self.mark(change.key)

    def all_keys(self) -> Iterable[Key]:
        """Every image: what is left from before is among them."""
        return self._table.all_keys()

    def _concerns(self, key: Key) -> bool:
        entry = self._table.get(*key)
        return entry is not None and is_undocumented(entry.record)

    async def _reconcile(self, key: Key) -> None:
        entry = self._table.get(*key)
        if entry is None:
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
            self._look_again(key, min(RETRY_S * 2 ** min(tries - 1, 10), RETRY_AT_MOST_S))
        except Exception:  # a fault of the scanner's own: trying for ever would keep others waiting
            log.exception("sbom.broke_off", **told)
