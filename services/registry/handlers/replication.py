"""Replication. Between the regions and accounts of one installation content is linked, and not sent; what is to be at
another one is sent there (`handlers/sending.py`)."""

from __future__ import annotations

import structlog

from contracts.records.registry import Image
from services.registry.decisions.names import RepositoryId
from services.registry.decisions.replication import targets_since
from services.registry.handlers.images import Images
from services.registry.handlers.replicas import Replicas
from services.registry.handlers.sending import Sending
from services.registry.handlers.settings import Settings
from services.registry.ports import BlobStore
from services.shared import telemetry
from services.shared.errors import AwsError

log = structlog.get_logger()


class Replication:
    """Brings images to where the rules of their registry say."""

    def __init__(
        self, images: Images, blobs: BlobStore, settings: Settings, replicas: Replicas, sending: Sending
    ) -> None:
        self._images = images
        self._blobs = blobs
        self._settings = settings
        self._replicas = replicas
        self._sending = sending
        self._failed: dict[tuple[RepositoryId, str], str] = {}

    def targets(self, repository: RepositoryId, image: Image) -> list[RepositoryId]:
        """Where an image is to be. Nowhere, if it was pushed before the rules were set, or is a replica itself: what a
        backfill brings is where it then is. What the platform says of an image it says of the replica too."""
        settings = self._settings.get(repository.account, repository.region)
        if not settings.replication or image.replica or image.attached:
            return []
        return targets_since(
            settings.replication, repository, settings.replication_since, settings.replication_at, image.pushed_at
        )

    def targets_here(self, repository: RepositoryId, image: Image) -> list[RepositoryId]:
        """Those of them that are of this installation."""
        return [target for target in self.targets(repository, image) if self._sending.peer_of(target) is None]

    def status(self, repository: RepositoryId, image: Image) -> list[tuple[RepositoryId, str, str]]:
        """(target, COMPLETE | IN_PROGRESS | FAILED, why it failed) for each target."""
        told = []
        sent = self._sending.ended(repository, image)
        for target in dict.fromkeys([*self.targets(repository, image), *sent]):
            if self._sending.peer_of(target) is not None:
                told.append((target, *self._sending.status(repository, target, image)))
                continue
            why = self._failed.get((target, image.digest), "")
            there = self._images.find(target, image.digest) is not None
            told.append((target, "FAILED" if why else "COMPLETE" if there else "IN_PROGRESS", why))
        return told

    async def replicate(self, repository: RepositoryId, digest: str) -> None:
        """Bring an image, with its tags, to its targets here. Raises StateUnavailable: then it is to be done again."""
        image = self._images.find(repository, digest)
        if image is None or not self._images.is_whole(image):
            return  # it comes again with the last manifest that it names
        for target in self.targets_here(repository, image):
            with telemetry.span("registry.replicate", repository=repository.name, region=target.region):
                try:
                    await self._bring(repository, target, digest)
                    await self._sending.note(repository, target, digest)
                    self._failed.pop((target, digest), None)
                except AwsError as error:
                    if error.status == 503:
                        raise
                    self._failed[target, digest] = error.code
                    log.warning("replication.failed", target=target.arn, image=digest, error=error.message)

    async def bring(self, source: RepositoryId, target: RepositoryId, digest: str, tag: str | None) -> str:
        """Bring one image under one tag; the code of what is in the way, empty when it is there. Raises
        StateUnavailable."""
        if self._sending.peer_of(target) is not None:
            return await self._sending.bring(source, target, digest, tag)
        with telemetry.span("registry.replicate", repository=source.name, region=target.region):
            try:
                await self._replicas.make(source.account, target)
                if not await self._copy(source, target, digest, tag):
                    return "ImageNotFoundException"
            except AwsError as error:
                if error.status == 503:
                    raise
                log.warning("replication.failed", target=target.arn, image=digest, error=error.message)
                return error.code
        return ""

    async def settle(self, source: RepositoryId, target: RepositoryId, digest: str, codes: list[str]) -> None:
        """All of an image was brought, or tried to be: the codes of what was in the way, empty for nothing."""
        await self._sending.note(source, target, digest, next((code for code in codes if code), ""))

    async def _bring(self, source: RepositoryId, target: RepositoryId, digest: str) -> None:
        await self._replicas.make(source.account, target)
        await self._copy(source, target, digest)
        for tag in self._images.tags_of(source, digest):
            await self._copy(source, target, digest, tag)

    async def _copy(self, source: RepositoryId, target: RepositoryId, digest: str, tag: str | None = None) -> bool:
        """One manifest, what it is made of first; whether there is such an image."""
        image = self._images.find(source, digest)
        if image is None:
            return False
        for child in image.manifests:
            await self._copy(source, target, child.digest)
        for blob in [*image.layers, *([image.config] if image.config else [])]:
            if not blob.external:
                await self._blobs.mount(source, target, blob.digest)
        data = await self._images.manifest(source, digest)
        await self._images.push(target, data, image.media_type, tag=tag, digest=digest, replica=True)
        return True
