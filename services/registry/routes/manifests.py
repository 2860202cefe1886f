"""Manifests, tags and referrers."""

from __future__ import annotations

from urllib.parse import quote, urlencode

import msgspec
from aiohttp import web

from contracts.records.registry import Image, Signing
from services.registry.decisions.manifests import MAX_MANIFEST, OCI_INDEX, referrer
from services.registry.decisions.names import valid_digest, valid_tag
from services.registry.decisions.pages import query_int, tags_after
from services.registry.handlers.pull_through import HELD, Answer
from services.registry.routes.errors import OciError
from services.registry.routes.visit import Visit, checked_digest, limited_body

_STALE = '111 - "Revalidation Failed"'  # RFC 7234, 5.5.4


async def get_manifest(visit: Visit) -> web.StreamResponse:
    """The manifest, as it was pushed."""
    brought = await _brought(visit)
    if brought.coming is not None:
        coming = brought.coming
        return visit.answer(200, coming.data, content_type=coming.media_type, docker_content_digest=coming.digest)
    image = _image(visit)
    data = await visit.parts.images.manifest(visit.repository, image.digest)
    if not visit.token.quiet:
        visit.parts.images.pulls.pulled(image, visit.token.principal)
    return visit.answer(
        200,
        data,
        content_type=image.media_type,
        docker_content_digest=image.digest,
        warning=_STALE if brought.stale else None,
    )


async def head_manifest(visit: Visit) -> web.StreamResponse:
    """Its digest, type and size."""
    brought = await _brought(visit)
    if brought.coming is not None:
        coming = brought.coming
        return visit.answer(
            200,
            content_type=coming.media_type,
            content_length=str(len(coming.data)),
            docker_content_digest=coming.digest,
        )
    image = _image(visit)
    return visit.answer(
        200,
        content_type=image.media_type,
        content_length=str(image.manifest_size),
        docker_content_digest=image.digest,
        warning=_STALE if brought.stale else None,
    )


async def put_manifest(visit: Visit) -> web.StreamResponse:
    """Take a manifest in, under a tag or by its digest."""
    reference = _reference(visit)
    data = await limited_body(visit.request, MAX_MANIFEST)
    by_digest = ":" in reference
    image = await visit.parts.images.push(
        visit.repository,
        data,
        visit.request.headers.get("Content-Type", ""),
        tag=None if by_digest else reference,
        digest=reference if by_digest else None,
        replica=visit.token.replicates,
        signings=_signings(visit),
        attached_to=visit.token.attaches,
    )
    return visit.answer(
        201,
        location=f"/v2/{quote(visit.name)}/manifests/{image.digest}",
        docker_content_digest=image.digest,
        oci_subject=image.subject,
    )


def _signings(visit: Visit) -> list[Signing]:
    """What it is to be signed with here: a replica is not, it brings its signatures along."""
    if visit.token.replicates:
        return []
    return visit.parts.signing.wanted(visit.repository, visit.asker(), visit.keys)


async def delete_manifest(visit: Visit) -> web.StreamResponse:
    """Delete an image by its digest, with all its tags; or one tag, and nothing but the tag."""
    reference = _reference(visit)
    images = visit.parts.images
    if visit.token.attaches:
        image = images.find(visit.repository, reference)
        if image is not None and not (image.attached and image.subject == visit.token.attaches):
            raise OciError("DENIED", "this token is for what was attached to one image")
    if visit.token.replicates:
        return await _delete_replica(visit, reference)
    if ":" in reference:
        found = await images.delete(visit.repository, reference) is not None
    else:
        found = await images.untag(visit.repository, reference, last_takes_image=False) is not None
    if not found:
        raise _unknown(visit)
    return visit.answer(202)


async def _delete_replica(visit: Visit, reference: str) -> web.StreamResponse:
    """Another installation deletes what it brought: an image, or a tag (of the image with the `digest`)."""
    tag = "" if ":" in reference else reference
    digest = checked_digest(visit.request.query.get("digest", "")) if tag else reference
    if not await visit.parts.images.remove_replica(visit.repository, digest, tag):
        raise _unknown(visit)
    return visit.answer(202)


async def list_tags(visit: Visit) -> web.StreamResponse:
    """The tags, in order, in pages if so asked."""
    query = visit.request.query
    try:
        count = query_int(query.get("n"))
    except ValueError as error:
        raise OciError("UNSUPPORTED", str(error), status=400) from None
    tags = [tag for tags in visit.parts.images.tags(visit.repository).values() for tag in tags]
    taken, more = tags_after(tags, query.get("last"), count)
    link = None
    if more:
        following = urlencode({"last": taken[-1], "n": count})
        link = f'</v2/{quote(visit.name)}/tags/list?{following}>; rel="next"'
    body = msgspec.json.encode({"name": visit.name, "tags": taken})
    return visit.answer(200, body, content_type="application/json", link=link)


async def list_referrers(visit: Visit) -> web.StreamResponse:
    """The images that refer to one, as an index; whether there is such an image or not."""
    found = [referrer(image) for image in visit.parts.images.referrers(visit.repository, visit.digest())]
    wanted = visit.request.query.get("artifactType")
    if wanted:
        found = [each for each in found if each.get("artifactType") == wanted]
    body = msgspec.json.encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found})
    return visit.answer(200, body, content_type=OCI_INDEX, oci_filters_applied="artifactType" if wanted else None)


async def _brought(visit: Visit) -> Answer:
    """What a pull-through cache has to say first; HELD for all other repositories."""
    parts, repository = visit.parts, visit.repository
    if not parts.pull_through.covers(repository):
        return HELD

    def allow() -> None:
        parts.access.require_import(visit.token, repository, visit.keys)

    return await parts.pull_through.image(repository, _reference(visit), allow)


def _reference(visit: Visit) -> str:
    reference = visit.reference
    if ":" in reference:
        if not valid_digest(reference):
            raise OciError("DIGEST_INVALID", f"{reference!r} is not a SHA-256 digest")
    elif not valid_tag(reference):
        raise OciError("TAG_INVALID", f"{reference!r} is not a tag")
    return reference


def _image(visit: Visit) -> Image:
    image = visit.parts.images.find(visit.repository, _reference(visit))
    if image is None:
        raise _unknown(visit)
    if image.archived:
        raise OciError("MANIFEST_UNKNOWN", f"{visit.reference} is archived: activate it to pull it")
    return image


def _unknown(visit: Visit) -> OciError:
    return OciError("MANIFEST_UNKNOWN", f"Requested image not found: {visit.reference}")
