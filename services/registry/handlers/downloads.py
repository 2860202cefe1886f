"""Blobs on their way in from another registry: fetched once, however many wait, and read while they come."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator

from services.registry.decisions.names import RepositoryId
from services.registry.decisions.upstream import Source
from services.registry.ports import BlobStore, Upload, UploadUnknown, Upstream

_READ = 256 * 1024


class Download:
    """One blob. `size` is known once `begun` is set (-1: it was not told)."""

    def __init__(self, repository: RepositoryId, digest: str) -> None:
        self.repository = repository
        self.digest = digest
        self.size = -1
        self.begun = asyncio.Event()
        self.task: asyncio.Task[None]
        self._upload: Upload | None = None
        self._came = asyncio.Event()

    async def run(self, upstream: Upstream, source: Source, name: str, blobs: BlobStore) -> None:
        """Fetch it into the repository: whole and true, or not at all. Raises UpstreamFailed, WrongDigest,
        StateUnavailable."""
        try:
            async with upstream.blob(source, name, self.digest) as (size, chunks):
                upload = self._upload = await blobs.begin(self.repository)
                self.size = size
                self.begun.set()
                try:
                    await upload.append(self._told(chunks))
                    await upload.finish(self.digest)
                except BaseException:
                    await upload.abort()
                    raise
        finally:
            self.begun.set()
            self._came.set()

    async def _told(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            yield chunk
            self._came.set()

    async def done(self) -> None:
        """Wait until it is stored. Who stops to wait does not stop it. Raises what `run` does."""
        await asyncio.shield(self.task)

    async def read(self, blobs: BlobStore) -> AsyncGenerator[bytes, None]:
        """The bytes as they come. The last one comes when all were found to have the digest, so that nobody takes
        wrong ones for whole. Raises what `run` does, and FileNotFoundError if it is gone again."""
        assert self._upload is not None
        at = 0
        while at < self.size and not self.task.done():
            self._came.clear()
            ready = min(self._upload.size, self.size - 1)
            part = b""
            if at < ready:
                with contextlib.suppress(UploadUnknown):  # it is about to be stored
                    part = await self._upload.read(at, min(at + _READ, ready))
            if part:
                at += len(part)
                yield part
            else:
                came = asyncio.ensure_future(self._came.wait())
                await asyncio.wait({came, self.task}, return_when=asyncio.FIRST_COMPLETED)
                came.cancel()
        self.task.result()
        content = await blobs.open(self.repository, self.digest) if at < self.size else None
        if content is None and at < self.size:
            raise FileNotFoundError(self.digest)
        if content is not None:
            async with contextlib.aclosing(content.read(at, self.size)) as parts:
                async for part in parts:
                    yield part
