"""Replication to other installations: what they lack is sent to them over HTTPS. Deletions are replicated by it
too, to wherever rules say so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import structlog

from contracts.records.registry import IMAGE_REPLICATION, Image, ImageReplication, Peer
from services.registry.decisions.names import RepositoryId, root_of
from services.registry.decisions.peers import Destination, is_left, mountable
from services.registry.decisions.replication import deletes
from services.registry.handlers import errors
from services.registry.handlers.contents import stream
from services.registry.handlers.images import ImageReferenced, Images
from services.registry.handlers.peers import Peers
from services.registry.handlers.replicas import Replicas
from services.registry.handlers.repositories import Repositories
from services.registry.handlers.settings import Settings
from services.registry.ports import BlobStore, Installations, PeerRefused
from services.shared import telemetry
from services.shared.clock import Clock
from services.shared.errors import AwsError
from services.shared.state import Store
from services.shared.waiting import together

log = structlog.get_logger()

AT_ONCE = 4
"""Blobs of one image that are on their way at once."""


class StoredBlob:
    """See ports.Outgoing: a blob that a repository has here."""

    def __init__(self, blobs: BlobStore, repository: RepositoryId, digest: str, size: int) -> None:
        self._blobs = blobs
        self._repository = repository
        self.digest = digest
        self.size = size

    def read(self, start: int) -> AsyncIterator[bytes]:
        """See ports.Outgoing."""
        return stream(self._blobs, self._repository, self.digest, start)


class Sending:
    """Sends images, and keeps what became of it."""

    def __init__(
        self,
        store: Store,
        peers: Peers,
        repositories: Repositories,
        replicas: Replicas,
        images: Images,
        blobs: BlobStore,
        installations: Installations,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._store = store
        self._settings = settings
        self._peers = peers
        self._repositories = repositories
        self._replicas = replicas
        self._images = images
        self._blobs = blobs
        self._installations = installations
        self._clock = clock
        self._table = store.table(IMAGE_REPLICATION)

    def peer_of(self, target: RepositoryId) -> Peer | None:
        """The installation where a repository is; None: here."""
        return self._peers.at(target.account, target.region)

    def told(self, source: RepositoryId, target: RepositoryId, digest: str) -> ImageReplication | None:
        """What became of an image's replication, as far as it ended. What was brought to where the target was thought
        to be before is of no account."""
        found = self._table.record(*_key(source, target, digest))
        return found if found is not None and found.peer == self._name_of(target) else None

    def _name_of(self, target: RepositoryId) -> str:
        peer = self.peer_of(target)
        return peer.name if peer is not None else ""

    def ended(self, source: RepositoryId, image: Image) -> list[RepositoryId]:
        """The installations' repositories where an image's replication ended, whether the rules still say so or not."""
        found = self._table.records(source.account, source.region, source.name, image.digest)
        targets = [RepositoryId(each.to_account, each.to_region, source.name) for each in found if each.peer]
        told = {target: self.told(source, target, image.digest) for target in targets}
        return [target for target, each in told.items() if each is not None and each.pushed_at == image.pushed_at]

    def is_left(self, source: RepositoryId, target: RepositoryId, image: Image) -> bool:
        """Whether something of it is still to be sent, or a tag to be removed."""
        tags, told = self._tags(source, image.digest), self.told(source, target, image.digest)
        if self.peer_of(target) is not None and is_left(image, tags, told):
            return True
        return bool(self._stale(source, target, tags, told))

    def indexes_of(self, source: RepositoryId, digest: str) -> list[Image]:
        """The indexes that name this manifest, and may have waited for it."""
        found = (self._images.find(source, each) for each in self._images.indexes_of(source, digest))
        return [image for image in found if image is not None]

    def is_due(self, source: RepositoryId, target: RepositoryId, digest: str) -> bool:
        """Whether there is something to do about an image, which may be gone."""
        image = self._images.find(source, digest)
        return image is None or self.is_left(source, target, image)

    def _stale(
        self, source: RepositoryId, target: RepositoryId, tags: dict[str, float], told: ImageReplication | None
    ) -> list[str]:
        """The tags that were brought and name nothing any more, where that is to be replicated."""
        lost = [tag for tag in told.tags if tag not in tags] if told is not None else []
        gone = [tag for tag in lost if self._images.tagged(source, tag) is None]  # one that moved is moved there too
        return gone if gone and self.deletes(source, target) else []

    def deletes(self, source: RepositoryId, target: RepositoryId) -> bool:
        """Whether what is deleted is to be deleted there too."""
        return deletes(self._settings.get(source.account, source.region).replication, source, target)

    def recorded(self, only: tuple[str, ...] = ()) -> list[tuple[RepositoryId, RepositoryId, str]]:
        """What was brought where (of all images, or of one: account, region, repository, digest)."""
        return [
            (
                RepositoryId(each.account, each.region, each.repository),
                RepositoryId(each.to_account, each.to_region, each.repository),
                each.digest,
            )
            for each in self._table.records(*only)
        ]

    def status(self, source: RepositoryId, target: RepositoryId, image: Image) -> tuple[str, str]:
        """(COMPLETE | IN_PROGRESS | FAILED, ECR's code for why it failed)."""
        told = self.told(source, target, image.digest)
        if told is None or self.is_left(source, target, image):
            return "IN_PROGRESS", ""
        return told.status, told.failure_code

    async def send(self, source: RepositoryId, target: RepositoryId, digest: str) -> None:
        """Send an image with its tags, and write down what became of it; remove what was deleted since, where that is
        to be replicated. Raises StateUnavailable (PeerAway): then it is to be done again."""
        image, peer = self._images.find(source, digest), self.peer_of(target)
        if image is None:
            await self._gone(source, target, digest)
            return
        if not self.is_left(source, target, image) or not self._images.is_whole(image):
            return
        stale = self._stale(source, target, self._tags(source, digest), self.told(source, target, digest))
        for tag in stale:
            await self._remove(source, target, digest, tag)
        if peer is None:
            await self.note(source, target, digest)
            return
        to = Destination(peer, target, root_of(source.account))
        tags = self._tags(source, digest)
        code = reason = ""
        with telemetry.span("registry.send", repository=source.name, peer=peer.name, region=target.region):
            try:
                await self._copy(source, to, digest)
                for tag in tags:
                    await self._tag(source, to, image, tag)
            except (AwsError, PeerRefused) as error:
                code, reason = _failure(error)
        await self._write(source, target, image, tags, code, reason)

    async def note(self, source: RepositoryId, target: RepositoryId, digest: str, code: str = "") -> None:
        """Write down what became of an image that was brought, if that is of use: to tell it, or to delete it later."""
        image = self._images.find(source, digest)
        if image is not None and (self.peer_of(target) is not None or self.deletes(source, target)):
            await self._write(source, target, image, self._tags(source, digest), code, "")

    async def _gone(self, source: RepositoryId, target: RepositoryId, digest: str) -> None:
        """An image is deleted: delete it there too, unless its whole repository is, which is no deletion of images."""
        key = _key(source, target, digest)
        if self._table.get(*key) is None:
            return
        here = self._repositories.find(source) is not None
        if here and self.told(source, target, digest) is not None and self.deletes(source, target):
            await self._remove(source, target, digest)
        await self._store.delete(IMAGE_REPLICATION, key, "replication.forgotten.v1")

    async def _remove(self, source: RepositoryId, target: RepositoryId, digest: str, tag: str = "") -> None:
        """Remove a replica, or the tag of one. What is none, or is named by an index there, stays."""
        peer = self.peer_of(target)
        try:
            if peer is not None:
                await self._installations.remove(Destination(peer, target, root_of(source.account)), digest, tag)
            else:
                self._replicas.require(source.account, target)
                await self._images.remove_replica(target, digest, tag)
        except (AwsError, PeerRefused, ImageReferenced) as error:
            if isinstance(error, AwsError) and error.status == 503:
                raise
            log.warning("replication.not_deleted", target=target.arn, image=digest, tag=tag, error=str(error))

    async def bring(self, source: RepositoryId, target: RepositoryId, digest: str, tag: str | None) -> str:
        """Send one image under one tag, for a backfill; the code of what is in the way, empty when it is there. Raises
        StateUnavailable (PeerAway)."""
        image, peer = self._images.find(source, digest), self.peer_of(target)
        if image is None or peer is None:
            return "ImageNotFoundException"
        to = Destination(peer, target, root_of(source.account))
        try:
            await self._copy(source, to, digest)
            if tag is not None:
                await self._tag(source, to, image, tag)
        except (AwsError, PeerRefused) as error:
            return _failure(error)[0]
        return ""

    def _tags(self, source: RepositoryId, digest: str) -> dict[str, float]:
        return {tag: self._images.tagged_at(source, tag) for tag in self._images.tags_of(source, digest)}

    async def _tag(self, source: RepositoryId, to: Destination, image: Image, tag: str) -> None:
        """Let the tag name the image there too, unless it names another one here meanwhile, which follows."""
        if self._images.tagged(source, tag) == image.digest:
            data = await self._images.manifest(source, image.digest)
            await self._installations.put_manifest(to, tag, image.media_type, data)

    async def _copy(self, source: RepositoryId, to: Destination, digest: str) -> None:
        """One manifest: what it names first, so that nothing is there in part."""
        image = self._images.find(source, digest)
        if image is None:
            raise errors.image_not_found(source, digest, None)
        if await self._installations.has_image(to, digest):
            return
        for child in image.manifests:
            await self._copy(source, to, child.digest)
        await self._send_blobs(source, to, image)
        data = await self._images.manifest(source, digest)
        await self._installations.put_manifest(to, digest, image.media_type, data)

    async def _send_blobs(self, source: RepositoryId, to: Destination, image: Image) -> None:
        named = [*image.layers, *([image.config] if image.config else [])]
        wanted = list(dict.fromkeys(each.digest for each in named if not each.external))
        beside = await self._beside(source, to, set(wanted))
        turn = asyncio.Semaphore(AT_ONCE)

        async def send(digest: str) -> None:
            async with turn:
                size = await self._blobs.find(source, digest)
                if size is None:
                    raise errors.layers_not_found([digest])
                blob = StoredBlob(self._blobs, source, digest, size)
                await self._installations.send_blob(to, blob, beside.get(digest, ""))

        await together(send(digest) for digest in wanted)

    async def _beside(self, source: RepositoryId, to: Destination, wanted: set[str]) -> dict[str, str]:
        """Where else at the destination blobs are: in what was brought there before."""
        account, region, target = source.account, source.region, to.repository
        there = {
            (each.repository, each.digest)
            for each in self._table.records(account, region)
            if (each.to_account, each.to_region, each.peer) == (target.account, target.region, to.peer.name)
            and each.status == "COMPLETE"
            and each.repository != source.name
        }
        if not there:
            return {}
        # All images of a registry are looked through: that may take longer than others should have to wait.
        return await asyncio.to_thread(mountable, self._images.of_registry(account, region), wanted, there)

    async def _write(
        self, source: RepositoryId, target: RepositoryId, image: Image, tags: dict[str, float], code: str, reason: str
    ) -> None:
        key = _key(source, target, image.digest)
        ended = ImageReplication(
            account=source.account,
            region=source.region,
            repository=source.name,
            digest=image.digest,
            to_account=target.account,
            to_region=target.region,
            peer=self._name_of(target),
            status="FAILED" if code else "COMPLETE",
            pushed_at=image.pushed_at,
            ended_at=self._clock(),
            tags=tags,
            failure_code=code,
            failure_reason=reason,
        )
        if code:
            log.warning("replication.failed", target=target.arn, image=image.digest, code=code, error=reason)
        event = "replication.failed.v1" if code else "replication.completed.v1"
        await self._store.update(IMAGE_REPLICATION, key, lambda _: ended, event)


def _key(source: RepositoryId, target: RepositoryId, digest: str) -> tuple[str, ...]:
    return (source.account, source.region, source.name, digest, target.account, target.region)


def _failure(error: AwsError | PeerRefused) -> tuple[str, str]:
    """(code, reason). Raises the error when it is no failure: what was to be done is to be done again."""
    if isinstance(error, AwsError) and error.status == 503:
        raise error
    return error.code, str(error)
