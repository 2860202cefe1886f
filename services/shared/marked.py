"""Looks at what is marked: each key by itself, never twice at once, again later when somebody is away.

Level-triggered: a mark only says what to look at; what is done is decided from what is now, so a step that was cut off
is simply decided upon again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import islice

import structlog

from contracts.kinds import Key
from services.shared.errors import StateUnavailable
from services.shared.state import Conflict

log = structlog.get_logger()

AWAY: tuple[type[Exception], ...] = (StateUnavailable, Conflict)
RETRY_S = 0.3


class Marked:
    """What controllers have in common that look at one thing at a time: `mark` says which one to look at, `run` works
    until cancelled. One says what `all_keys` are, and what it does in `_reconcile`.

    After an exception of `away` a key is looked at again in `retry_s` seconds, after any other in ten times as long.
    At most `at_once` are looked at at a time; 0: as many as are marked.
    """

    def __init__(self, *, away: tuple[type[Exception], ...] = AWAY, retry_s: float = RETRY_S, at_once: int = 0) -> None:
        self._away, self._retry_s, self._at_once = away, retry_s, at_once
        self._dirty: dict[Key, None] = {}
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._wake = asyncio.Event()

    def all_keys(self) -> Iterable[Key]:
        """All there is to be looked at when it begins, and by `mark_all`."""
        raise NotImplementedError

    async def _reconcile(self, key: Key) -> None:
        """One look at one of them."""
        raise NotImplementedError

    def _concerns(self, key: Key) -> bool:
        """Whether a marked key is worth a look: what is asked without one must cost little."""
        return True

    def mark(self, key: Key) -> None:
        """Look at this soon."""
        self._dirty[key] = None
        self._wake.set()

    def mark_all(self) -> None:
        """Look at everything."""
        for key in self.all_keys():
            self.mark(key)

    def _due(self) -> list[Key]:
        """What may be begun now, as many as there are places for: so all marks are not gone through for each one."""
        free = self._at_once - len(self._running) if self._at_once else len(self._dirty)
        return list(islice((key for key in self._dirty if key not in self._running), max(free, 0)))

    async def run(self) -> None:
        """Look at everything once, then at what is marked."""
        self.mark_all()
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while keys := self._due():
                    for key in keys:
                        del self._dirty[key]
                        if self._concerns(key):
                            self._begin(key)
        finally:
            for timer in self._timers.values():
                timer.cancel()
            works = list(self._running.values())
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)

    def _begin(self, key: Key) -> None:
        work = self._running[key] = asyncio.create_task(self._work(key))
        work.add_done_callback(lambda _: self._ended(key))

    def _ended(self, key: Key) -> None:
        del self._running[key]
        if self._dirty:
            self._wake.set()

    async def _work(self, key: Key) -> None:
        try:
            await self._reconcile(key)
            return
        except self._away as error:
            log.warning("look.later", by=type(self).__name__, key=key, error=str(error))
            delay = self._retry_s
        except Exception:
            log.exception("look.failed", by=type(self).__name__, key=key)
            delay = 10 * self._retry_s
        await asyncio.sleep(delay)  # somebody is away, or was quicker: there is no event for "try again"
        self._dirty[key] = None

    def _look_again(self, key: Key, seconds: float | None) -> None:
        """Mark this in so many seconds, whatever was planned before; None: nothing is planned."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if seconds is not None:
            delay = max(0.0, seconds) + 0.01
            self._timers[key] = asyncio.get_running_loop().call_later(delay, self.mark, key)
