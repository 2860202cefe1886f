"""Where the objects of the blob store lie, and what follows from it.

    data/<id>                            bytes, written once, by one upload, and never again
    content/<hex>/<id>                   empty: data/<id> has this digest, for whoever pushes the same
    repositories/<account>/<region>/<name>/blobs/<hex>        this repository has it: {"data": id, "size": bytes}
    repositories/<account>/<region>/<name>/manifests/<hex>    the same, for manifests
    registry                             who collects: the registry that was started last
    content-key-id                       which key content is sealed with, that is not for a key of KMS

A repository has a blob if and only if the link is there, and the link is written last: what broke off before it is
seen by nobody. Bytes lie under an id and not under their digest because the digest is known only when all of them
are there, and S3 can't rename; because nothing that is deleted is ever written again, a request to delete it that
comes late harms nobody.

What no link names is old and goes. S3 counts no links, so the collection lists, and this order keeps it honest:

- whoever links content does so with its digest locked, and notes it; the collection locks the digest of each
  candidate, and leaves it when it was noted since the listings began;
- the entry in `content` is deleted first, and the data when that is answered. So nobody finds content that is about
  to go, not even in a process that takes over from one that died in between;
- data that has no entry is deleted only when no link, read one by one, names it; when one does, it gets its entry
  again.

A link alone is written again under its own key. A request to remove one that a registry sent as it died, and that is
carried out after its successor wrote the link again, takes it: the blob is to be pushed once more.

No condition of a request (`If-None-Match`) is needed for any of it: one registry process has a prefix at a time. One
that was started later, by mistake or to replace this one, is seen in `registry`, and only that one collects.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import msgspec
import structlog

from services.registry.adapters.files import hex_of, place_of
from services.registry.decisions.names import RepositoryId
from services.registry.ports import Shelf, StorageAway, StorageFull
from services.shared.s3 import S3Denied, S3Error, S3Full

log = structlog.get_logger()


class Link(msgspec.Struct, frozen=True):
    """What a link says: where the bytes are, and how many."""

    data: str
    size: int


class Keys:
    """The keys under one prefix, which is empty or ends with a slash."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.owner = f"{self.prefix}registry"
        self.key_id = f"{self.prefix}content-key-id"
        self.all_data = f"{self.prefix}data/"
        self.all_content = f"{self.prefix}content/"
        self.all_links = f"{self.prefix}repositories/"

    def data(self, data_id: str) -> str:
        """The bytes."""
        return f"{self.all_data}{data_id}"

    def copies(self, digest: str) -> str:
        """What the entries of a digest begin with."""
        return f"{self.all_content}{hex_of(digest)}/"

    def entry(self, digest: str, data_id: str) -> str:
        """That these data have this digest."""
        return f"{self.copies(digest)}{data_id}"

    def repository(self, repository: RepositoryId) -> str:
        """What all links of a repository begin with."""
        return f"{self.all_links}{'/'.join(place_of(repository))}/"

    def link(self, repository: RepositoryId, digest: str, shelf: Shelf) -> str:
        """That a repository has it."""
        return f"{self.repository(repository)}{shelf}/{hex_of(digest)}"


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Turn what S3 says into what the port says; the log has the details, which are the operator's."""
    try:
        yield
    except S3Full as error:
        log.error("registry.storage_full", error=str(error))
        raise StorageFull(str(error)) from error
    except S3Denied as error:
        log.error("registry.storage_denied", error=str(error))
        raise StorageAway("The registry may not use its storage: its operator has to look at the log") from error
    except S3Error as error:
        log.warning("registry.storage_failed", error=str(error))
        raise StorageAway("The registry's storage can't be reached; try again") from error
