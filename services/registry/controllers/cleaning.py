"""What goes on by itself: uploads nobody went on with, and blobs that no image is made of, are dropped."""

from __future__ import annotations

import asyncio

import structlog

from contracts.records.registry import Repository
from services.registry.decisions.names import RepositoryId
from services.registry.handlers.images import Images
from services.registry.handlers.repositories import Repositories
from services.registry.ports import BlobStore, StorageAway
from services.registry.settings import RegistrySettings
from services.shared.clock import system_clock
from services.shared.state import Table

log = structlog.get_logger()


class Cleaner:
    """Cleans up every now and then. Times are the storage's, so the machine's own clock is used."""

    def __init__(
        self,
        table: Table[Repository],
        repositories: Repositories,
        images: Images,
        blobs: BlobStore,
        settings: RegistrySettings,
    ) -> None:
        self._table = table
        self._repositories = repositories
        self._images = images
        self._blobs = blobs
        self._settings = settings

    async def run(self) -> None:
        """Clean until cancelled."""
        while True:
            await asyncio.sleep(self._settings.sweep_every_s)
            try:
                await self.clean(now=system_clock())
            except (OSError, StorageAway) as error:
                log.warning("registry.clean_failed", error=str(error))

    async def clean(self, now: float) -> int:
        """Clean once; the bytes that were freed. `now` is in seconds since the epoch.

        While a repository is looked at nothing is pushed into it, so what a manifest on its way names stays; what was
        uploaded or asked for within the grace stays too, because its manifest may be yet to come.
        """
        uploads = await self._blobs.drop_old_uploads(now - self._settings.upload_life_s)
        before = now - self._settings.sweep_grace_s
        repositories = [RepositoryId(r.account, r.region, r.name) for r in self._table.records()]
        unnamed = await self._blobs.drop_strays(repositories, before)
        for repository in repositories:
            async with self._repositories.lock(repository):
                unnamed += await self._blobs.drop_unnamed(repository, self._images.named(repository), before)
        freed = await self._blobs.sweep(before)
        if uploads or unnamed or freed:
            log.info("registry.cleaned", uploads=uploads, blobs=unnamed, bytes=freed)
        return freed
