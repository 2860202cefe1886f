"""Blobs: fetched, asked for, deleted."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from services.registry.routes.errors import HEADERS, OciError
from services.registry.routes.visit import Visit

_SEND_CHUNK = 1024 * 1024


async def head_blob(visit: Visit) -> web.StreamResponse:
    """Whether the repository has the blob, and its size."""
    digest = visit.digest()
    size = await _size(visit, digest)
    return visit.answer(
        200,
        content_length=str(size),
        content_type="application/octet-stream",
        docker_content_digest=digest,
        accept_ranges="bytes",
    )


async def get_blob(visit: Visit) -> web.StreamResponse:
    """The blob, or a range of it."""
    digest = visit.digest()
    await _size(visit, digest)
    return blob_response(visit.parts.blobs.path(visit.repository, digest), digest)


async def delete_blob(visit: Visit) -> web.StreamResponse:
    """Take the blob out of the repository, unless an image there is made of it."""
    digest = visit.digest()
    async with visit.parts.repositories.lock(visit.repository):
        if digest in visit.parts.images.named(visit.repository):
            raise OciError("UNSUPPORTED", f"an image of the repository is made of {digest}: delete that first")
        if not await visit.parts.blobs.remove(visit.repository, digest):
            raise _unknown(digest)
    return visit.answer(202, docker_content_digest=digest)


def blob_response(path: Path, digest: str) -> web.FileResponse:
    """A file as a blob: sent by the kernel where the loop can, ranges served."""
    headers = {
        **HEADERS,
        "Content-Type": "application/octet-stream",
        "Docker-Content-Digest": digest,
        "Cache-Control": "max-age=31536000, immutable",
    }
    return web.FileResponse(path, chunk_size=_SEND_CHUNK, headers=headers)


async def _size(visit: Visit, digest: str) -> int:
    size = await visit.parts.blobs.find(visit.repository, digest)
    if size is None:
        raise _unknown(digest)
    return size


def _unknown(digest: str) -> OciError:
    return OciError("BLOB_UNKNOWN", f"blob unknown to registry: {digest}")
