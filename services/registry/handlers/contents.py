"""Content of the blob store, read from one end to the other."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from services.registry.decisions.names import RepositoryId
from services.registry.ports import BlobStore, Bytes


async def stream(blobs: BlobStore, repository: RepositoryId, digest: str, start: int = 0) -> AsyncIterator[Bytes]:
    """A blob's bytes from `start` on, in pieces. Raises FileNotFoundError, ContentDamaged, StorageAway."""
    content = await blobs.open(repository, digest)
    if content is None:
        raise FileNotFoundError(digest)
    async with contextlib.aclosing(content.read(start, content.size)) as parts:
        async for part in parts:
            yield part
