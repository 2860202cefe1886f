"""Replication to other installations: what they lack is sent to them over HTTPS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import structlog

from contracts.records.registry import IMAGE, IMAGE_REPLICATION, Image, ImageReplication, Peer
from services.registry.decisions.names import RepositoryId, root_of
from services.registry.decisions.peers import Destination, is_left, mountable
from services.registry.handlers import errors
from services.registry.handlers.images import Images
from services.registry.handlers.peers import Peers
from services.registry.ports import BlobStore, Installations, PeerRefused
from services.shared import telemetry
from services.shared.clock import Clock
from services.shared.errors import AwsError
from services.shared.state import Store

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
        return self._blobs.stream(self._repository, self.digest, start)


class Sending:
    """Sends images, and keeps what became of it."""

    def __init__(
        self,
        store: Store,
        peers: Peers,
        images: Images,
        blobs: BlobStore,
        installations: Installations,
        clock: Clock,
    ) -> None:
        self._store = store
        self._peers = peers
        self._images = images
        self._blobs = blobs
        self._installations = installations
        self._clock = clock
        self._table = store.table(IMAGE_REPLICATION)

    def peer_of(self, target: RepositoryId) -> Peer | None:
        """The installation where a repository is; None: here."""
        return self._peers.at(target.account, target.region)

    def told(self, source: RepositoryId, target: RepositoryId, digest: str) -> ImageReplication | None:
        """What became of an image's replication, as far as it ended."""
        return self._table.record(*_key(source, target, digest))

    def ended(self, source: RepositoryId, image: Image) -> list[RepositoryId]:
        """Where an image's replication ended, whether the rules still say so or not."""
        found = self._table.records(source.account, source.region, source.name, image.digest)
        return [
            RepositoryId(each.to_account, each.to_region, source.name)
            for each in found
            if each.pushed_at == image.pushed_at and self._peers.at(each.to_account, each.to_region) is not None
        ]

    def is_left(self, source: RepositoryId, target: RepositoryId, image: Image) -> bool:
        """Whether something of it is still to be sent."""
        return is_left(image, self._tags(source, image.digest), self.told(source, target, image.digest))

    def status(self, source: RepositoryId, target: RepositoryId, image: Image) -> tuple[str, str]:
        """(COMPLETE | IN_PROGRESS | FAILED, ECR's code for why it failed)."""
        told = self.told(source, target, image.digest)
        if told is None or self.is_left(source, target, image):
            return "IN_PROGRESS", ""
        return told.status, told.failure_code

    async def send(self, source: RepositoryId, target: RepositoryId, digest: str) -> None:
        """Send an image with its tags, and write down what became of it. Raises StateUnavailable (PeerAway): then it is
        to be done again."""
        image, peer = self._images.find(source, digest), self.peer_of(target)
        if image is None or peer is None or not self.is_left(source, target, image):
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
        beside = self._beside(source, to, set(wanted))
        turn = asyncio.Semaphore(AT_ONCE)

        async def send(digest: str) -> None:
            async with turn:
                size = await self._blobs.find(source, digest)
                if size is None:
                    raise errors.layers_not_found([digest])
                blob = StoredBlob(self._blobs, source, digest, size)
                await self._installations.send_blob(to, blob, beside.get(digest, ""))

        tasks = [asyncio.ensure_future(send(digest)) for digest in wanted]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _beside(self, source: RepositoryId, to: Destination, wanted: set[str]) -> dict[str, str]:
        """Where else at the destination blobs are: in what was brought there before."""
        account, region, target = source.account, source.region, to.repository
        there = {
            (each.repository, each.digest)
            for each in self._table.records(account, region)
            if (each.to_account, each.to_region, each.status) == (target.account, target.region, "COMPLETE")
            and each.repository != source.name
        }
        return mountable(self._images.of_registry(account, region), wanted, there) if there else {}

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

    async def forget(self, only: tuple[str, ...] = ()) -> None:
        """Drop what is told of images that are gone (of all, or those of one: account, region, repository, digest)."""
        images = self._store.table(IMAGE)
        for each in self._table.records(*only):
            if images.get(each.account, each.region, each.repository, each.digest) is None:
                key = IMAGE_REPLICATION.key_of(each)
                await self._store.delete(IMAGE_REPLICATION, key, "replication.forgotten.v1")


def _key(source: RepositoryId, target: RepositoryId, digest: str) -> tuple[str, ...]:
    return (source.account, source.region, source.name, digest, target.account, target.region)


def _failure(error: AwsError | PeerRefused) -> tuple[str, str]:
    """(code, reason). Raises the error when it is no failure: what was to be done is to be done again."""
    if isinstance(error, AwsError) and error.status == 503:
        raise error
    return error.code, str(error)
