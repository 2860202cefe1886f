"""Content on its way in: written and hashed as it comes, a chunk being written while the next one arrives."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterable, Callable
from concurrent.futures import Executor
from pathlib import Path

from services.registry.adapters.files import Layout, room_needed, sync_file
from services.registry.decisions.names import RepositoryId
from services.registry.ports import Shelf, StorageFull, UploadTaken, UploadUnknown, WrongDigest, WrongOffset

CHUNK = 1024 * 1024
_REHASH = 4 * 1024 * 1024


class FileUpload:
    """An upload is one file. Its size is what has arrived; the hash is made again when a new process goes on."""

    def __init__(
        self,
        layout: Layout,
        executor: Executor,
        repository: RepositoryId,
        upload_id: str,
        forget: Callable[[FileUpload], None],
        *,
        size: int = 0,
    ) -> None:
        self.id = upload_id
        self.repository = repository
        self._layout = layout
        self._executor = executor
        self._path = layout.upload(repository, upload_id)
        self._forget = forget
        self._size = size
        self._hash = hashlib.sha256() if size == 0 else None
        self._writing: asyncio.Future[None] | None = None
        self._writer: object = None
        self._gone = False

    @property
    def size(self) -> int:
        """How many bytes have arrived."""
        return self._size

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    async def append(self, chunks: AsyncIterable[bytes], start: int | None = None) -> int:
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

    async def _receive(self, me: object, chunks: AsyncIterable[bytes]) -> None:
        parts: list[bytes] = []
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

    async def finish(self, digest: str, shelf: Shelf = "blobs") -> int:
        """See ports.Upload."""
        me = await self._take_over()
        await self._run(self._catch_up)
        self._check(me)
        self._gone = True
        assert self._hash is not None
        actual = "sha256:" + self._hash.hexdigest()
        try:
            if actual != digest:
                raise WrongDigest(actual)
            await self._run(self._adopt, digest, shelf)
        finally:
            await self.abort()
        return self._size

    async def abort(self) -> None:
        """See ports.Upload."""
        await self._take_over(gone_too=True)
        self._gone = True
        self._forget(self)
        with contextlib.suppress(FileNotFoundError):
            await self._run(os.unlink, self._path)

    async def _take_over(self, gone_too: bool = False) -> object:
        """Become the one who writes; whoever wrote before finds out at their next step."""
        if self._gone and not gone_too:
            raise UploadUnknown(self.id)
        me = self._writer = object()
        with contextlib.suppress(StorageFull, OSError):
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

    async def _write(self, me: object, parts: list[bytes]) -> None:
        """Begin to write, when what was begun before is done."""
        await self._settled()
        if parts:
            self._check(me)
            loop = asyncio.get_running_loop()
            self._writing = loop.run_in_executor(self._executor, self._append, parts)

    async def _run(self, function: Callable[..., None], *args: object) -> None:
        await asyncio.get_running_loop().run_in_executor(self._executor, function, *args)

    def _append(self, parts: list[bytes]) -> None:
        self._catch_up()
        assert self._hash is not None
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

    def _adopt(self, digest: str, shelf: Shelf) -> None:
        with room_needed():
            sync_file(self._path)
            self._layout.adopt(self._path, digest, self._layout.link(self.repository, digest, shelf))


def _write_all(descriptor: int, parts: list[bytes], at: int) -> None:
    data = parts[0] if len(parts) == 1 else b"".join(parts)
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, at)
        view, at = view[written:], at + written
