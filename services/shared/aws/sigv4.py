"""Signature version 4: who signed a request, and that nothing signed has changed since.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html. Header and presigned (query string) forms, the
rules of every service but S3: the path is encoded twice, the payload's hash is that of the body. A payload may be
unsigned only where the authenticator was told so.
"""

from __future__ import annotations

import calendar
import hmac
import re
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from functools import lru_cache
from hashlib import sha256
from time import gmtime, strftime
from urllib.parse import quote, unquote_to_bytes

import msgspec

from services.shared.aws.context import Identity
from services.shared.aws.http import AwsHttpRequest
from services.shared.aws.ports import AccessKey, KeyLookup
from services.shared.errors import AuthenticationFailure

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"
MAX_SKEW = 300.0
MAX_EXPIRY = 604_800

_HEADER = re.compile(
    rf"{ALGORITHM}\s+Credential=([^,\s]+)\s*,\s*SignedHeaders=([^,\s]+)\s*,\s*Signature=([0-9a-f]+)\s*\Z"
)
_TIME = re.compile(r"\d{8}T\d{6}Z\Z")
_EXPIRES = re.compile(r"[0-9]{1,6}\Z")
_REGION = re.compile(r"[a-z0-9]{1,20}(-[a-z0-9]{1,20}){0,5}\Z")
_EMPTY_HASH = sha256(b"").hexdigest()
#: A header that changes what a request means must be signed when it is there.
_MUST_SIGN = ("x-amz-target", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256")
_PRESIGNED = tuple(
    f"X-Amz-{name}" for name in ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature")
)
_INVALID_TOKEN = "The security token included in the request is invalid."
_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access "
    "Key and signing method. Consult the service documentation for details."
)


class Scope(msgspec.Struct, frozen=True):
    """A credential and its scope, as text: `date/region/service/aws4_request` is `text`."""

    access_key_id: str
    date: str
    region: str
    service: str
    text: str


class Claim(msgspec.Struct, frozen=True):
    """What a request says of its own signature. `expires` is the life of a presigned one in seconds, else None."""

    scope: Scope
    headers: tuple[str, ...]
    signature: str
    timestamp: str
    token: str | None
    query: str
    expires: float | None = None


class SigV4Authenticator:
    """Verifies signatures against the keys of a KeyLookup. `clock` gives seconds since the epoch."""

    def __init__(self, keys: KeyLookup, clock: Callable[[], float], *, allow_unsigned_payload: bool = False) -> None:
        self._keys = keys
        self._clock = clock
        self._allow_unsigned_payload = allow_unsigned_payload

    def authenticate(self, request: AwsHttpRequest) -> Identity:
        """Who signed the request. Raises AuthenticationFailure."""
        claim = read_claim(request)
        key = self._keys.find(claim.scope.access_key_id)
        if key is None:
            raise AuthenticationFailure("unknown-key", _INVALID_TOKEN)
        now = self._clock()
        _check_token(key, claim.token, now)
        _check_time(claim, now)
        payload = self._payload_hash(request, claim)
        expected = _signature(request, claim, key.secret, payload)
        if not hmac.compare_digest(expected.encode(), claim.signature.encode("utf-8", "replace")):
            raise AuthenticationFailure("mismatch", _MISMATCH)
        scope = claim.scope
        return Identity(
            key.account,
            key.principal_arn,
            key.user_id,
            key.access_key_id,
            key.session_token is not None,
            scope.region,
            scope.service,
        )

    def _payload_hash(self, request: AwsHttpRequest, claim: Claim) -> str:
        said = request.headers.get("X-Amz-Content-Sha256")
        if said == UNSIGNED and self._allow_unsigned_payload:
            return UNSIGNED
        actual = sha256(request.body).hexdigest() if request.body else _EMPTY_HASH
        if said is not None and said != actual:
            raise AuthenticationFailure(
                "mismatch", "The value of x-amz-content-sha256 is not the SHA-256 of the request's body."
            )
        return actual


def read_claim(request: AwsHttpRequest) -> Claim:
    """The signature a request carries, unverified. Raises AuthenticationFailure (missing, incomplete)."""
    authorization = request.headers.get("Authorization")
    if authorization is not None:
        claim = _header_claim(request, authorization)
    elif "X-Amz-Signature=" in request.query:
        claim = _query_claim(request)
    else:
        raise AuthenticationFailure("missing", "Missing Authentication Token")
    if "host" not in claim.headers:
        raise AuthenticationFailure(
            "incomplete", "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."
        )
    for name in _MUST_SIGN:
        if name in request.headers and name not in claim.headers:
            raise AuthenticationFailure("incomplete", f"'{name}' must be a 'SignedHeader' in the AWS Authorization.")
    return claim


def _header_claim(request: AwsHttpRequest, authorization: str) -> Claim:
    found = _HEADER.match(authorization)
    if found is None:
        raise AuthenticationFailure(
            "incomplete",
            "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' parameters, "
            f"and the algorithm {ALGORITHM}.",
        )
    headers = request.headers
    timestamp = headers.get("X-Amz-Date") or _from_date_header(headers.get("Date", ""))
    return Claim(
        _scope(found[1]),
        _signed_names(found[2]),
        found[3],
        timestamp,
        headers.get("X-Amz-Security-Token"),
        canonical_query(request.query) if request.query else "",
    )


def _query_claim(request: AwsHttpRequest) -> Claim:
    fields = {
        name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, value in _pairs(request.query)
    }
    absent = [name for name in _PRESIGNED if not fields.get(name)]
    if absent:
        raise AuthenticationFailure("incomplete", f"AWS query-string parameters must include {', '.join(absent)}.")
    expires = fields["X-Amz-Expires"]
    if fields["X-Amz-Algorithm"] != ALGORITHM or not _EXPIRES.match(expires) or not 1 <= int(expires) <= MAX_EXPIRY:
        raise AuthenticationFailure("incomplete", f"X-Amz-Algorithm must be {ALGORITHM}, X-Amz-Expires 1 to 604800.")
    return Claim(
        _scope(fields["X-Amz-Credential"]),
        _signed_names(fields["X-Amz-SignedHeaders"]),
        fields["X-Amz-Signature"],
        fields["X-Amz-Date"],
        fields.get("X-Amz-Security-Token"),
        canonical_query(request.query),
        float(expires),
    )


@lru_cache(maxsize=1024)
def _scope(credential: str) -> Scope:
    parts = credential.rsplit("/", 4)
    if len(parts) != 5 or parts[4] != "aws4_request" or not all(parts):
        raise AuthenticationFailure(
            "incomplete", "Credential must have the form key/YYYYMMDD/region/service/aws4_request."
        )
    if not _REGION.match(parts[2]):
        raise AuthenticationFailure("wrong-scope", "Credential should be scoped to a valid region.")
    return Scope(*parts[:4], "/".join(parts[1:]))


@lru_cache(maxsize=256)
def _signed_names(text: str) -> tuple[str, ...]:
    return tuple(sorted(text.lower().split(";")))


def _from_date_header(text: str) -> str:
    if _TIME.match(text):
        return text
    try:
        return parsedate_to_datetime(text).strftime("%Y%m%dT%H%M%SZ")
    except (ValueError, TypeError, OverflowError):
        raise AuthenticationFailure(
            "incomplete", "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
        ) from None


@lru_cache(maxsize=256)
def _seconds(timestamp: str) -> int:
    if not _TIME.match(timestamp):
        raise AuthenticationFailure("incomplete", "Date must be in ISO-8601 'basic format'.")
    try:
        numbers = [int(timestamp[start:end]) for start, end in ((0, 4), (4, 6), (6, 8), (9, 11), (11, 13), (13, 15))]
        return calendar.timegm((*numbers, 0, 0, 0))
    except ValueError:
        raise AuthenticationFailure("incomplete", "Date must be in ISO-8601 'basic format'.") from None


def _check_time(claim: Claim, now: float) -> None:
    signed_at = _seconds(claim.timestamp)
    if claim.scope.date != claim.timestamp[:8]:
        raise AuthenticationFailure(
            "mismatch", f"Date in Credential scope does not match YYYYMMDD from '{claim.timestamp}'."
        )
    if signed_at - now > MAX_SKEW:
        raise AuthenticationFailure(
            "expired",
            f"Signature not yet current: {claim.timestamp} is still later than {_stamp(now + MAX_SKEW)} "
            f"({_stamp(now)} + 5 min.)",
        )
    if claim.expires is not None:
        if now - signed_at > claim.expires:
            raise AuthenticationFailure("expired-request", "Request has expired.")
    elif now - signed_at > MAX_SKEW:
        raise AuthenticationFailure(
            "expired",
            f"Signature expired: {claim.timestamp} is now earlier than {_stamp(now - MAX_SKEW)} "
            f"({_stamp(now)} - 5 min.)",
        )


def _stamp(seconds: float) -> str:
    return strftime("%Y%m%dT%H%M%SZ", gmtime(seconds))


def _check_token(key: AccessKey, token: str | None, now: float) -> None:
    if not hmac.compare_digest((key.session_token or "").encode(), (token or "").encode("utf-8", "replace")):
        raise AuthenticationFailure("bad-token", _INVALID_TOKEN)
    if key.expires_at is not None and key.expires_at <= now:
        raise AuthenticationFailure("expired-token", "The security token included in the request is expired")


def _signature(request: AwsHttpRequest, claim: Claim, secret: str, payload: str) -> str:
    names = claim.headers
    canonical = (
        f"{request.method}\n{canonical_path(request.path)}\n{claim.query}\n"
        f"{_canonical_headers(request, names)}\n{';'.join(names)}\n{payload}"
    )
    digest = sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest()
    scope = claim.scope
    text = f"{ALGORITHM}\n{claim.timestamp}\n{scope.text}\n{digest}".encode("utf-8", "replace")
    key = signing_key(secret, scope.date, scope.region, scope.service)
    return hmac.digest(key, text, "sha256").hex()


@lru_cache(maxsize=4096)
def signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    """The key of a day, region and service, derived from the secret."""
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode("utf-8", "replace"), "sha256")
    return key


def _canonical_headers(request: AwsHttpRequest, names: tuple[str, ...]) -> str:
    lines = []
    headers = request.headers
    for name in names:
        values = headers.getall(name, ())
        if not values:
            raise AuthenticationFailure("mismatch", _MISMATCH)
        value = values[0] if len(values) == 1 else ",".join(one.strip() for one in values)
        lines.append(f"{name}:{' '.join(value.split())}\n")
    return "".join(lines)


def canonical_path(path: str) -> str:
    """A raw path without dot segments, encoded once more."""
    if path == "/" or not path:
        return "/"
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment and segment != ".":
            kept.append(segment)
    tail = "/" if path.endswith("/") and kept else ""
    return quote("/" + "/".join(kept) + tail, safe="/~", encoding="utf-8", errors="surrogateescape")


def canonical_query(query: str) -> str:
    """A raw query string decoded, encoded in one way, and sorted; without the signature itself."""
    pairs = [(quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in _pairs(query)]
    return "&".join(f"{name}={value}" for name, value in sorted(pairs) if name != "X-Amz-Signature")


def _pairs(query: str) -> list[tuple[bytes, bytes]]:
    split = (part.partition(b"=") for part in query.encode("utf-8", "surrogateescape").split(b"&") if part)
    return [(unquote_to_bytes(name), unquote_to_bytes(value)) for name, _, value in split]
