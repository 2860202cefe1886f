"""Errors as OCI distribution tells them: a code, a status, a body. https://github.com/opencontainers/distribution-spec
("Error Codes"); codes that it does not have are those of Docker's registry."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from services.registry.decisions.manifests import ManifestInvalid
from services.registry.decisions.peers import ECR_CODE
from services.registry.handlers.images import ImageReferenced
from services.registry.ports import (
    ContentDamaged,
    LoginFailed,
    StorageFull,
    UploadTaken,
    UploadUnknown,
    UpstreamFailed,
    WrongDigest,
    WrongOffset,
)
from services.shared.bus import Conflict
from services.shared.errors import AwsError, StateUnavailable

HEADERS = {"Docker-Distribution-Api-Version": "registry/2.0"}

_STATUS = {
    "BLOB_UNKNOWN": 404,
    "BLOB_UPLOAD_INVALID": 400,
    "BLOB_UPLOAD_UNKNOWN": 404,
    "DENIED": 403,
    "DIGEST_INVALID": 400,
    "MANIFEST_BLOB_UNKNOWN": 404,
    "MANIFEST_INVALID": 400,
    "MANIFEST_UNKNOWN": 404,
    "NAME_INVALID": 400,
    "NAME_UNKNOWN": 404,
    "RANGE_INVALID": 416,
    "SIZE_INVALID": 400,
    "STORAGE_FULL": 507,
    "TAG_INVALID": 400,
    "UNAUTHORIZED": 401,
    "UNAVAILABLE": 503,
    "UNKNOWN": 500,
    "UNSUPPORTED": 405,
}

_OF_AWS = {
    "AccessDeniedException": "DENIED",
    "KmsException": "DENIED",
    "ImageDigestDoesNotMatchException": "DIGEST_INVALID",
    "ImageNotFoundException": "MANIFEST_UNKNOWN",
    "ImageTagAlreadyExistsException": "TAG_INVALID",
    "LayersNotFoundException": "MANIFEST_BLOB_UNKNOWN",
    "LimitExceededException": "STORAGE_FULL",
    "ReferencedImagesNotFoundException": "MANIFEST_BLOB_UNKNOWN",
    "RepositoryNotFoundException": "NAME_UNKNOWN",
}


class OciError(Exception):
    """An answer that is an error. `status` replaces the code's own."""

    def __init__(self, code: str, message: str, *, status: int = 0, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status or _STATUS[code]
        self.headers = headers or {}


def as_oci(error: Exception) -> OciError | None:
    """What this exception is to a client of the distribution API; None for a fault of our own."""
    if isinstance(error, OciError):
        return error
    if isinstance(error, StateUnavailable):
        return OciError("UNAVAILABLE", error.message, headers={"Retry-After": "1"})
    if isinstance(error, AwsError):
        return OciError(_OF_AWS.get(error.code, "MANIFEST_INVALID"), error.message, headers={ECR_CODE: error.code})
    if isinstance(error, WrongDigest):
        return OciError("DIGEST_INVALID", f"provided digest did not match uploaded content: {error}")
    if isinstance(error, LoginFailed):  # clients show the message of a 403, and of a 503 none
        return OciError("DENIED", f"the upstream registry: {error}")
    if isinstance(error, UpstreamFailed):
        return OciError("MANIFEST_UNKNOWN" if error.unknown else "UNAVAILABLE", f"the upstream registry: {error}")
    if isinstance(error, WrongOffset):
        return OciError("RANGE_INVALID", str(error), headers={"Range": shown_range(error.size)})
    return next((OciError(code, text or str(error)) for kind, code, text in _OTHERS if isinstance(error, kind)), None)


_OTHERS: tuple[tuple[type[Exception], str, str], ...] = (
    (ManifestInvalid, "MANIFEST_INVALID", ""),
    (UploadUnknown, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry"),
    (UploadTaken, "BLOB_UPLOAD_INVALID", "another request goes on with this upload"),
    (ContentDamaged, "UNKNOWN", ""),
    (FileNotFoundError, "BLOB_UNKNOWN", "blob unknown to registry: it was just taken out"),
    (StorageFull, "STORAGE_FULL", "the registry's disk is full: nothing of this was stored"),
    (ImageReferenced, "DENIED", ""),
    (Conflict, "UNAVAILABLE", "something else changed this at the same time; try again"),
)


def error_response(error: OciError) -> web.Response:
    """The error on the wire."""
    body: dict[str, Any] = {"errors": [{"code": error.code, "message": error.message}]}
    return web.Response(
        status=error.status,
        body=msgspec.json.encode(body),
        headers={**HEADERS, "Content-Type": "application/json", **error.headers},
    )


def shown_range(size: int) -> str:
    """How far an upload is, as its Range header says it: `0-0` stands for nothing and for one byte alike."""
    return f"0-{max(size - 1, 0)}"
