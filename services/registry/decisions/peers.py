"""Other installations: what an operator says of one, where its registries are, and what was answered by it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec

from contracts.records.registry import Image, ImageReplication, Peer, Place
from services.registry.decisions.names import RepositoryId, valid_region

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
MAX_CA = 256 * 1024
ECR_CODE = "x-amzn-ErrorType"
"""The header with ECR's code, where an error has one: what is told of a replication that failed."""

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,62}[a-z0-9])?\Z")
_ACCOUNT = re.compile(r"\d{12}\Z")
_UNKNOWN = frozenset(
    {"MANIFEST_UNKNOWN", "BLOB_UNKNOWN", "NAME_UNKNOWN", "ImageNotFoundException", "RepositoryNotFoundException"}
)
_UPLOADS = uuid.UUID("5b0c1b6e-9d0f-4c0e-9a53-6f2c7a1c9f10")


class NewPeer(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """An installation to send images to, as an operator tells of it. `destinations` are `ACCOUNT/REGION`; `key` is what
    it gave out, `ca` the certificate (PEM) that its own is to be of."""

    url: str
    key: str
    destinations: list[str]
    ca: str = ""


class NewGrant(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The accounts in whose name another installation may come here."""

    accounts: list[str]


class Destination(msgspec.Struct, frozen=True):
    """A repository at another installation, in whose name it is come to (an ARN of IAM), and for what."""

    peer: Peer
    repository: RepositoryId
    principal: str
    purpose: Literal["replicate", "pull"] = "replicate"


class Told(NamedTuple):
    """What is needed of an answer: its status, and the headers Location and Range."""

    status: int
    location: str
    range: str


class Standing(NamedTuple):
    """How it goes with an installation: images that wait, why the last try failed (empty: it did not), and when
    something last went well (0: not since this process began)."""

    waiting: int = 0
    error: str = ""
    reached_at: float = 0.0


class PeerToken(msgspec.Struct, frozen=True):
    """What an installation's key is traded for: a token for its registry, and how many seconds it holds."""

    token: str
    expires_in: float


class _Problem(msgspec.Struct, frozen=True):
    code: str = ""
    message: str = ""


class _Problems(msgspec.Struct, frozen=True):
    errors: list[_Problem] = []
    message: str = ""


class BadPeer(ValueError):
    """It can't be; the message says what is wrong."""


def check_name(name: str) -> str:
    """The name of an installation. Raises BadPeer."""
    if _NAME.match(name) is None:
        raise BadPeer(f"{name!r} is no name: small letters, digits, dots and hyphens, 64 at most")
    return name


def check_accounts(accounts: list[str]) -> list[str]:
    """At least one account. Raises BadPeer."""
    for account in accounts:
        if _ACCOUNT.match(account) is None:
            raise BadPeer(f"{account!r} is no account: twelve digits")
    if not accounts:
        raise BadPeer("name at least one account in whose name it may come")
    return sorted(set(accounts))


def check_peer(name: str, wanted: NewPeer, others: Iterable[Peer]) -> list[Place]:
    """Its destinations. Raises BadPeer, also when another installation has one of them already."""
    check_name(name)
    parts = urlsplit(wanted.url)
    if parts.scheme != "https" or not parts.hostname or parts.path.strip("/") or parts.query:
        raise BadPeer(f"{wanted.url!r} is not https://HOST[:PORT]")
    if not wanted.key.isascii() or not wanted.key.isprintable() or not wanted.key:
        raise BadPeer("its key is missing: `roadstead peers accept` there tells it")
    if len(wanted.ca) > MAX_CA:
        raise BadPeer(f"the CA file has more than {MAX_CA} bytes")
    places = [_place(text) for text in wanted.destinations]
    if not places:
        raise BadPeer("name at least one destination, ACCOUNT/REGION")
    for other in others:
        taken = [each for each in other.destinations if each in places and other.name != name]
        if taken:
            raise BadPeer(f"{taken[0].account}/{taken[0].region} is a destination at {other.name} already")
    return places


def _place(text: str) -> Place:
    account, _, region = text.partition("/")
    if _ACCOUNT.match(account) is None or not valid_region(region):
        raise BadPeer(f"{text!r} is no destination: ACCOUNT/REGION")
    return Place(account, region)


def peer_at(peers: Iterable[Peer], account: str, region: str) -> Peer | None:
    """The installation where this registry is; None: here."""
    place = Place(account, region)
    return next((peer for peer in peers if place in peer.destinations), None)


def upload_of(grant: str, repository: RepositoryId, digest: str) -> str:
    """The id of the one upload that an installation has for a blob in a repository, so that it can go on with it after
    whatever happened to either side."""
    return str(uuid.uuid5(_UPLOADS, f"{grant}\n{repository.arn}\n{digest}"))


def key_digest(key: str) -> str:
    """What is kept of a key that was given out."""
    return sha256(key.encode()).hexdigest()


def sealed_about(name: str) -> str:
    """What the sealed key of an installation is bound to."""
    return f"peer {name}"


def read_problem(body: bytes) -> tuple[str, str]:
    """(OCI's code, the message) of an answer that is an error, each empty when it does not say."""
    try:
        said = msgspec.json.decode(body, type=_Problems)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "", ""
    first = said.errors[0] if said.errors else _Problem(message=said.message)
    return first.code, first.message


def is_unknown(code: str) -> bool:
    """Whether this error says that there is no such thing."""
    return code in _UNKNOWN


def is_lasting(status: int) -> bool:
    """Whether an answer will be the same however often one asks; a full disk (507) and a key that is not taken (401)
    are for an operator to mend."""
    return 400 <= status < 500 and status not in (401, 408, 429)


def offset_of(shown: str) -> int:
    """How many bytes arrived, by the Range of an upload: `0-0` stands for none and for one alike, and is taken for
    none."""
    last = shown.rpartition("-")[2]
    return int(last) + 1 if last.isdigit() and last != "0" else 0


def is_left(image: Image, tags: Mapping[str, float], told: ImageReplication | None) -> bool:
    """Whether there is something to bring: the image, or a tag that names it since later than was told."""
    if told is None or told.pushed_at != image.pushed_at:
        return True
    return any(told.tags.get(tag, -1.0) < since for tag, since in tags.items())


def wait_s(failures: int) -> float:
    """How long to leave alone who failed so often in a row: twice as long each time, a minute at most."""
    return min(FIRST_WAIT_S * 2.0 ** max(failures - 1, 0), LONGEST_WAIT_S)


def mountable(images: Iterable[Image], wanted: set[str], there: set[tuple[str, str]]) -> dict[str, str]:
    """By blob, a repository that has it at the destination too: one of an image (repository and digest) that is
    `there`."""
    found: dict[str, str] = {}
    for image in images:
        blobs = wanted & {each.digest for each in (*image.layers, *filter(None, [image.config]))}
        if blobs - found.keys() and (image.repository, image.digest) in there:
            found |= dict.fromkeys(blobs, image.repository)
    return found
