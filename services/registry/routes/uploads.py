"""Uploads of blobs: whole or in chunks, resumed where they broke off, or mounted from another repository."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote

from aiohttp import web
from aiohttp.client_exceptions import ClientPayloadError

from services.registry.decisions.names import RepositoryId, locate, valid_digest, valid_repository, valid_upload
from services.registry.decisions.pages import chunk_start
from services.registry.decisions.peers import upload_of
from services.registry.ports import Upload, UploadUnknown
from services.registry.routes.errors import OciError, shown_range
from services.registry.routes.visit import Visit, checked_digest
from services.shared.errors import AccessDenied

BREAKING_S = 5.0
"""How long an installation that resumes is kept waiting for the end of its earlier connection."""


async def begin(visit: Visit) -> web.StreamResponse:
    """POST: mount a blob, take one whole, or begin an upload."""
    query = visit.request.query
    if query.get("mount") and await _mounted(visit, query["mount"], query.get("from")):
        return _created(visit, query["mount"])
    if visit.token.replicates and query.get("resume"):
        return _accepted(visit, await _of_peer(visit, checked_digest(query["resume"])))
    digest = checked_digest(query["digest"]) if "digest" in query else None
    upload = await visit.parts.blobs.begin(visit.repository)
    if digest is None:
        return _accepted(visit, upload)
    try:
        await _receive(visit, upload, None)
        await upload.finish(digest)
    except BaseException:
        # Nobody was told of this upload, so nobody can go on with it.
        await upload.abort()
        raise
    return _created(visit, digest)


async def patch(visit: Visit) -> web.StreamResponse:
    """PATCH: add a chunk."""
    upload = await _upload(visit)
    await _receive(visit, upload, _start(visit))
    return _accepted(visit, upload)


async def put(visit: Visit) -> web.StreamResponse:
    """PUT: add the last chunk, if there is one, and finish."""
    if "digest" not in visit.request.query:
        raise OciError("DIGEST_INVALID", "an upload is finished with the digest of its content")
    digest = checked_digest(visit.request.query["digest"])
    upload = await _upload(visit)
    if visit.request.body_exists:
        await _receive(visit, upload, _start(visit))
    await upload.finish(digest)
    return _created(visit, digest)


async def status(visit: Visit) -> web.StreamResponse:
    """GET: how far it is."""
    upload = await _upload(visit)
    return visit.answer(
        204, location=_location(visit, upload), range=shown_range(upload.size), docker_upload_uuid=upload.id
    )


async def cancel(visit: Visit) -> web.StreamResponse:
    """DELETE: drop it."""
    await (await _upload(visit)).abort()
    return visit.answer(204)


async def _of_peer(visit: Visit, digest: str) -> Upload:
    """The upload of this blob that another installation began before, or a new one."""
    upload_id = upload_of(visit.token.peer, visit.repository, digest)
    await visit.parts.arrivals.ended(upload_id, BREAKING_S)
    try:
        return await visit.parts.blobs.upload(visit.repository, upload_id)
    except UploadUnknown:
        return await visit.parts.blobs.begin(visit.repository, upload_id)


async def _mounted(visit: Visit, digest: str, source: str | None) -> bool:
    target = visit.repository
    if source is None or not valid_digest(digest):
        return False
    if not visit.parts.settings.mounts_blobs(target.account, target.region):
        return False
    found = locate(visit.request.headers.get("Host", ""), source)
    if not _may_mount(visit, found) or (visit.token.replicates and found.account != target.account):
        return False
    return await visit.parts.blobs.mount(found, visit.repository, digest)


def _may_mount(visit: Visit, source: RepositoryId) -> bool:
    if not valid_repository(source.name) or not visit.token.may_reach(source, write=False):
        return False
    try:
        if visit.token.replicates:
            visit.parts.replicas.require(visit.token.account, source)
        else:
            visit.parts.access.require(visit.token, "ecr:GetDownloadUrlForLayer", source, dict)
    except AccessDenied:
        return False
    return visit.parts.repositories.find(source) is not None


async def _upload(visit: Visit) -> Upload:
    if not valid_upload(visit.reference):
        raise UploadUnknown(visit.reference)
    return await visit.parts.blobs.upload(visit.repository, visit.reference)


def _start(visit: Visit) -> int | None:
    try:
        return chunk_start(visit.request.headers.get("Content-Range"), visit.request.content_length)
    except ValueError as error:
        raise OciError("RANGE_INVALID", str(error)) from None


async def _receive(visit: Visit, upload: Upload, start: int | None) -> None:
    try:
        with visit.parts.arrivals.of(upload.id):
            await upload.append(_chunks(visit.request), start)
    except (ClientPayloadError, ConnectionError) as error:
        raise OciError("SIZE_INVALID", "the content broke off; the upload can be gone on with") from error


async def _chunks(request: web.Request) -> AsyncIterator[bytes]:
    """What comes; where the connection breaks, also what came before that and was not read yet: aiohttp has no public
    way to it, and half a mebibyte would be sent again."""
    content = request.content
    try:
        async for chunk in content.iter_any():
            yield chunk
    except (ClientPayloadError, ConnectionError):
        if content._buffer:
            yield content._read_nowait(-1)
        raise


def _location(visit: Visit, upload: Upload) -> str:
    return f"/v2/{quote(visit.name)}/blobs/uploads/{upload.id}"


def _accepted(visit: Visit, upload: Upload) -> web.Response:
    return visit.answer(
        202, location=_location(visit, upload), range=shown_range(upload.size), docker_upload_uuid=upload.id
    )


def _created(visit: Visit, digest: str) -> web.Response:
    return visit.answer(201, location=f"/v2/{quote(visit.name)}/blobs/{digest}", docker_content_digest=digest)
