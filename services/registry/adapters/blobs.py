"""Blobs in the file system. See services.registry.adapters.files for where they lie and why."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from services.registry.adapters.files import Layout, make_directory, room_needed, sync_directory, touch
from services.registry.adapters.uploads import FileUpload
from services.registry.decisions.names import RepositoryId
from services.registry.ports import Shelf, UploadUnknown

_P = ParamSpec("_P")
_T = TypeVar("_T")

THREADS = 8
_TOUCH_S = 600.0
_READ = 512 * 1024


class FileBlobStore:
    """A BlobStore under one directory of one file system (hard links don't cross file systems)."""

    def __init__(self, root: Path) -> None:
        self._layout = Layout(root)
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="registry-blobs")
        self._uploads: dict[tuple[RepositoryId, str], FileUpload] = {}
        make_directory(self._layout.blobs)
        make_directory(self._layout.repositories)

    def close(self) -> None:
        """Let the threads end."""
        self._executor.shutdown(wait=True)

    async def _run(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: function(*args, **kwargs))

    def path(self, repository: RepositoryId, digest: str, shelf: Shelf = "blobs") -> Path:
        """See ports.BlobStore."""
        return self._layout.link(repository, digest, shelf)

    async def find(self, repository: RepositoryId, digest: str, shelf: Shelf = "blobs") -> int | None:
        """See ports.BlobStore."""
        return await self._run(self._find, self._layout.link(repository, digest, shelf))

    def _find(self, path: Path) -> int | None:
        try:
            with self._layout.guard:
                found = path.stat()
                if found.st_ctime < time.time() - _TOUCH_S:
                    touch(path)
        except FileNotFoundError:
            return None
        return found.st_size

    async def read(self, repository: RepositoryId, digest: str, shelf: Shelf = "blobs") -> bytes | None:
        """See ports.BlobStore."""
        try:
            return await self._run(self._layout.link(repository, digest, shelf).read_bytes)
        except FileNotFoundError:
            return None

    async def stream(self, repository: RepositoryId, digest: str, start: int = 0) -> AsyncIterator[bytes]:
        """See ports.BlobStore."""
        with open(self._layout.link(repository, digest, "blobs"), "rb") as file:
            file.seek(start)
            while part := await self._run(file.read, _READ):
                yield part

    async def put(self, repository: RepositoryId, digest: str, data: bytes, shelf: Shelf = "blobs") -> None:
        """See ports.BlobStore."""
        await self._run(self._put, repository, digest, data, shelf)

    def _put(self, repository: RepositoryId, digest: str, data: bytes, shelf: Shelf) -> None:
        link = self._layout.link(repository, digest, shelf)
        if link.exists():
            return
        part = self._layout.upload(repository, str(uuid.uuid4()))
        with room_needed():
            make_directory(part.parent)
            try:
                with open(part, "xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                self._layout.adopt(part, digest, link)
            finally:
                part.unlink(missing_ok=True)

    async def mount(self, source: RepositoryId, target: RepositoryId, digest: str) -> bool:
        """See ports.BlobStore."""
        return await self._run(self._mount, source, target, digest)

    def _mount(self, source: RepositoryId, target: RepositoryId, digest: str) -> bool:
        try:
            with room_needed():
                self._layout.add_link(
                    self._layout.link(source, digest, "blobs"), self._layout.link(target, digest, "blobs")
                )
        except FileNotFoundError:
            return False
        return True

    async def remove(self, repository: RepositoryId, digest: str, shelf: Shelf = "blobs") -> bool:
        """See ports.BlobStore."""
        return await self._run(_unlink, self._layout.link(repository, digest, shelf))

    async def remove_repository(self, repository: RepositoryId) -> None:
        """See ports.BlobStore."""
        for upload in [u for u in self._uploads.values() if u.repository == repository]:
            await upload.abort()
        await self._run(self._layout.remove_tree, self._layout.repository(repository))

    async def begin(self, repository: RepositoryId, upload_id: str = "") -> FileUpload:
        """See ports.BlobStore."""
        upload = FileUpload(self._layout, self._executor, repository, upload_id or str(uuid.uuid4()), self._forget)
        await self._run(_create, upload.path)
        self._uploads[repository, upload.id] = upload
        return upload

    async def upload(self, repository: RepositoryId, upload_id: str) -> FileUpload:
        """See ports.BlobStore."""
        known = self._uploads.get((repository, upload_id))
        if known is not None:
            return known
        size = await self._run(_size, self._layout.upload(repository, upload_id))
        if size is None:
            raise UploadUnknown(upload_id)
        found = FileUpload(self._layout, self._executor, repository, upload_id, self._forget, size=size)
        return self._uploads.setdefault((repository, upload_id), found)

    def _forget(self, upload: FileUpload) -> None:
        self._uploads.pop((upload.repository, upload.id), None)

    async def drop_old_uploads(self, before: float) -> int:
        """See ports.BlobStore."""
        old = await self._run(
            lambda: [p for p in self._layout.repositories.glob("*/*/*/uploads/*") if _idle(p, before)]
        )
        known = {upload.path: upload for upload in self._uploads.values()}
        for path in old:
            if path in known:
                await known[path].abort()
            else:
                await self._run(path.unlink, missing_ok=True)
        return len(old)

    async def drop_unnamed(self, repository: RepositoryId, named: Iterable[str], before: float) -> int:
        """See ports.BlobStore."""
        keep = {digest.partition(":")[2] for digest in named}
        return await self._run(self._drop_unnamed, self._layout.repository(repository), keep, before)

    def _drop_unnamed(self, directory: Path, keep: set[str], before: float) -> int:
        dropped = 0
        for shelf in ("blobs", "manifests"):
            for entry in _entries(directory / shelf):
                if entry.name not in keep:
                    dropped += self._take(Path(entry.path), before) is not None
            with contextlib.suppress(FileNotFoundError):
                sync_directory(directory / shelf)
        return dropped

    async def sweep(self, before: float) -> int:
        """See ports.BlobStore."""
        return await self._run(self._sweep, before)

    def _sweep(self, before: float) -> int:
        self._layout.empty_trash()
        freed = 0
        for shard in _entries(self._layout.blobs):
            for entry in _entries(Path(shard.path)):
                freed += self._take(Path(entry.path), before, links=1) or 0
        return freed

    def _take(self, path: Path, before: float, links: int = 0) -> int | None:
        """Unlink a file that nobody touched since `before`, and that has no more than so many links (0: whatever it
        has); its size, None when it stays. Looking and unlinking are one to whoever finds or links content."""
        with self._layout.guard, contextlib.suppress(FileNotFoundError):
            found = path.stat(follow_symlinks=False)
            if found.st_ctime < before and (not links or found.st_nlink <= links):
                path.unlink()
                return found.st_size
        return None


def _create(path: Path) -> None:
    with room_needed():
        make_directory(path.parent)
        path.touch(exist_ok=False)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _unlink(path: Path) -> int:
    try:
        path.unlink()
    except FileNotFoundError:
        return 0
    with contextlib.suppress(FileNotFoundError):
        sync_directory(path.parent)
    return 1


def _idle(path: Path, before: float) -> bool:
    try:
        return path.stat().st_mtime < before
    except FileNotFoundError:
        return False


def _entries(directory: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as found:
            yield from list(found)
    except FileNotFoundError:
        return
