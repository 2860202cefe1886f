"""Content sealed on its way into a BlobStore, and opened on its way out: a layer over any of them.

What is stored has a name of its own, made of its digest and of the id of the key that it is sealed with. So content
that repositories with the same key have is the same in the store below, and kept once; with different keys it is not.
Content that was stored before there was this layer lies there as it is, under its digest, and is read as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

import structlog

from services.registry.adapters.sealed_uploads import SealedUpload
from services.registry.adapters.sealing import Sealer, open_whole, seal_whole
from services.registry.decisions.names import RepositoryId
from services.registry.decisions.segments import (
    END_SIZE,
    FRAME,
    HEADER_SIZE,
    Damaged,
    Stretch,
    content_size,
    sealed_name,
    stretch,
)
from services.registry.ports import (
    STEP,
    BlobStore,
    Bytes,
    Content,
    ContentDamaged,
    ContentKey,
    ContentKeys,
    Shelf,
    Upload,
    UploadUnknown,
    WrongDigest,
)

log = structlog.get_logger()

_P = ParamSpec("_P")
_T = TypeVar("_T")

THREADS = 4
STEP_BELOW = 16 * FRAME


class SealedContent:
    """Content that is sealed, below."""

    def __init__(self, below: Content, sealer: Sealer, size: int, digest: str, executor: ThreadPoolExecutor) -> None:
        self._below = below
        self._sealer = sealer
        self._digest = digest
        self._executor = executor
        self.size = size

    @property
    def file(self) -> Path | None:
        """None: the kernel can't open it."""
        return None

    def url(self) -> str | None:
        """None: nor can a client."""
        return None

    async def read(self, start: int, stop: int, step: int = STEP) -> AsyncGenerator[Bytes, None]:
        """See ports.Content: only the segments that are touched are opened, some of them while those before go out."""
        stop = min(stop, self.size)
        if start >= stop:
            return
        where = stretch(start, stop, self.size)
        skip, left = where.skip, stop - start
        try:
            async with contextlib.aclosing(self._opened(where)) as opened:
                async for content in opened:
                    part = memoryview(content)[skip : skip + left] if skip or len(content) > left else content
                    skip, left = 0, left - len(part)
                    yield part
        except Damaged as damaged:
            raise ContentDamaged(self._digest, str(damaged)) from None
        if left:
            raise ContentDamaged(self._digest, "it is shorter than it was")

    async def _opened(self, where: Stretch) -> AsyncGenerator[bytearray, None]:
        loop = asyncio.get_running_loop()
        opening: asyncio.Future[bytearray] | None = None
        index = where.index
        async with contextlib.aclosing(self._frames(where)) as batches:
            async for frames in batches:
                before = opening
                opening = loop.run_in_executor(self._executor, self._sealer.open, index, frames)
                opening.add_done_callback(_looked_at)
                index += -(-len(frames) // FRAME)
                if before is not None:
                    yield await before
        if opening is not None:
            yield await opening

    async def _frames(self, where: Stretch) -> AsyncGenerator[Bytes, None]:
        """Whole segments, as many at a time as came."""
        held: Bytes = b""
        async with contextlib.aclosing(self._below.read(where.start, where.stop, STEP_BELOW)) as parts:
            async for part in parts:
                held = part if not held else b"".join((held, part))
                whole = len(held) // FRAME * FRAME
                if whole == len(held):
                    yield held
                    held = b""
                elif whole:
                    view = memoryview(held)
                    yield view[:whole]
                    held = bytes(view[whole:])
        if held:
            yield held


class SealedBlobs:
    """A BlobStore over another one."""

    def __init__(self, below: BlobStore, keys: ContentKeys) -> None:
        self._below = below
        self._keys = keys
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="registry-sealing")
        self._uploads: dict[tuple[RepositoryId, str], SealedUpload] = {}

    async def close(self) -> None:
        """Let go of it, and of the store below."""
        self._executor.shutdown(wait=True)
        await self._below.close()

    async def _run(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: function(*args, **kwargs))

    def _name(self, repository: RepositoryId, digest: str) -> str:
        return sealed_name(self._keys.id_of(repository), digest)

    async def sealed_with(self) -> bytes | None:
        """See ports.BlobStore."""
        return await self._below.sealed_with()

    async def seal_with(self, key_id: bytes) -> None:
        """See ports.BlobStore."""
        await self._below.seal_with(key_id)

    async def usable(self, repository: RepositoryId) -> None:
        """See ports.BlobStore."""
        await self._keys.of(repository)

    async def find(self, repository: RepositoryId, digest: str, shelf: Shelf = "blobs") -> int | None:
        """See ports.BlobStore. Needs no key."""
        sealed = await self._below.find(repository, self._name(repository, digest), shelf)
        if sealed is not None:
            return content_size(sealed)
        return await self._below.find(repository, digest, shelf)

    async def open(self, repository: RepositoryId, digest: str, shelf: Shelf = "blobs") -> Content | None:
        """See ports.BlobStore."""
        key = await self._keys.of(repository)
        below = await self._below.open(repository, sealed_name(key.id, digest), shelf)
        if below is None:
            return await self._below.open(repository, digest, shelf)
        try:
            sealer, size = await self._sealer(key, below, digest)
        except Damaged as damaged:
            raise ContentDamaged(digest, str(damaged)) from None
        except FileNotFoundError:
            return None
        return SealedContent(below, sealer, size, digest, self._executor)

    async def _sealer(self, key: ContentKey, below: Content, digest: str) -> tuple[Sealer, int]:
        """Its cipher, and its size, which its end confirms. Raises Damaged."""
        size = content_size(below.size)
        if size is None:
            raise Damaged("no sealed content has this size")
        sealer = Sealer.of(key, await _all(below.read(0, HEADER_SIZE)))
        sealer.check_end(await _all(below.read(below.size - END_SIZE, below.size)), size, digest)
        return sealer, size

    async def read(self, repository: RepositoryId, digest: str, shelf: Shelf = "blobs") -> bytes | None:
        """See ports.BlobStore."""
        key = await self._keys.of(repository)
        sealed = await self._below.read(repository, sealed_name(key.id, digest), shelf)
        if sealed is None:
            return await self._below.read(repository, digest, shelf)
        try:
            return await self._run(open_whole, key, sealed, digest)
        except Damaged as damaged:
            raise ContentDamaged(digest, str(damaged)) from None

    async def put(self, repository: RepositoryId, digest: str, data: bytes, shelf: Shelf = "blobs") -> None:
        """See ports.BlobStore."""
        key = await self._keys.of(repository)
        if not self._keys.seals(repository):
            await self._below.put(repository, digest, data, shelf)
            return
        name = sealed_name(key.id, digest)
        if await self._below.find(repository, name, shelf) is None:
            await self._below.put(repository, name, seal_whole(key, data, digest), shelf)

    async def mount(self, source: RepositoryId, target: RepositoryId, digest: str) -> bool:
        """See ports.BlobStore. Between repositories with different keys it is opened and sealed anew, here."""
        await self._keys.of(source)
        await self._keys.of(target)
        if await self.find(target, digest) is not None:
            return True
        same_key = self._keys.id_of(source) == self._keys.id_of(target)
        if same_key and await self._below.mount(source, target, self._name(source, digest)):
            return True
        if not self._keys.seals(target) and await self._below.mount(source, target, digest):
            return True
        try:
            content = await self.open(source, digest)
            return content is not None and await self._copied(content, target, digest)
        except (ContentDamaged, FileNotFoundError, WrongDigest) as error:
            log.error("blob.not_mounted", repository=source.name, blob=digest, error=str(error))
            return False

    async def _copied(self, content: Content, target: RepositoryId, digest: str) -> bool:
        upload = await self.begin(target)
        try:
            async with contextlib.aclosing(content.read(0, content.size)) as parts:
                await upload.append(parts)
            await upload.finish(digest)
        except BaseException:
            await upload.abort()
            raise
        return True

    async def remove(self, repository: RepositoryId, digest: str, shelf: Shelf = "blobs") -> bool:
        """See ports.BlobStore."""
        sealed = await self._below.remove(repository, self._name(repository, digest), shelf)
        return await self._below.remove(repository, digest, shelf) or sealed

    async def remove_repository(self, repository: RepositoryId) -> None:
        """See ports.BlobStore."""
        await self._below.remove_repository(repository)
        for key in [key for key in self._uploads if key[0] == repository]:
            del self._uploads[key]

    async def begin(self, repository: RepositoryId, upload_id: str = "", *, hashed: bool = True) -> Upload:
        """See ports.BlobStore."""
        key = await self._keys.of(repository)
        if not self._keys.seals(repository):
            return await self._below.begin(repository, upload_id, hashed=hashed)
        below = await self._below.begin(repository, upload_id, hashed=False)
        upload = SealedUpload(self._below, below, repository, key, self._executor, self._forget)
        self._uploads[repository, upload.id] = upload
        return upload

    async def upload(self, repository: RepositoryId, upload_id: str, *, hashed: bool = True) -> Upload:
        """See ports.BlobStore."""
        key = await self._keys.of(repository)
        if not self._keys.seals(repository):
            return await self._below.upload(repository, upload_id, hashed=hashed)
        try:
            below = await self._below.upload(repository, upload_id, hashed=False)
        except UploadUnknown:
            self._uploads.pop((repository, upload_id), None)
            raise
        known = self._uploads.get((repository, upload_id))
        if known is None:
            found = SealedUpload(self._below, below, repository, key, self._executor, self._forget)
            known = self._uploads.setdefault((repository, upload_id), found)
        await known.settle()
        return known

    def _forget(self, upload: SealedUpload) -> None:
        self._uploads.pop((upload.repository, upload.id), None)

    async def drop_old_uploads(self, before: float) -> int:
        """See ports.BlobStore."""
        dropped = await self._below.drop_old_uploads(before)
        if dropped:
            for repository, upload_id in list(self._uploads):
                with contextlib.suppress(UploadUnknown):
                    await self._below.upload(repository, upload_id, hashed=False)
                    continue
                self._uploads.pop((repository, upload_id), None)
        return dropped

    async def drop_unnamed(self, repository: RepositoryId, named: Iterable[str], before: float) -> int:
        """See ports.BlobStore."""
        key_id = self._keys.id_of(repository)
        kept = [name for digest in named for name in (digest, sealed_name(key_id, digest))]
        return await self._below.drop_unnamed(repository, kept, before)

    async def drop_strays(self, repositories: Iterable[RepositoryId], before: float) -> int:
        """See ports.BlobStore."""
        return await self._below.drop_strays(repositories, before)

    async def sweep(self, before: float) -> int:
        """See ports.BlobStore."""
        return await self._below.sweep(before)


def _looked_at(opened: asyncio.Future[bytearray]) -> None:
    """Nobody may be there any more to be told."""
    if not opened.cancelled():
        opened.exception()


async def _all(parts: AsyncIterator[Bytes]) -> bytes:
    return b"".join([part async for part in parts])
