"""What the registry needs from outside: a place for blobs, other registries, and what runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from contracts.records.registry import Peer, RepositoryKey
from services.registry.decisions.names import RepositoryId
from services.registry.decisions.peers import Destination
from services.registry.decisions.upstream import Login, Source
from services.registry.decisions.uses import Use
from services.shared.errors import AwsError, StateUnavailable

Shelf = Literal["blobs", "manifests"]
"""In a repository blobs and manifests are kept apart: a manifest can't be fetched as a blob."""


Bytes = bytes | bytearray | memoryview
STEP = 1024 * 1024


class StorageFull(Exception):
    """There is no room for what was to be written; nothing of it is left."""


class StorageAway(StateUnavailable):
    """What keeps the content can't be reached, or does not let the registry do this. Nothing that was acknowledged is
    lost, and the same may succeed later (503): what goes on by itself tries again."""


class WrongDigest(Exception):
    """The content has another digest than was said. `actual` is what it has."""

    def __init__(self, actual: str) -> None:
        super().__init__(f"the content's digest is {actual}")
        self.actual = actual


class WrongOffset(Exception):
    """A chunk does not begin where the upload ends. `size` is what the upload has."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the upload has {size} bytes")
        self.size = size


class UploadTaken(Exception):
    """Another request goes on with this upload: this one is too late."""


class UploadUnknown(Exception):
    """There is no such upload (any more)."""


class Upload(Protocol):
    """Content on its way into a repository. What has arrived outlives the connection and the process."""

    id: str

    @property
    def size(self) -> int:
        """How many bytes have arrived."""
        ...

    async def read(self, start: int, stop: int) -> bytes:
        """Some of what has arrived, from `start` to before `stop`; maybe less than that. Raises UploadUnknown when it
        is finished or aborted."""
        ...

    async def claim(self) -> int:
        """Become the one who writes: whoever did before finds out at their next step. The size then. Raises
        UploadUnknown."""
        ...

    async def truncate(self, size: int) -> None:
        """Drop what is after so many bytes."""
        ...

    async def append(self, chunks: AsyncIterable[Bytes], start: int | None = None) -> int:
        """Add chunks as they come; the size then, which is durable.

        `start` is where the content is to begin. What came before the chunks broke off stays. Raises WrongOffset,
        UploadTaken, StorageFull (the upload is gone then).
        """
        ...

    async def finish(self, digest: str, shelf: Shelf = "blobs", *, known: bool = False) -> int:
        """Put the content into the repository; its size. `known`: the digest is its name, and not to be verified.
        Raises WrongDigest, StorageFull (the upload is gone then), StorageAway (it is as it was, to be finished later).
        """
        ...

    async def abort(self) -> None:
        """Drop it."""
        ...


class Content(Protocol):
    """Content that a repository has."""

    size: int

    @property
    def file(self) -> Path | None:
        """The file that has it as it is, if there is one: the kernel may send it."""
        ...

    def url(self) -> str | None:
        """Where a client may be sent to fetch it without the registry, for some minutes; None: it may not."""
        ...

    def read(self, start: int, stop: int, step: int = STEP) -> AsyncGenerator[Bytes, None]:
        """Its bytes from `start` to before `stop`, in parts of about `step` bytes. Raises ContentDamaged,
        FileNotFoundError, StorageAway."""
        ...


class BlobStore(Protocol):
    """Content by digest, kept once however many repositories have it, visible only in those.

    All of it is atomic and durable: content is there whole, under its true digest, or not at all. All of it raises
    StorageAway, and leaves things as they were then.
    """

    async def find(self, repository: RepositoryId, digest: str, shelf: Shelf = "blobs") -> int | None:
        """The size of what a repository has under a digest, None if it has nothing. Being asked for keeps it from
        the sweep for a while."""
        ...

    async def sealed_with(self) -> bytes | None:
        """The id of the key that content here is sealed with; None: that was never said."""
        ...

    async def seal_with(self, key_id: bytes) -> None:
        """Say it, for as long as the storage is there."""
        ...

    async def usable(self, repository: RepositoryId) -> None:
        """Raises KeyRefused when what the repository has can't be read, nor anything be put there."""
        ...

    async def open(self, repository: RepositoryId, digest: str, shelf: Shelf = "blobs") -> Content | None:
        """What a repository has under a digest, to be read; None if it has nothing."""
        ...

    async def read(self, repository: RepositoryId, digest: str, shelf: Shelf = "blobs") -> bytes | None:
        """Small content, whole."""
        ...

    async def put(self, repository: RepositoryId, digest: str, data: bytes, shelf: Shelf = "blobs") -> None:
        """Keep small content whose digest is known to be true. Raises StorageFull."""
        ...

    async def mount(self, source: RepositoryId, target: RepositoryId, digest: str) -> bool:
        """Make a blob of one repository visible in another, without a copy. False when the source has none."""
        ...

    async def remove(self, repository: RepositoryId, digest: str, shelf: Shelf = "blobs") -> bool:
        """Take it out of a repository; whether it was there."""
        ...

    async def remove_repository(self, repository: RepositoryId) -> None:
        """Take all of it out, uploads included."""
        ...

    async def begin(self, repository: RepositoryId, upload_id: str = "", *, hashed: bool = True) -> Upload:
        """A new upload, under a new id if none is given; not `hashed`: its digest will be known. Raises StorageFull."""
        ...

    async def upload(self, repository: RepositoryId, upload_id: str, *, hashed: bool = True) -> Upload:
        """An upload that was begun, by this process or one before it. Raises UploadUnknown."""
        ...

    async def drop_old_uploads(self, before: float) -> int:
        """Drop uploads that nobody went on with since `before` (epoch seconds); how many."""
        ...

    async def drop_unnamed(self, repository: RepositoryId, named: Iterable[str], before: float) -> int:
        """Take blobs and manifests out of a repository that are not among the `named` digests and were not pushed or
        asked for since `before`; how many."""
        ...

    async def drop_strays(self, repositories: Iterable[RepositoryId], before: float) -> int:
        """Take out what lies in other repositories than these and was not pushed or asked for since `before`: what came
        while its repository was deleted, or a deletion left that broke off; how many."""
        ...

    async def sweep(self, before: float) -> int:
        """Free the content that no repository has, unless it was touched since `before`; how many bytes."""
        ...

    async def close(self) -> None:
        """Let go of it."""
        ...


class ContentDamaged(Exception):
    """What is stored is not what was stored, or was sealed with another key. `digest` is what it should be."""

    def __init__(self, digest: str, why: str) -> None:
        super().__init__(f"{digest} is damaged: {why}")
        self.digest = digest


class ContentKey(msgspec.Struct, frozen=True):
    """A key that content is sealed with. `id` (16 bytes) tells it from others, and tells nothing of it."""

    id: bytes
    secret: bytes


class KeyRefused(AwsError):
    """KMS does not let the registry use a repository's key: ECR's KmsException. `code` is KMS' own error."""

    def __init__(self, repository: RepositoryId, code: str, why: str) -> None:
        about = f"The repository with name '{repository.name}' in the registry with id '{repository.account}'"
        super().__init__("KmsException", f"{about} can't be used: {why}", kmsError=code)


class ContentKeys(Protocol):
    """Which key a repository's content is sealed with. Repositories with the same one share content."""

    def id_of(self, repository: RepositoryId) -> bytes:
        """The id of a repository's key."""
        ...

    def seals(self, repository: RepositoryId) -> bool:
        """Whether what is stored from now on is to be sealed."""
        ...

    async def of(self, repository: RepositoryId) -> ContentKey:
        """The key. Raises KeyRefused when it may not be used, StateUnavailable."""
        ...


class Granter(msgspec.Struct, frozen=True):
    """Who lets the registry use a KMS key: the account's root (its ARN), a session of a role (its access key), or ECR
    in the role of a template (`role`, its ARN)."""

    principal: str
    session: str = ""
    role: str = ""


class RepositoryKeys(Protocol):
    """Keys of repositories that are encrypted with a key of KMS."""

    async def make(self, repository: RepositoryId, key: str, granter: Granter) -> RepositoryKey:
        """A data key for a repository that is about to be made, under the KMS key that is named (empty: the one that
        AWS manages for ECR). Raises KeyRefused, StateUnavailable."""
        ...

    async def check(self, repository: RepositoryId, key: str, granter: Granter) -> str:
        """The ARN of a KMS key with which a repository could be made. Raises as `make` does."""
        ...

    async def retire(self, key: RepositoryKey) -> None:
        """The repository is gone."""
        ...


class UpstreamFailed(Exception):
    """Another registry did not give what was asked for. `unknown`: it answered that there is no such thing."""

    def __init__(self, message: str, *, unknown: bool = False) -> None:
        super().__init__(message)
        self.unknown = unknown


class LoginFailed(UpstreamFailed):
    """Another registry wants a login that is not to be had, or refused it: that is for the rule's owner to mend. `code`
    is ECR's error for a secret that can't be read, else empty."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class Logins(Protocol):
    """Logins of other registries."""

    async def of(self, credential_arn: str) -> Login:
        """The login in this secret, as it is now. Raises LoginFailed, StateUnavailable."""
        ...


class Upstream(Protocol):
    """Other registries, asked with the login of the source if they want one. All of it raises UpstreamFailed (also
    LoginFailed), and StateUnavailable when a login can't be had just now."""

    async def login(self, source: Source) -> None:
        """Whether its login can be read, if it has one."""
        ...

    async def check(self, source: Source) -> None:
        """Whether it is a registry that answers, and takes the login."""
        ...

    async def manifest(self, source: Source, name: str, reference: str) -> tuple[str, bytes]:
        """The media type and the bytes of a manifest, as it came."""
        ...

    def blob(
        self, source: Source, name: str, digest: str
    ) -> AbstractAsyncContextManager[tuple[int, AsyncIterable[bytes]]]:
        """A blob as it comes: its size (-1: not told), and its chunks, not verified. The chunks raise too."""
        ...


class PeerAway(StateUnavailable):
    """Another installation can't be reached, or can't take anything now. What was to be done is to be done later."""


class PeerRefused(Exception):
    """Another installation will not have it, however often it is asked. `code` is ECR's error."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Installations(Protocol):
    """The registries of other installations. All of it raises PeerAway and PeerRefused."""

    async def check(self, peer: Peer, principal: str, purpose: str) -> None:
        """Whether it is there, is who it says, and takes the key for this principal (an ARN) and purpose (`replicate`,
        `pull`)."""
        ...

    async def manifest(self, to: Destination, reference: str) -> tuple[str, bytes]:
        """The media type and the bytes of a manifest there, not verified."""
        ...

    def blob(self, to: Destination, digest: str) -> AbstractAsyncContextManager[tuple[int, AsyncIterable[bytes]]]:
        """A blob there as it comes: its size, and its chunks, not verified. The chunks raise too."""
        ...

    async def has_image(self, to: Destination, digest: str) -> bool:
        """Whether a repository there has this manifest, so that it has all that it is made of too."""
        ...

    async def send_blob(self, to: Destination, blob: Outgoing, beside: str = "") -> None:
        """See to it that a repository there has a blob: nothing is sent of one that it has, or that it can take from
        the repository `beside` there, and what arrived before a cut is not sent again."""
        ...

    async def put_manifest(self, to: Destination, reference: str, media_type: str, data: bytes) -> None:
        """Put a manifest under a tag or its digest."""
        ...

    async def remove(self, to: Destination, digest: str, tag: str = "") -> None:
        """Remove a replica there, or a tag of it; nothing when it is none, or the tag names another image."""
        ...


class Outgoing(Protocol):
    """A blob to be sent."""

    digest: str
    size: int

    def read(self, start: int) -> AsyncIterator[bytes]:
        """Its bytes from `start` on."""
        ...


class CannotSign(Exception):
    """A profile's key can't be used."""


class SigningKeys(Protocol):
    """Keys of signing profiles, which are named by their ARNs. A private key is never seen."""

    def make(self, profile: str, now: float) -> tuple[bytes, bytes]:
        """A new key, sealed, and its certificate (X.509, DER)."""
        ...

    def sign(self, profile: str, sealed: bytes, data: bytes) -> bytes:
        """The signature of ES384 (RFC 7518, 3.4). Raises CannotSign."""
        ...

    def made(self, certificate: bytes, data: bytes, signature: bytes) -> bool:
        """Whether the certificate's key signed this so."""
        ...


class RunningImages(Protocol):
    """Tells which images are in use."""

    async def images(self) -> set[Use]:
        """Those that tasks which are not over need, of all accounts and registries. Raises StateUnavailable."""
        ...
