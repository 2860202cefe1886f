"""Looks at what is marked: each service by itself, never twice at once, again later when something is away.

Level-triggered: a mark only says which service to look at; what is done is decided from what is now, so a step that was
cut off is simply decided upon again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog

from contracts.kinds import Key
from services.app_runner_gateway.adapters.haproxy import ProxyAway
from services.shared.errors import StateUnavailable
from services.shared.state import Conflict

log = structlog.get_logger()

RETRY_S = 0.3


class Marked:
    """What controllers of services have in common: `mark` says which one to look at, `run` works until cancelled. One
    says what `all_keys` are, and what it does in `_reconcile`."""

    def __init__(self) -> None:
        self._dirty: dict[Key, None] = {}
        self._busy: set[Key] = set()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._wake = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()

    def all_keys(self) -> Iterable[Key]:
        """Every service there is."""
        raise NotImplementedError

    async def _reconcile(self, key: Key) -> None:
        """One look at one service. Raises StateUnavailable, Conflict, ProxyAway, to be called again soon."""
        raise NotImplementedError

    def mark(self, key: Key) -> None:
        """Look at this service soon."""
        self._dirty[key] = None
        self._wake.set()

    def mark_all(self) -> None:
        """Look at every service."""
        for key in self.all_keys():
            self.mark(key)

    async def run(self) -> None:
        """Look at every service once, then at those that are marked."""
        self.mark_all()
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                for key in [k for k in self._dirty if k not in self._busy]:
                    del self._dirty[key]
                    self._busy.add(key)
                    work = asyncio.create_task(self._work(key))
                    self._running.add(work)
                    work.add_done_callback(self._running.discard)
        finally:
            for timer in self._timers.values():
                timer.cancel()
            for work in self._running:
                work.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def _work(self, key: Key) -> None:
        delay = 0.0
        try:
            await self._reconcile(key)
        except (StateUnavailable, Conflict, ProxyAway) as error:
            log.warning("service.later", key=key, error=str(error))
            delay = RETRY_S
        except Exception:
            log.exception("service.reconcile_failed", key=key)
            delay = 10 * RETRY_S
        if delay:
            await asyncio.sleep(delay)  # NATS or HAProxy is away: there is no event for "try again"
            self._dirty[key] = None
        self._busy.discard(key)
        if key in self._dirty:
            self._wake.set()

    def _look_again(self, key: Key, seconds: float | None) -> None:
        """Mark the service in so many seconds, whatever was planned before; None: nothing is planned."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if seconds is not None:
            delay = max(0.0, seconds) + 0.01
            self._timers[key] = asyncio.get_running_loop().call_later(delay, self.mark, key)
