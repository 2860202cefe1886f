"""A document about an image, as the registry keeps it beside the image: a manifest that refers to it.

https://github.com/opencontainers/image-spec/blob/main/manifest.md#guidelines-for-artifact-usage
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import msgspec

from contracts.records.registry import Image

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
EMPTY = b"{}"
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"


def digest_of(data: bytes) -> str:
    """`sha256:<hex>`."""
    return "sha256:" + sha256(data).hexdigest()


def manifest(image: Image, media_type: str, document: bytes, created: str) -> bytes:
    """The manifest; the same for the same document. `created` is RFC 3339."""
    return msgspec.json.encode(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": media_type,
            "config": _descriptor(_EMPTY_TYPE, EMPTY),
            "layers": [_descriptor(media_type, document)],
            "subject": {"mediaType": image.media_type, "digest": image.digest, "size": image.manifest_size},
            "annotations": {"org.opencontainers.image.created": created},
        }
    )


def _descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}
