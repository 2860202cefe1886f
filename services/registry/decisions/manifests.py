"""What a manifest says: read once, when it is pushed. https://github.com/opencontainers/image-spec"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from contracts.records.registry import Descriptor
from services.registry.decisions.names import valid_digest

MAX_MANIFEST = 4 * 1024 * 1024
MAX_NAMED = 4200
"""How many layers an image may have, and manifests an index: ECR's quota for layers."""

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
ARTIFACT_MANIFEST = "application/vnd.oci.artifact.manifest.v1+json"

INDEXES = frozenset({OCI_INDEX, DOCKER_INDEX})
# RFC 6838, section 4.2.
_MEDIA_TYPE = re.compile(r"[a-zA-Z0-9][\w!#$&^.+-]{0,126}/[a-zA-Z0-9][\w!#$&^.+-]{0,126}\Z", re.ASCII)
_KNOWN = frozenset({OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX, ARTIFACT_MANIFEST})


class ManifestInvalid(ValueError):
    """The manifest can't be taken; the message says why."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest that was read. `blobs` are config and layers."""

    media_type: str
    config: Descriptor | None = None
    layers: list[Descriptor] = []
    manifests: list[Descriptor] = []
    subject: str | None = None
    artifact_type: str | None = None
    annotations: dict[str, str] = {}

    @property
    def blobs(self) -> list[Descriptor]:
        """What must be in the repository as blobs: all but layers that lie elsewhere."""
        named = [*([self.config] if self.config else []), *self.layers]
        return [descriptor for descriptor in named if not descriptor.external]

    @property
    def size(self) -> int:
        """The bytes of config and layers, each digest once."""
        return sum({d.digest: d.size for d in self.blobs}.values())


class _Wire(msgspec.Struct, rename="camel"):
    """A descriptor on the wire."""

    digest: str
    size: int
    media_type: str = ""
    urls: list[str] | None = None


class _WireManifest(msgspec.Struct, rename="camel"):
    """The members of every kind of manifest that the registry looks at."""

    schema_version: int | None = None
    media_type: str | None = None
    config: _Wire | None = None
    layers: list[_Wire] | None = None
    blobs: list[_Wire] | None = None
    manifests: list[_Wire] | None = None
    subject: _Wire | None = None
    artifact_type: str | None = None
    annotations: dict[str, str] | None = None


_decoder = msgspec.json.Decoder(_WireManifest)


def read_manifest(data: bytes, content_type: str = "") -> Manifest:
    """Read a manifest as it was pushed, with the Content-Type it came with. Raises ManifestInvalid."""
    try:
        wire = _decoder.decode(data.decode())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestInvalid(f"the manifest can't be read: {error}") from None
    for member in ("layers", "blobs", "manifests"):
        if len(getattr(wire, member) or ()) > MAX_NAMED:
            raise ManifestInvalid(f"the manifest names more than {MAX_NAMED} {member}")
    media_type = _media_type(wire, content_type.partition(";")[0].strip())
    if media_type in INDEXES:
        if wire.manifests is None:
            raise ManifestInvalid("an index must have manifests")
    elif media_type in (OCI_MANIFEST, DOCKER_MANIFEST) and (wire.config is None or wire.layers is None):
        raise ManifestInvalid("an image manifest must have config and layers")
    config = _descriptor("config", wire.config) if wire.config else None
    return Manifest(
        media_type=media_type,
        config=config,
        layers=_descriptors("layers", [*(wire.layers or []), *(wire.blobs or [])]),
        manifests=_descriptors("manifests", wire.manifests or []),
        subject=_descriptor("subject", wire.subject).digest if wire.subject else None,
        artifact_type=wire.artifact_type,
        annotations=wire.annotations or {},
    )


def _media_type(wire: _WireManifest, content_type: str) -> str:
    if wire.schema_version not in (2, None):
        raise ManifestInvalid(f"schema version {wire.schema_version} is not supported")
    if wire.media_type and content_type and wire.media_type != content_type:
        raise ManifestInvalid(f"the manifest says it is {wire.media_type!r} and came as {content_type!r}")
    told = wire.media_type or content_type
    if not told:
        told = OCI_INDEX if wire.manifests is not None else OCI_MANIFEST
    if _MEDIA_TYPE.match(told) is None:
        raise ManifestInvalid(f"{told!r} is not a media type")
    if told not in _KNOWN and not wire.artifact_type:
        raise ManifestInvalid(f"the media type {told!r} is not known and the manifest has no artifactType")
    if told in (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX) and wire.schema_version != 2:
        raise ManifestInvalid("schemaVersion must be 2")
    return told


def _descriptors(member: str, wires: list[_Wire]) -> list[Descriptor]:
    return [_descriptor(f"{member}[{i}]", wire) for i, wire in enumerate(wires)]


def _descriptor(member: str, wire: _Wire) -> Descriptor:
    if not valid_digest(wire.digest):
        raise ManifestInvalid(f"{member}.digest is not a SHA-256 digest")
    if wire.size < 0:
        raise ManifestInvalid(f"{member}.size is negative")
    return Descriptor(digest=wire.digest, size=wire.size, media_type=wire.media_type, external=bool(wire.urls))


def referrer(image: Any) -> dict[str, Any]:
    """An image as the referrers API lists it. The artifact type of an image without one is its config's type."""
    found = {"mediaType": image.media_type, "size": image.manifest_size, "digest": image.digest}
    artifact_type = artifact_type_of(image)
    if artifact_type:
        found["artifactType"] = artifact_type
    if image.annotations:
        found["annotations"] = image.annotations
    return found


def artifact_type_of(image: Any) -> str | None:
    """The artifact type of an image record, or of its config where it has none of its own."""
    if image.artifact_type:
        return str(image.artifact_type)
    return image.config.media_type if image.config is not None and image.config.media_type else None
