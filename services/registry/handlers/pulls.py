"""When images were last pulled: known at once, written down now and then."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from contracts.kinds import Key
from contracts.records.registry import IMAGE, REGISTRY_SETTINGS, Image
from services.registry.decisions.pulls import excluded
from services.shared.clock import Clock
from services.shared.errors import StateUnavailable
from services.shared.state import Conflict, Store


class PullTimes:
    """Pulls that are not written down yet, by image. What a crash takes of them is the last minute's."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._pending: dict[Key, float] = {}
        self.waiting = asyncio.Event()
        """Set while something is not written down."""

    def of(self, image: Image) -> float:
        """When an image was last pulled; 0 for never."""
        return max(image.pulled_at, self._pending.get(IMAGE.key_of(image), 0.0))

    def pulled(self, image: Image, principal: str) -> None:
        """An image is being pulled. A principal whose pulls are not to count leaves no mark."""
        settings = self._store.table(REGISTRY_SETTINGS).record(image.account, image.region)
        if settings is None or not excluded(principal, settings.pull_exclusions):
            self._pending[IMAGE.key_of(image)] = self._clock()
            self.waiting.set()

    async def write(self) -> int:
        """Write down what is pending, one write an image; how many. What can't be written stays pending."""
        done = 0
        for key, at in list(self._pending.items()):

            def changed(old: Image | None, at: float = at) -> Image | None:
                return old if old is None or old.pulled_at >= at else replace(old, pulled_at=at)

            try:
                await self._store.update(IMAGE, key, changed, "image.pulled.v1")
            except (Conflict, StateUnavailable):
                continue
            done += 1
            if self._pending.get(key) == at:
                del self._pending[key]
        if not self._pending:
            self.waiting.clear()
        return done
