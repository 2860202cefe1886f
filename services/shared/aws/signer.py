"""Signature version 4 from the other side: requests to others are signed, in headers or in the query string.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html. What is signed must be what
is sent: `path` is encoded by the caller (twice for every service but S3, which takes it encoded once), and the query
comes from `canonical`.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from hashlib import sha256
from time import gmtime, strftime
from urllib.parse import quote

import msgspec

from services.shared.aws.sigv4 import ALGORITHM, UNSIGNED, signing_key

EMPTY_HASH = sha256(b"").hexdigest()


class Credentials(msgspec.Struct, frozen=True):
    """Keys to sign with. What is shown of them is the id alone."""

    access_key_id: str
    secret: str
    session_token: str = ""

    def __repr__(self) -> str:
        return f"Credentials({self.access_key_id!r})"


def canonical(query: Mapping[str, str]) -> str:
    """A query string in the one form that is signed: send it as it is."""
    pairs = sorted((_encoded(name), _encoded(value)) for name, value in query.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


def signed_headers(
    credentials: Credentials,
    service: str,
    region: str,
    now: float,
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    payload: str,
) -> dict[str, str]:
    """The headers with date, token and Authorization added. All that are given are signed (Host must be among them).
    `payload` is the SHA-256 of the body in hex, or UNSIGNED; `now` in seconds since the epoch."""
    stamp = strftime("%Y%m%dT%H%M%SZ", gmtime(now))
    whole = {**headers, "X-Amz-Date": stamp}
    if credentials.session_token:
        whole["X-Amz-Security-Token"] = credentials.session_token
    lowered = sorted((name.lower(), " ".join(value.split())) for name, value in whole.items())
    names = ";".join(name for name, _ in lowered)
    lines = "".join(f"{name}:{value}\n" for name, value in lowered)
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    signature = _signature(credentials.secret, scope, stamp, f"{method}\n{path}\n{query}\n{lines}\n{names}\n{payload}")
    whole["Authorization"] = (
        f"{ALGORITHM} Credential={credentials.access_key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return whole


def presigned_query(
    credentials: Credentials,
    service: str,
    region: str,
    now: float,
    method: str,
    host: str,
    path: str,
    query: Mapping[str, str],
    expires: int,
) -> str:
    """A query string that lets whoever has it send this request for so many seconds, whatever its body."""
    stamp = strftime("%Y%m%dT%H%M%SZ", gmtime(now))
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    whole = {
        **query,
        "X-Amz-Algorithm": ALGORITHM,
        "X-Amz-Credential": f"{credentials.access_key_id}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(expires),
        "X-Amz-SignedHeaders": "host",
    }
    if credentials.session_token:
        whole["X-Amz-Security-Token"] = credentials.session_token
    text = canonical(whole)
    signature = _signature(
        credentials.secret, scope, stamp, f"{method}\n{path}\n{text}\nhost:{host}\n\nhost\n{UNSIGNED}"
    )
    return f"{text}&X-Amz-Signature={signature}"


def _signature(secret: str, scope: str, stamp: str, request: str) -> str:
    digest = sha256(request.encode()).hexdigest()
    date, region, service, _ = scope.split("/")
    text = f"{ALGORITHM}\n{stamp}\n{scope}\n{digest}"
    return hmac.digest(signing_key(secret, date, region, service), text.encode(), "sha256").hex()


def _encoded(text: str) -> str:
    return quote(text, safe="-_.~")
