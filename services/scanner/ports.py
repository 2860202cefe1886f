"""What the scanner needs from outside, and how that fails."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol


class ScanFailed(Exception):
    """The image can't be scanned; the message tells why, and trying again would not help."""


class ImageUnsupported(ScanFailed):
    """It is of a kind that is not read here."""


class ImageGone(Exception):
    """The registry does not have it any more."""


class NotNow(Exception):
    """Something that is needed is away: the scan is to be tried again."""


class WorkerFailed(Exception):
    """A worker process ended without an answer."""


class Refused(Exception):
    """The registry does not take what is put; the message says why. Trying again would not help."""


class Attachments(Protocol):
    """What the registry keeps beside one image: manifests that refer to it."""

    async def put(self, manifest: bytes, blobs: Mapping[str, bytes]) -> None:
        """Put a manifest, and the blobs that it names, by digest; nothing changes where they are there already. Raises
        ImageGone, NotNow, Refused."""
        ...

    async def remove(self, digest: str) -> None:
        """Take a manifest away; nothing happens where there is none. Raises NotNow, Refused."""
        ...


class Layers(Protocol):
    """The layers of one image, as they are stored."""

    def read(self, digest: str) -> AsyncIterator[bytes]:
        """The bytes of a layer. Raises ImageGone, NotNow."""
        ...
