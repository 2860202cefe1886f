"""Content on its way out: a file as it is by the kernel, anything else in parts; whole, or a range (RFC 9110, 14)."""

from __future__ import annotations

import contextlib

import structlog
from aiohttp import web

from services.registry.ports import Content, ContentDamaged, StorageAway
from services.registry.routes.errors import HEADERS

log = structlog.get_logger()

_SEND_CHUNK = 1024 * 1024


def blob_headers(digest: str) -> dict[str, str]:
    """What is told of a blob that is sent."""
    return {
        **HEADERS,
        "Content-Type": "application/octet-stream",
        "Docker-Content-Digest": digest,
        "Cache-Control": "max-age=31536000, immutable",
    }


async def send(request: web.Request, content: Content, digest: str) -> web.StreamResponse:
    """A blob. What fails on the way is a connection that ends early: nobody takes it for whole. Raises ContentDamaged,
    FileNotFoundError, StorageAway when nothing was sent yet."""
    if content.file is not None:
        return web.FileResponse(content.file, chunk_size=_SEND_CHUNK, headers=blob_headers(digest))
    if url := content.url():
        return web.Response(status=307, headers={**HEADERS, "Docker-Content-Digest": digest, "Location": url})
    asked = _range(request, content.size, digest)
    if asked is None:
        return web.Response(status=416, headers={**blob_headers(digest), "Content-Range": f"bytes */{content.size}"})
    start, stop = asked
    partial = (start, stop) != (0, content.size)
    response = web.StreamResponse(status=206 if partial else 200, headers=blob_headers(digest))
    response.headers["Accept-Ranges"] = "bytes"
    if partial:
        response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{content.size}"
    response.content_length = stop - start
    async with contextlib.aclosing(content.read(start, stop)) as parts:
        first = await anext(parts, b"")  # what is not there at all is told, as long as it can be
        try:
            await response.prepare(request)
            await response.write(first)
            async for part in parts:
                await response.write(part)
        except (ContentDamaged, FileNotFoundError, StorageAway) as error:
            log.error("blob.cut", blob=digest, error=str(error))
            cut(request)
            return response
    await response.write_eof()
    return response


def cut(request: web.Request) -> None:
    """End the connection, so that what was sent is not taken for whole."""
    if request.transport is not None:
        request.transport.close()


def _range(request: web.Request, size: int, digest: str) -> tuple[int, int] | None:
    """(start, stop) of what is asked for; None when there is nothing there. A range that is none, or several, or of
    another representation (If-Range), is all of it."""
    whole = (0, size)
    if "Range" not in request.headers or request.headers.get("If-Range", f'"{digest}"') != f'"{digest}"':
        return whole
    try:
        asked = request.http_range
    except ValueError:
        return whole
    if asked.start is None and asked.stop is None:
        return whole
    start = asked.start or 0
    if start < 0:
        return (max(size + start, 0), size) if size else None
    stop = size if asked.stop is None else min(asked.stop, size)
    return (start, stop) if start < stop else None
