"""Works on replication backfills: when one is started, and at the start on what was left."""

from __future__ import annotations

import asyncio

import structlog

from contracts.records.registry import BACKFILL, Backfill
from services.registry.handlers.backfills import Backfills
from services.shared.errors import StateUnavailable
from services.shared.state import Change, Conflict

log = structlog.get_logger()

RETRY_S = 2.0


class BackfillController:
    """`heard` is a listener of the store; `run` works until cancelled, on one backfill at a time."""

    def __init__(self, backfills: Backfills) -> None:
        self._backfills = backfills
        self._wake = asyncio.Event()
        self._wake.set()

    def heard(self, change: Change) -> None:
        """One was started or is to stop."""
        if change.kind is BACKFILL:
            self._wake.set()

    async def run(self) -> None:
        """Work on what there is."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not await self._round():
                self._wake.set()
                await asyncio.sleep(RETRY_S)  # NATS or an installation is away: there is no event for "try again"

    async def _round(self) -> bool:
        """Work on each as far as it goes; whether nothing is to be done again."""
        try:
            await self._backfills.forget()
        except (StateUnavailable, Conflict):
            return False
        went = [await self._work(backfill) for backfill in self._backfills.pending()]
        return all(went)

    async def _work(self, backfill: Backfill) -> bool:
        try:
            await self._once(backfill)
        except (StateUnavailable, Conflict):
            return False
        return True

    async def _once(self, backfill: Backfill) -> None:
        try:
            await self._backfills.work(backfill)
        except (StateUnavailable, Conflict):
            raise
        except Exception:
            log.exception("backfill.broken", backfill=backfill.id)
            await self._backfills.end(backfill, "ServerException")
