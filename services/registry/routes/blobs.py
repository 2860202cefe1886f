"""Blobs: fetched, asked for, deleted."""

from __future__ import annotations

import structlog
from aiohttp import web

from services.registry.handlers.downloads import Download
from services.registry.ports import ContentDamaged, StorageAway, StorageFull, UpstreamFailed, WrongDigest
from services.registry.routes.contents import blob_headers, cut, send
from services.registry.routes.errors import OciError
from services.registry.routes.visit import Visit

log = structlog.get_logger()


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
    content = await visit.parts.blobs.open(visit.repository, digest)
    if content is not None:
        return await send(visit.request, content, digest)
    download = visit.parts.pull_through.download(visit.repository, digest)
    if download is None:
        raise _unknown(digest)
    await download.begun.wait()
    if not download.task.done() and download.size > 0:
        return await _passed_on(visit, download)
    return await _sent(visit, download)


async def delete_blob(visit: Visit) -> web.StreamResponse:
    """Take the blob out of the repository, unless an image there is made of it."""
    digest = visit.digest()
    if visit.token.attaches:
        raise OciError("DENIED", "this token is for what is attached to one image")
    async with visit.parts.repositories.lock(visit.repository):
        if digest in visit.parts.images.named(visit.repository):
            raise OciError("UNSUPPORTED", f"an image of the repository is made of {digest}: delete that first")
        if not await visit.parts.blobs.remove(visit.repository, digest):
            raise _unknown(digest)
    return visit.answer(202, docker_content_digest=digest)


async def _sent(visit: Visit, download: Download) -> web.StreamResponse:
    """The blob, when it is here."""
    await _stored(download, download.digest)
    content = await visit.parts.blobs.open(visit.repository, download.digest)
    if content is None:
        raise _unknown(download.digest)
    return await send(visit.request, content, download.digest)


async def _size(visit: Visit, digest: str) -> int:
    size = await visit.parts.blobs.find(visit.repository, digest)
    if size is None:
        download = visit.parts.pull_through.download(visit.repository, digest)
        if download is not None:
            await _stored(download, digest)
            size = await visit.parts.blobs.find(visit.repository, digest)
    if size is None:
        raise _unknown(digest)
    return size


async def _stored(download: Download, digest: str) -> None:
    """Wait until the blob is in the repository. Raises OciError when the upstream does not have it."""
    try:
        await download.done()
    except UpstreamFailed as error:
        if error.unknown:
            raise _unknown(digest) from error
        raise
    except WrongDigest as error:
        raise OciError("UNAVAILABLE", f"the upstream registry sent {error.actual} for {digest}") from error


async def _passed_on(visit: Visit, download: Download) -> web.StreamResponse:
    """The blob as it comes from the upstream. A failure then is a connection that ends early."""
    parts = download.read(visit.parts.blobs)
    try:
        first = await anext(parts)
    except (FileNotFoundError, UpstreamFailed, WrongDigest):
        return await _sent(visit, download)
    response = web.StreamResponse(headers=blob_headers(download.digest))
    response.content_length = download.size
    try:
        await response.prepare(visit.request)
        await response.write(first)
        async for part in parts:
            await response.write(part)
    except (UpstreamFailed, WrongDigest, StorageFull, StorageAway, ContentDamaged, FileNotFoundError) as error:
        log.warning("pull_through.cut", repository=visit.repository.name, blob=download.digest, error=str(error))
        cut(visit.request)
        return response
    finally:
        await parts.aclose()
    await response.write_eof()
    return response


def _unknown(digest: str) -> OciError:
    return OciError("BLOB_UNKNOWN", f"blob unknown to registry: {digest}")
