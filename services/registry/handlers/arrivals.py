"""The requests that bring content of uploads just now."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Arrivals:
    """Knows which uploads something is arriving for. Whoever goes on with one on another connection lets the one that
    broke off end first: what it carried is still to be read, and would otherwise be sent again."""

    def __init__(self) -> None:
        self._going: dict[str, set[asyncio.Event]] = {}

    @contextmanager
    def of(self, upload_id: str) -> Iterator[None]:
        """While a request brings content."""
        over = asyncio.Event()
        going = self._going.setdefault(upload_id, set())
        going.add(over)
        try:
            yield
        finally:
            over.set()
            going.remove(over)
            if not going:
                self._going.pop(upload_id, None)

    async def ended(self, upload_id: str, patience_s: float) -> None:
        """Return when nothing arrives for an upload; after so many seconds all the same, for a connection can be broken
        without this end of it knowing."""
        waiting = [asyncio.ensure_future(over.wait()) for over in self._going.get(upload_id, ())]
        if not waiting:
            return
        try:
            await asyncio.wait(waiting, timeout=patience_s)
        finally:
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
