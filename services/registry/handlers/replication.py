"""Replication between the regions and accounts of one installation: its content is linked, and not sent."""

from __future__ import annotations

import structlog

from contracts.records.registry import Image
from services.registry.decisions.names import RepositoryId
from services.registry.decisions.replication import targets
from services.registry.handlers.images import Images
from services.registry.handlers.policies import Asker, Policies
from services.registry.handlers.repositories import Repositories
from services.registry.handlers.settings import Settings
from services.registry.handlers.templates import Prefixed, create_by_template
from services.registry.ports import BlobStore
from services.shared import telemetry
from services.shared.errors import AwsError
from services.shared.policies.demands import Demand

log = structlog.get_logger()


class Replication:
    """Brings images to where the rules of their registry say."""

    def __init__(
        self,
        repositories: Repositories,
        images: Images,
        blobs: BlobStore,
        settings: Settings,
        policies: Policies,
        prefixed: Prefixed,
    ) -> None:
        self._repositories = repositories
        self._images = images
        self._blobs = blobs
        self._settings = settings
        self._policies = policies
        self._prefixed = prefixed
        self._failed: dict[tuple[RepositoryId, str], str] = {}

    def targets(self, repository: RepositoryId, image: Image) -> list[RepositoryId]:
        """Where an image is to be. Nowhere, if it was pushed before the rules were set, or is a replica itself: what a
        backfill brings is where it then is."""
        settings = self._settings.get(repository.account, repository.region)
        if not settings.replication or image.replica or image.pushed_at < settings.replication_at:
            return []
        return targets(settings.replication, repository)

    def status(self, repository: RepositoryId, image: Image) -> list[tuple[RepositoryId, str, str]]:
        """(target, COMPLETE | IN_PROGRESS | FAILED, why it failed) for each target."""
        told = []
        for target in self.targets(repository, image):
            why = self._failed.get((target, image.digest), "")
            there = self._images.find(target, image.digest) is not None
            told.append((target, "FAILED" if why else "COMPLETE" if there else "IN_PROGRESS", why))
        return told

    async def replicate(self, repository: RepositoryId, digest: str) -> None:
        """Bring an image, with its tags, to all its targets. Raises StateUnavailable: then it is to be done again."""
        image = self._images.find(repository, digest)
        for target in self.targets(repository, image) if image is not None else ():
            with telemetry.span("registry.replicate", repository=repository.name, region=target.region):
                try:
                    await self._bring(repository, target, digest)
                    self._failed.pop((target, digest), None)
                except AwsError as error:
                    if error.status == 503:
                        raise
                    self._failed[target, digest] = error.code
                    log.warning("replication.failed", target=target.arn, image=digest, error=error.message)

    async def bring(self, source: RepositoryId, target: RepositoryId, digest: str, tag: str | None) -> str:
        """Bring one image under one tag; the code of what is in the way, empty when it is there. Raises
        StateUnavailable."""
        with telemetry.span("registry.replicate", repository=source.name, region=target.region):
            try:
                await self._make(source, target)
                if not await self._copy(source, target, digest, tag):
                    return "ImageNotFoundException"
            except AwsError as error:
                if error.status == 503:
                    raise
                log.warning("replication.failed", target=target.arn, image=digest, error=error.message)
                return error.code
        return ""

    async def _bring(self, source: RepositoryId, target: RepositoryId, digest: str) -> None:
        await self._make(source, target)
        await self._copy(source, target, digest)
        for tag in self._images.tags_of(source, digest):
            await self._copy(source, target, digest, tag)

    async def _make(self, source: RepositoryId, target: RepositoryId) -> None:
        if source.account != target.account:
            self._require(source, target, "ecr:ReplicateImage")
        if self._repositories.find(target) is None:
            if source.account != target.account:
                self._require(source, target, "ecr:CreateRepository")
            await create_by_template(self._repositories, self._prefixed, target, "REPLICATION")

    def _require(self, source: RepositoryId, target: RepositoryId, action: str) -> None:
        asker = Asker(source.account, f"arn:aws:iam::{source.account}:root")
        self._policies.require(asker, Demand(action, target.arn), target, dict)

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
