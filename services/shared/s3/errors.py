"""What can go wrong with S3, by what can be done about it.

https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

from __future__ import annotations

from xml.etree import ElementTree

_FULL = frozenset({"InsufficientStorage", "QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"})
_AWAY = frozenset({"InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown", "Throttling", "Busy"})


class S3Error(Exception):
    """A request failed. `code` is S3's, or the HTTP status where it sent none; `status` 0: there was no answer."""

    def __init__(self, message: str, code: str = "", status: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class S3NotFound(S3Error):
    """There is no such bucket, object or multipart upload."""


class S3Denied(S3Error):
    """The keys are wrong, or may not do this."""


class S3Taken(S3Error):
    """A condition did not hold: the object is there already, or is another by now."""


class S3Full(S3Error):
    """The server has no room for it."""


class S3Away(S3Error):
    """The server can't be reached, does not answer in time, or says that it can't just now. It was tried again."""


class S3Refused(S3Error):
    """The server does not take such a request; trying again won't help."""


def error_of(status: int, body: bytes, what: str, fallback: str = "") -> S3Error:
    """The error that an answer stands for. `what` was asked for; `fallback`: a code where the body has none."""
    code, message = _read(body)
    code = code or fallback or str(status)
    return kind_of(status, code)(f"{what}: S3 answered {status} {code}{': ' if message else ''}{message}", code, status)


def kind_of(status: int, code: str) -> type[S3Error]:
    """The type of an error with this HTTP status and code."""
    if status == 507 or code in _FULL:
        return S3Full
    if (status >= 500 and status != 501) or status == 429 or code in _AWAY:
        return S3Away
    if status == 404:
        return S3NotFound
    if status in (401, 403) or code == "AccessDenied":
        return S3Denied
    if status in (409, 412):
        return S3Taken
    return S3Refused


def _read(body: bytes) -> tuple[str, str]:
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError:
        return "", ""
    found = {each.tag.rpartition("}")[2]: each.text or "" for each in root}
    return found.get("Code", ""), found.get("Message", "")
