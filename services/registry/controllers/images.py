"""Works on what was pushed, replicating or signing it: at once, and at the start on what was left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import structlog

from contracts.records.registry import IMAGE, IMAGE_TAG, Image
from services.registry.decisions.names import RepositoryId
from services.shared.errors import StateUnavailable
from services.shared.state import Change, Conflict, Table

log = structlog.get_logger()

RETRY_S = 2.0


class ImageController:
    """`heard` is a listener of the store; `run` works until cancelled. `wanted` tells whether there is anything to do
    with an image, `work` does it, and is called again when it raises StateUnavailable or Conflict. `indexes` tells the
    digests of the indexes that name a manifest, if they may have waited for it."""

    def __init__(
        self,
        what: str,
        wanted: Callable[[RepositoryId, Image], object],
        work: Callable[[RepositoryId, str], Awaitable[None]],
        images: Table[Image],
        indexes: Callable[[RepositoryId, str], Iterable[str]] = lambda *_: (),
    ) -> None:
        self._what = what
        self._wanted = wanted
        self._work = work
        self._images = images
        self._indexes = indexes
        self._marked: dict[tuple[RepositoryId, str], None] = {}
        self._wake = asyncio.Event()

    def heard(self, change: Change) -> None:
        """Mark the image that was pushed or tagged."""
        if change.new is None or change.kind not in (IMAGE, IMAGE_TAG) or (change.kind is IMAGE and change.old):
            return
        image = self._images.record(*change.key[:3], change.new.record.digest)
        if image is None:
            return
        self._mark(image)
        for digest in self._indexes(RepositoryId(*change.key[:3]), image.digest):
            index = self._images.record(*change.key[:3], digest)
            if index is not None:
                self._mark(index)

    def _mark(self, image: Image) -> None:
        repository = RepositoryId(image.account, image.region, image.repository)
        if self._wanted(repository, image):
            self._marked[repository, image.digest] = None
            self._wake.set()

    async def run(self) -> None:
        """Look at all images once, then at those that are marked."""
        for image in self._images.records():
            self._mark(image)
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._marked:
                repository, digest = next(iter(self._marked))
                del self._marked[repository, digest]
                try:
                    await self._work(repository, digest)
                except (StateUnavailable, Conflict):
                    self._marked[repository, digest] = None
                    await asyncio.sleep(RETRY_S)  # NATS is away: there is no event for "try again"
                except Exception:
                    log.exception(f"{self._what}.broken", repository=repository.name, image=digest)
