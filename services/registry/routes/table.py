"""The registry's HTTP as a table, for its OpenAPI document. `distribution.HANDLERS` answers; `handler` is its kind."""

from __future__ import annotations

from typing import Any

import msgspec

from services.registry.routes.peers import ROUTES as PEERS
from services.shared.http import Query, Route

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
BYTES = "application/octet-stream"
_UPLOAD = "/v2/{name}/blobs/uploads/{reference}"
_BLOB, _MANIFEST = "/v2/{name}/blobs/{digest}", "/v2/{name}/manifests/{reference}"
_ALL = {401: "no login, or one that is over", 403: "the login may not do this", 404: "there is no such thing"}
_DIGEST = Query("digest", "the digest of the whole blob")
_PAGE = (Query("n", "at most so many", "integer"), Query("last", "those behind this one"))


class OciProblem(msgspec.Struct, frozen=True):
    """One error, by OCI distribution's code."""

    code: str
    message: str
    detail: dict[str, Any] = {}


class OciProblems(msgspec.Struct, frozen=True):
    """How OCI distribution tells errors."""

    errors: list[OciProblem]


class TagList(msgspec.Struct, frozen=True):
    """The tags of a repository, sorted."""

    name: str
    tags: list[str]


class Base(msgspec.Struct, frozen=True):
    """Nothing: that it is answered says that this is a registry, and that the login is good."""


def _route(
    method: str,
    path: str,
    kind: str,
    response: type | None,
    text: str,
    query: tuple[Query, ...] = (),
    *,
    status: int = 200,
    media: str = "application/json",
    **errors: str,
) -> Route:
    more = {int(code.removeprefix("e")): when for code, when in errors.items()}
    return Route(method, path, kind, response, text, query, {**_ALL, **more}, status, media, OciProblems)


DISTRIBUTION = (
    Route("GET", "/v2/", "base", Base, "Whether the login is good.", (), _ALL, problem=OciProblems),
    _route("HEAD", _BLOB, "blob", None, "Whether a blob is there, and its size.", media=BYTES),
    _route("GET", _BLOB, "blob", None, "A blob, or a range of it.", media=BYTES, e416="no such range"),
    _route("DELETE", _BLOB, "blob", None, "Drop a blob.", status=202, media="", e405="an image needs it"),
    _route(
        "POST",
        "/v2/{name}/blobs/uploads/",
        "uploads",
        None,
        "Begin an upload; whole with `digest`, or take a blob of another repository over with `mount` and `from`.",
        (
            _DIGEST,
            Query("resume", "the digest of the blob: another installation goes on with its upload of it"),
            Query("mount", "the digest to take over"),
            Query("from", "the repository that has it"),
        ),
        status=202,
        media="",
    ),
    _route("PATCH", _UPLOAD, "upload", None, "Go on with an upload.", status=202, media="", e416="not at its end"),
    _route(
        "PUT",
        _UPLOAD,
        "upload",
        None,
        "End an upload: its bytes must have the digest.",
        (_DIGEST,),
        status=201,
        media="",
        e400="they have another digest",
    ),
    _route("GET", _UPLOAD, "upload", None, "How far an upload is (header Range).", status=204, media=""),
    _route("DELETE", _UPLOAD, "upload", None, "Give an upload up.", status=204, media=""),
    _route("HEAD", _MANIFEST, "manifest", None, "Whether a manifest is there, and its digest.", media=MANIFEST),
    _route("GET", _MANIFEST, "manifest", None, "A manifest, by tag or digest.", media=MANIFEST),
    _route(
        "PUT",
        _MANIFEST,
        "manifest",
        None,
        "Put a manifest: what it names must be there.",
        status=201,
        media="",
        e400="it is none, or names what is not there",
    ),
    _route("DELETE", _MANIFEST, "manifest", None, "Delete a tag, or an image.", status=202, media=""),
    _route("GET", "/v2/{name}/tags/list", "tags", TagList, "The tags of a repository.", _PAGE),
    _route(
        "GET",
        "/v2/{name}/referrers/{digest}",
        "referrers",
        None,
        "What refers to an image: signatures, software bills of materials.",
        (Query("artifactType", "only of this type"),),
        media="application/vnd.oci.image.index.v1+json",
    ),
    Route(
        "GET",
        "/layers/{digest}",
        "layer",
        None,
        "A layer, by the URL that GetDownloadUrlForLayer gave out.",
        tuple(Query(name, "as it was given out") for name in ("repository", "expires", "signature")),
        {403: "the URL was not given out here, or is over", 404: "there is no such layer"},
        media=BYTES,
        problem=OciProblems,
    ),
    Route(
        "GET",
        "/signing-profiles/{account}/{region}/{name}",
        "certificate",
        None,
        "The certificate of a signing profile (PEM), to be trusted by who verifies signatures.",
        (),
        {404: "there is no such profile"},
        media="application/x-pem-file",
        problem=OciProblems,
    ),
)
"""What `Distribution` answers."""

ROUTES = (*DISTRIBUTION, *PEERS)
