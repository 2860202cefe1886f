"""Blobs in the file system. See services.registry.adapters.files for where they lie and why."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import uuid
from collections.abc import AsyncGenerator, Iterable, Iterator
from concurrent.futures import Executor
from pathlib import Path

from services.registry.adapters.files import make_directory, room_needed, sync_directory, sync_file, touch
from services.registry.adapters.uploads import SpooledUpload, SpoolingStore
from services.registry.decisions.names import RepositoryId
from services.registry.ports import STEP, Shelf
from services.shared.private_files import write_private

_TOUCH_S = 600.0
KEY_ID_FILE = "content.id"


class FileContent:
    """One file."""

    def __init__(self, executor: Executor, path: Path, size: int) -> None:
        self._executor = executor
        self._path = path
        self.size = size

    @property
    def file(self) -> Path | None:
        """The file."""
        return self._path

    def url(self) -> str | None:
        """See ports.Content."""
        return None

    async def read(self, start: int, stop: int, step: int = STEP) -> AsyncGenerator[bytes, None]:
        """See ports.Content."""
        loop = asyncio.get_running_loop()
        descriptor = os.open(self._path, os.O_RDONLY)
        try:
            while start < stop:
                part = await loop.run_in_executor(self._executor, os.pread, descriptor, min(step, stop - start), start)
                if not part:
                    return
                start += len(part)
                yield part
        finally:
            os.close(descriptor)


class FileUpload(SpooledUpload):
    """The file becomes the content."""

    async def _keep(self, digest: str, shelf: Shelf) -> None:
        await self._run(self._adopt, digest, shelf)

    def _adopt(self, digest: str, shelf: Shelf) -> None:
        with room_needed():
            sync_file(self._path)
            self._layout.adopt(self._path, digest, self._layout.link(self.repository, digest, shelf))


class FileBlobStore(SpoolingStore):
    """A BlobStore under one directory of one file system (hard links don't cross file systems)."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        make_directory(self._layout.blobs)

    def _upload(self, repository: RepositoryId, upload_id: str, size: int, hashed: bool) -> FileUpload:
        parts = (self._layout, self._executor, repository, upload_id, self._forget)
        return FileUpload(*parts, size=size, hashed=hashed)

    async def sealed_with(self) -> bytes | None:
        """See ports.BlobStore."""
        try:
            return bytes.fromhex((self._layout.root / KEY_ID_FILE).read_text())
        except FileNotFoundError:
            return None

    async def seal_with(self, key_id: bytes) -> None:
        """See ports.BlobStore."""
        write_private(self._layout.root / KEY_ID_FILE, key_id.hex().encode())
        sync_directory(self._layout.root)

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

    async def open(self, repository: RepositoryId, digest: str, shelf: Shelf = "blobs") -> FileContent | None:
        """See ports.BlobStore."""
        path = self._layout.link(repository, digest, shelf)
        size = await self._run(self._find, path)
        return FileContent(self._executor, path, size) if size is not None else None

    async def read(self, repository: RepositoryId, digest: str, shelf: Shelf = "blobs") -> bytes | None:
        """See ports.BlobStore."""
        try:
            return await self._run(self._layout.link(repository, digest, shelf).read_bytes)
        except FileNotFoundError:
            return None

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
        await self._drop_uploads(repository)
        await self._run(self._layout.remove_tree, self._layout.repository(repository))

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

    async def drop_strays(self, repositories: Iterable[RepositoryId], before: float) -> int:
        """See ports.BlobStore."""
        known = {self._layout.repository(repository) for repository in repositories}
        return await self._run(self._drop_strays, known, before)

    def _drop_strays(self, known: set[Path], before: float) -> int:
        found = (path for path in self._layout.repositories.glob("*/*/*") if path not in known)
        return sum(self._drop_unnamed(path, set(), before) for path in found)

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


def _unlink(path: Path) -> int:
    try:
        path.unlink()
    except FileNotFoundError:
        return 0
    with contextlib.suppress(FileNotFoundError):
        sync_directory(path.parent)
    return 1


def _entries(directory: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as found:
            yield from list(found)
    except FileNotFoundError:
        return
