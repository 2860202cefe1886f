"""Blobs in S3, uploads spooled on this machine until they are whole.

The spool has all bytes of an upload, although most of them are in S3 by then as parts: parts can't be read before the
upload is complete, and a process that takes over has to hash what was acknowledged. So an upload can be gone on with
from any byte, also while S3 is away, and what its Range says is on this disk.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import msgspec
import structlog

from services.registry.adapters.files import hex_of
from services.registry.adapters.s3.collection import Collection
from services.registry.adapters.s3.layout import Keys, Link, told
from services.registry.adapters.s3.sender import Sender
from services.registry.adapters.uploads import SpooledUpload, SpoolingStore
from services.registry.decisions.names import RepositoryId
from services.registry.ports import STEP, Bytes, ContentDamaged, Shelf
from services.shared.s3 import Bucket, S3Client, S3NotFound

log = structlog.get_logger()

_TOUCH_S = 600.0
_URL_S = 900
_SLOTS = 8

Keep = Callable[["S3Upload", str, Shelf], Awaitable[None]]


class S3Content:
    """An object."""

    def __init__(
        self, bucket: Bucket, key: str, digest: str, size: int, redirect: bool, lost: Callable[[], None]
    ) -> None:
        self._bucket = bucket
        self._key = key
        self._digest = digest
        self._redirect = redirect
        self._lost = lost
        self.size = size

    @property
    def file(self) -> Path | None:
        """None: it is elsewhere."""
        return None

    def url(self) -> str | None:
        """See ports.Content."""
        return self._bucket.url(self._key, _URL_S) if self._redirect else None

    async def read(self, start: int, stop: int, step: int = STEP) -> AsyncGenerator[bytes, None]:
        """See ports.Content."""
        stop = min(stop, self.size)
        if start >= stop:
            return
        with told():
            try:
                async with self._bucket.get(self._key, start, stop - 1) as body:
                    if body.total != self.size:
                        raise ContentDamaged(self._digest, f"{self._key} has {body.total} bytes and not {self.size}")
                    async for chunk in body:
                        yield chunk
            except S3NotFound:
                self._lost()
                raise ContentDamaged(self._digest, f"{self._key} is not in the bucket") from None


class S3Upload(SpooledUpload):
    """An upload whose parts are sent while it comes."""

    def __init__(self, sender: Sender, keep: Keep, *parts: Any, **options: Any) -> None:
        super().__init__(*parts, **options)
        self.sender = sender
        self._kept = keep

    async def _write(self, me: object, parts: list[Bytes]) -> None:
        await super()._write(me, parts)
        self.sender.arrived(self._size)

    async def truncate(self, size: int) -> None:
        """See ports.Upload."""
        self.sender.reset()
        await super().truncate(size)

    async def abort(self) -> None:
        """See ports.Upload."""
        self.sender.reset()
        await super().abort()

    async def _keep(self, digest: str, shelf: Shelf) -> None:
        await self._kept(self, digest, shelf)


class S3BlobStore(SpoolingStore):
    """A BlobStore under a prefix of a bucket. `clock` is compared with S3's own times, to minutes."""

    def __init__(
        self,
        root: Path,
        client: S3Client,
        bucket: str,
        prefix: str = "",
        *,
        redirect: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(root)
        self._client = client
        self._bucket = client.bucket(bucket)
        self._keys = Keys(prefix)
        self._redirect = redirect
        self._clock = clock
        self._slots = asyncio.Semaphore(_SLOTS)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._putting: set[str] = set()
        self._lost: set[str] = set()
        """Data that were looked for and not found: whoever pushes the same is not told that it is there."""
        self._collection = Collection(self._bucket, self._keys, self._lock, self._active)

    async def open_bucket(self) -> None:
        """Become the registry that collects here. Raises S3Error when the bucket is not there, or may not be used."""
        await self._bucket.check()
        await self._collection.own()

    async def close(self) -> None:
        """Let the threads end; what is on its way is in the spool."""
        for upload in list(self._uploads.values()):
            assert isinstance(upload, S3Upload)
            await upload.sender.stop()
        await super().close()
        await self._client.close()

    def _upload(self, repository: RepositoryId, upload_id: str, size: int, hashed: bool) -> S3Upload:
        path = self._layout.upload(repository, upload_id)
        sender = Sender(self._bucket, self._keys.data(upload_id), path, self._slots, self._spooled)
        parts = (self._layout, self._executor, repository, upload_id, self._forget)
        return S3Upload(sender, self._keep, *parts, size=size, hashed=hashed)

    async def _spooled(self, path: Path, start: int, length: int) -> bytes:
        return await self._run(_read, path, start, length)

    def _lock(self, digest: str) -> asyncio.Lock:
        lock = self._locks.get(digest)
        if lock is None:
            lock = self._locks[digest] = asyncio.Lock()
        return lock

    def _active(self) -> set[str]:
        """The ids of data that are being written."""
        return {upload_id for _, upload_id in self._uploads} | self._putting

    async def _link(self, key: str) -> tuple[Link, float] | None:
        """A link, and when it was last written (epoch seconds, S3's)."""
        try:
            async with self._bucket.get(key) as body:
                data = b"".join([chunk async for chunk in body])
        except S3NotFound:
            return None
        link = msgspec.json.decode(data, type=Link)
        return None if link.data in self._lost else (link, body.modified)

    async def _write_link(self, key: str, digest: str, link: Link) -> None:
        """With the digest locked: what is linked now, the collection leaves."""
        try:
            await self._bucket.put(key, msgspec.json.encode(link))
        finally:  # after it, or a collection that began meanwhile would not know; what failed may have been done
            self._collection.linked(digest)

    async def _copy(self, digest: str, size: int) -> str | None:
        """The id of data that are there with this digest."""
        page = await self._bucket.page(self._keys.copies(digest), most=10)
        for entry in page.entries:
            found = entry.key.rpartition("/")[2]
            try:
                if (await self._bucket.head(self._keys.data(found))).size == size:
                    return found
            except S3NotFound:
                pass
            log.error("registry.data_lost", digest=digest, data=found)
            await self._bucket.delete(entry.key)
        return None

    async def sealed_with(self) -> bytes | None:
        """See ports.BlobStore."""
        with told():
            try:
                return await self._bucket.read(self._keys.key_id, limit=100)
            except S3NotFound:
                return None

    async def seal_with(self, key_id: bytes) -> None:
        """See ports.BlobStore."""
        with told():
            await self._bucket.put(self._keys.key_id, key_id)

    async def find(self, repository: RepositoryId, digest: str, shelf: Shelf = "blobs") -> int | None:
        """See ports.BlobStore."""
        key = self._keys.link(repository, digest, shelf)
        with told():
            found = await self._link(key)
            if found is None or found[1] >= self._clock() - _TOUCH_S:
                return None if found is None else found[0].size
            async with self._lock(digest):
                found = await self._link(key)
                if found is None:
                    return None
                await self._write_link(key, digest, found[0])
                return found[0].size

    async def open(self, repository: RepositoryId, digest: str, shelf: Shelf = "blobs") -> S3Content | None:
        """See ports.BlobStore."""
        with told():
            found = await self._link(self._keys.link(repository, digest, shelf))
        if found is None:
            return None
        link = found[0]
        key = self._keys.data(link.data)
        return S3Content(self._bucket, key, digest, link.size, self._redirect, lambda: self._lost.add(link.data))

    async def read(self, repository: RepositoryId, digest: str, shelf: Shelf = "blobs") -> bytes | None:
        """See ports.BlobStore."""
        content = await self.open(repository, digest, shelf)
        if content is None:
            return None
        return b"".join([part async for part in content.read(0, content.size)])

    async def put(self, repository: RepositoryId, digest: str, data: bytes, shelf: Shelf = "blobs") -> None:
        """See ports.BlobStore."""
        data_id = str(uuid.uuid4())
        self._putting.add(data_id)
        try:
            await self._stored(repository, digest, shelf, data_id, len(data), lambda key: self._bucket.put(key, data))
        finally:
            self._putting.discard(data_id)

    async def _keep(self, upload: S3Upload, digest: str, shelf: Shelf) -> None:
        size = upload.size
        await self._stored(upload.repository, digest, shelf, upload.id, size, lambda _: upload.sender.finish(size))

    async def _stored(
        self,
        repository: RepositoryId,
        digest: str,
        shelf: Shelf,
        data_id: str,
        size: int,
        send: Callable[[str], Awaitable[object]],
    ) -> None:
        """Content that is there already is linked; else it is sent, entered, and linked: visible with the last step."""
        key = self._keys.link(repository, digest, shelf)
        with told():
            async with self._lock(digest):
                found = await self._copy(digest, size)
                if found is None:
                    await send(self._keys.data(data_id))
                    await self._bucket.put(self._keys.entry(digest, data_id), b"")
                await self._write_link(key, digest, Link(found or data_id, size))

    async def mount(self, source: RepositoryId, target: RepositoryId, digest: str) -> bool:
        """See ports.BlobStore."""
        with told():
            async with self._lock(digest):
                found = await self._link(self._keys.link(source, digest, "blobs"))
                if found is None:
                    return False
                await self._write_link(self._keys.link(target, digest, "blobs"), digest, found[0])
        return True

    async def remove(self, repository: RepositoryId, digest: str, shelf: Shelf = "blobs") -> bool:
        """See ports.BlobStore."""
        key = self._keys.link(repository, digest, shelf)
        with told():
            async with self._lock(digest):
                if await self._link(key) is None:
                    return False
                await self._bucket.delete(key)
                self._collection.unlinked(hex_of(digest), self._clock())
        return True

    async def remove_repository(self, repository: RepositoryId) -> None:
        """See ports.BlobStore."""
        prefix = self._keys.repository(repository)
        await self._drop_uploads(repository)
        with told():
            links = [entry.key async for entry in self._bucket.list(prefix)]
            await self._bucket.delete_many(links)
        for key in links:
            self._collection.unlinked(key.rpartition("/")[2], self._clock())
        await self._run(self._layout.remove_tree, self._layout.repository(repository))

    async def drop_old_uploads(self, before: float) -> int:
        """See ports.BlobStore. Parts that nobody goes on sending are dropped too."""
        dropped = await super().drop_old_uploads(before)
        with told():
            await self._collection.abort_orphans()
        return dropped

    async def drop_unnamed(self, repository: RepositoryId, named: Iterable[str], before: float) -> int:
        """See ports.BlobStore."""
        keep = {hex_of(digest) for digest in named}
        return await self._take_links(
            self._keys.repository(repository), before, lambda key: key.rpartition("/")[2] in keep
        )

    async def drop_strays(self, repositories: Iterable[RepositoryId], before: float) -> int:
        """See ports.BlobStore."""
        known = {self._keys.repository(repository) for repository in repositories}
        return await self._take_links(self._keys.all_links, before, lambda key: f"{key.rsplit('/', 2)[0]}/" in known)

    async def _take_links(self, prefix: str, before: float, stays: Callable[[str], bool]) -> int:
        dropped = 0
        with told():
            async for entry in self._bucket.list(prefix):
                if stays(entry.key) or not older(entry.modified, before):
                    continue
                found = entry.key.rpartition("/")[2]
                async with self._lock(f"sha256:{found}"):
                    dropped += await self._take_link(entry.key, found, before)
        return dropped

    async def _take_link(self, key: str, found: str, before: float) -> bool:
        """It may have been asked for since it was listed."""
        try:
            if not older((await self._bucket.head(key)).modified, before):
                return False
        except S3NotFound:
            return False
        await self._bucket.delete(key)
        self._collection.unlinked(found, self._clock())
        return True

    async def sweep(self, before: float) -> int:
        """See ports.BlobStore."""
        with told():
            return await self._collection.sweep(before)


def older(modified: float, before: float) -> bool:
    """Whether an object was last written before then. S3 tells times to the second."""
    return modified + 1.0 < before


def _read(path: Path, start: int, length: int) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return os.pread(file.fileno(), length, start)
