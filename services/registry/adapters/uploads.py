"""Content on its way in: spooled in a file and hashed as it comes, a chunk being written while the next one arrives."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import uuid
from collections.abc import AsyncIterable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from services.registry.adapters.files import Layout, make_directory, room_needed, sync_file
from services.registry.decisions.names import RepositoryId
from services.registry.ports import (
    Bytes,
    Shelf,
    StorageAway,
    StorageFull,
    UploadTaken,
    UploadUnknown,
    WrongDigest,
    WrongOffset,
)

_P = ParamSpec("_P")
_T = TypeVar("_T")

THREADS = 8
CHUNK = 512 * 1024
_REHASH = 4 * 1024 * 1024


class SpooledUpload:
    """An upload is one file. Its size is what has arrived; the hash is made again when a new process goes on. What
    becomes of the file when it is whole, `_keep` says."""

    def __init__(
        self,
        layout: Layout,
        executor: Executor,
        repository: RepositoryId,
        upload_id: str,
        forget: Callable[[SpooledUpload], None],
        *,
        size: int = 0,
        hashed: bool = True,
    ) -> None:
        self.id = upload_id
        self.repository = repository
        self._layout = layout
        self._executor = executor
        self._path = layout.upload(repository, upload_id)
        self._forget = forget
        self._size = size
        self._hashed = hashed
        self._hash = hashlib.sha256() if size == 0 else None
        self._writing: asyncio.Future[None] | None = None
        self._writer: object = None
        self._gone = False

    @property
    def size(self) -> int:
        """How many bytes have arrived."""
        return self._size

    async def read(self, start: int, stop: int) -> bytes:
        """See ports.Upload."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._read, start, stop)

    def _read(self, start: int, stop: int) -> bytes:
        try:
            with open(self._path, "rb", buffering=0) as file:
                return os.pread(file.fileno(), stop - start, start)
        except FileNotFoundError:
            raise UploadUnknown(self.id) from None

    async def claim(self) -> int:
        """See ports.Upload."""
        await self._take_over()
        return self._size

    async def truncate(self, size: int) -> None:
        """See ports.Upload."""
        await self._take_over()
        await self._run(os.truncate, self._path, size)
        self._size, self._hash = size, None

    async def append(self, chunks: AsyncIterable[Bytes], start: int | None = None) -> int:
        """See ports.Upload."""
        me = await self._take_over()
        if start is not None and start != self._size:
            raise WrongOffset(self._size)
        try:
            await self._receive(me, chunks)
        except StorageFull:
            await self.abort()
            raise
        self._check(me)
        return self._size

    async def _receive(self, me: object, chunks: AsyncIterable[Bytes]) -> None:
        parts: list[Bytes] = []
        waiting = 0
        try:
            async for chunk in chunks:
                parts.append(chunk)
                waiting += len(chunk)
                if waiting >= CHUNK:
                    # What could not be written must not be followed by what came after it.
                    batch, parts, waiting = parts, [], 0
                    await self._write(me, batch)
        finally:
            await self._write(me, parts)
            await self._settled()
            await self._run(self._sync)

    async def finish(self, digest: str, shelf: Shelf = "blobs", *, known: bool = False) -> int:
        """See ports.Upload."""
        me = await self._take_over()
        if not known:
            await self._run(self._catch_up)
        self._check(me)
        self._gone = True
        actual = digest if known or self._hash is None else "sha256:" + self._hash.hexdigest()
        try:
            if actual != digest:
                raise WrongDigest(actual)
            await self._keep(digest, shelf)
        except StorageAway:
            self._gone = False  # nothing of it is lost: it can be finished later
            raise
        except BaseException:
            await self.abort()
            raise
        await self.abort()
        return self._size

    async def _keep(self, digest: str, shelf: Shelf) -> None:
        """Put what was found to have this digest into the repository."""
        raise NotImplementedError

    async def abort(self) -> None:
        """See ports.Upload."""
        await self._take_over(gone_too=True)
        self._gone = True
        self._forget(self)
        with contextlib.suppress(UploadUnknown):
            await self._run(os.unlink, self._path)

    async def _take_over(self, gone_too: bool = False) -> object:
        """Become the one who writes; whoever wrote before finds out at their next step."""
        if self._gone and not gone_too:
            raise UploadUnknown(self.id)
        me = self._writer = object()
        with contextlib.suppress(StorageFull, UploadUnknown, OSError):
            await self._settled()
        return me

    def _check(self, me: object) -> None:
        if self._gone:
            raise UploadUnknown(self.id)
        if self._writer is not me:
            raise UploadTaken(self.id)

    async def _settled(self) -> None:
        while self._writing is not None:
            writing = self._writing
            try:
                await asyncio.shield(writing)
            finally:
                if self._writing is writing:
                    self._writing = None

    async def _write(self, me: object, parts: list[Bytes]) -> None:
        """Begin to write, when what was begun before is done."""
        await self._settled()
        if parts:
            self._check(me)
            loop = asyncio.get_running_loop()
            self._writing = loop.run_in_executor(self._executor, self._with_file, self._append, parts)

    async def _run(self, function: Callable[..., None], *args: object) -> None:
        await asyncio.get_running_loop().run_in_executor(self._executor, self._with_file, function, *args)

    def _with_file(self, function: Callable[..., None], *args: object) -> None:
        """Its repository may be deleted at any moment, and its file with it."""
        try:
            function(*args)
        except FileNotFoundError:
            raise UploadUnknown(self.id) from None

    def _append(self, parts: list[Bytes]) -> None:
        if self._hashed:
            self._catch_up()
        with room_needed():
            descriptor = os.open(self._path, os.O_WRONLY)
            try:
                _write_all(descriptor, parts, self._size)
            except OSError:
                os.ftruncate(descriptor, self._size)
                raise
            finally:
                os.close(descriptor)
        for part in parts:
            if self._hashed and self._hash is not None:
                self._hash.update(part)
            self._size += len(part)

    def _catch_up(self) -> None:
        """Make the hash of what a process before this one wrote."""
        if self._hash is not None:
            return
        found, size = hashlib.sha256(), 0
        with open(self._path, "rb") as file:
            while part := file.read(_REHASH):
                found.update(part)
                size += len(part)
        self._hash, self._size = found, size

    def _sync(self) -> None:
        with room_needed():
            sync_file(self._path)


class SpoolingStore:
    """What stores have in common that spool: the uploads that go on, begun by this process or by one before it."""

    def __init__(self, root: Path) -> None:
        self._layout = Layout(root)
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="registry-blobs")
        self._uploads: dict[tuple[RepositoryId, str], SpooledUpload] = {}
        make_directory(self._layout.repositories)

    async def close(self) -> None:
        """Let the threads end."""
        self._executor.shutdown(wait=True)

    async def _run(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: function(*args, **kwargs))

    async def usable(self, repository: RepositoryId) -> None:
        """See ports.BlobStore: it asks for no keys."""

    def _upload(self, repository: RepositoryId, upload_id: str, size: int, hashed: bool) -> SpooledUpload:
        raise NotImplementedError

    async def begin(self, repository: RepositoryId, upload_id: str = "", *, hashed: bool = True) -> SpooledUpload:
        """See ports.BlobStore."""
        upload = self._upload(repository, upload_id or str(uuid.uuid4()), 0, hashed)
        await self._run(_create, self._layout.upload(repository, upload.id))
        self._uploads[repository, upload.id] = upload
        return upload

    async def upload(self, repository: RepositoryId, upload_id: str, *, hashed: bool = True) -> SpooledUpload:
        """See ports.BlobStore."""
        known = self._uploads.get((repository, upload_id))
        if known is not None:
            return known
        size = await self._run(_size, self._layout.upload(repository, upload_id))
        if size is None:
            raise UploadUnknown(upload_id)
        found = self._upload(repository, upload_id, size, hashed)
        return self._uploads.setdefault((repository, upload_id), found)

    def _forget(self, upload: SpooledUpload) -> None:
        self._uploads.pop((upload.repository, upload.id), None)

    async def drop_old_uploads(self, before: float) -> int:
        """See ports.BlobStore."""
        old = await self._run(
            lambda: [p for p in self._layout.repositories.glob("*/*/*/uploads/*") if _idle(p, before)]
        )
        known = {self._layout.upload(*key): upload for key, upload in self._uploads.items()}
        for path in old:
            if path in known:
                await known[path].abort()
            else:
                await self._run(path.unlink, missing_ok=True)
        return len(old)

    async def _drop_uploads(self, repository: RepositoryId) -> None:
        for upload in [u for u in self._uploads.values() if u.repository == repository]:
            await upload.abort()


def _write_all(descriptor: int, parts: list[Bytes], at: int) -> None:
    data = parts[0] if len(parts) == 1 else b"".join(parts)
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, at)
        view, at = view[written:], at + written


def _create(path: Path) -> None:
    with room_needed():
        make_directory(path.parent)
        path.touch(exist_ok=False)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _idle(path: Path, before: float) -> bool:
    try:
        return path.stat().st_mtime < before
    except FileNotFoundError:
        return False
