"""Which profiles sign what is pushed to a repository, and a signature in Notary Project's form.

https://docs.aws.amazon.com/AmazonECR/latest/userguide/managed-signing.html
https://github.com/notaryproject/specifications/blob/main/specs/signature-specification.md
https://github.com/notaryproject/specifications/blob/main/specs/signature-envelope-jws.md
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec

from contracts.records.registry import Image

SIGNATURE = "application/vnd.cncf.notary.signature"
ENVELOPE = "application/jose+json"
CONFIG = b"{}"
AGENT = "roadstead"
MAX_ENVELOPE = 64 * 1024
"""Bytes; one of ours has about 2,000."""
_PAYLOAD = "application/vnd.cncf.notary.payload.v1+json"
_OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_SCHEME = "io.cncf.notary.signingScheme"
_THUMBPRINTS = "io.cncf.notary.x509chain.thumbprint#S256"
_PROFILE = re.compile(r"arn:aws[a-z-]*:signer:([a-z0-9-]+):(\d{12}):/signing-profiles/([a-zA-Z0-9_]{2,})\Z")


class Profile(NamedTuple):
    """A signing profile."""

    account: str
    region: str
    name: str


class Unsigned(NamedTuple):
    """The two parts of a JWS that a signature is of, as they stand in it (RFC 7515, 5.1)."""

    protected: str
    payload: str

    @property
    def signed(self) -> bytes:
        """What the key signs."""
        return f"{self.protected}.{self.payload}".encode()


def parse_profile(arn: str) -> Profile | None:
    """The profile of an ARN; None when it is no profile's."""
    found = _PROFILE.match(arn)
    return Profile(found[2], found[1], found[3]) if found else None


def profiles_for(rules: Iterable[Mapping[str, Any]], repository: str) -> list[str]:
    """The ARNs of the profiles of all rules of which a filter matches the repository's name, or that have none; each
    once."""
    found: dict[str, None] = {}
    for rule in rules:
        filters = rule.get("repositoryFilters") or []
        if not filters or any(_matches(each["filter"], repository) for each in filters):
            found[rule["signingProfileArn"]] = None
    return list(found)


def unsigned(image: Image, now: float) -> Unsigned:
    """What is to be signed: the image's descriptor, and when (epoch seconds)."""
    headers = {
        "alg": "ES384",
        "cty": _PAYLOAD,
        "crit": [_SCHEME],
        _SCHEME: "notary.x509",
        "io.cncf.notary.signingTime": _time(now),
    }
    payload = {"targetArtifact": _subject(image)}
    return Unsigned(_url(msgspec.json.encode(headers)), _url(msgspec.json.encode(payload)))


def envelope(parts: Unsigned, signature: bytes, certificate: bytes) -> bytes:
    """The JWS, with the certificate (DER) that it is verified with."""
    chain = [base64.b64encode(certificate).decode()]
    return msgspec.json.encode(
        {
            "payload": parts.payload,
            "protected": parts.protected,
            "header": {"x5c": chain, "io.cncf.notary.signingAgent": AGENT},
            "signature": _url(signature),
        }
    )


def signature_manifest(image: Image, content: bytes, certificate: bytes, now: float) -> bytes:
    """The manifest by which an envelope is a referrer of the image."""
    return msgspec.json.encode(
        {
            "schemaVersion": 2,
            "mediaType": _OCI_MANIFEST,
            "config": _descriptor(CONFIG, SIGNATURE),
            "layers": [_descriptor(content, ENVELOPE)],
            "subject": _subject(image),
            "annotations": {"org.opencontainers.image.created": _time(now), _THUMBPRINTS: _thumbprints(certificate)},
        }
    )


def candidates(referrers: Iterable[Image], certificate: bytes) -> list[Image]:
    """Those of an image's referrers that say they are signatures with this certificate's key; anybody can say so."""
    return [
        each
        for each in referrers
        if each.config is not None
        and each.config.media_type == SIGNATURE
        and each.annotations.get(_THUMBPRINTS) == _thumbprints(certificate)
        and len(each.layers) == 1
        and each.layers[0].size <= MAX_ENVELOPE
    ]


class _Envelope(msgspec.Struct):
    protected: str
    payload: str
    signature: str


def read_envelope(data: bytes, image: Image) -> tuple[bytes, bytes] | None:
    """(what was signed, the signature) of an envelope about this image; None when it is about another, or is none."""
    try:
        found = msgspec.json.decode(data, type=_Envelope)
        payload = msgspec.json.decode(_from_url(found.payload))
        signature = _from_url(found.signature)
    except (ValueError, UnicodeError):
        return None
    if payload != {"targetArtifact": _subject(image)}:
        return None
    return Unsigned(found.protected, found.payload).signed, signature


def _thumbprints(certificate: bytes) -> str:
    return msgspec.json.encode([sha256(certificate).hexdigest()]).decode()


def _descriptor(data: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": "sha256:" + sha256(data).hexdigest(), "size": len(data)}


def _time(now: float) -> str:
    return datetime.fromtimestamp(int(now), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _subject(image: Image) -> dict[str, Any]:
    return {"mediaType": image.media_type, "digest": image.digest, "size": image.manifest_size}


def _matches(pattern: str, name: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) is not None


def _url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _from_url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
