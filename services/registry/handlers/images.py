"""Images: pushed, found, tagged and deleted. Both APIs come here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from hashlib import sha256

from msgspec.structs import replace

from contracts.records.registry import IMAGE, IMAGE_TAG, Image, ImageTag, Signing
from services.registry.decisions.manifests import Manifest, ManifestInvalid, read_manifest
from services.registry.decisions.names import RepositoryId
from services.registry.decisions.tags import is_immutable
from services.registry.handlers import errors
from services.registry.handlers.cache import ManifestCache
from services.registry.handlers.index import ImageIndex
from services.registry.handlers.pulls import PullTimes
from services.registry.handlers.repositories import Repositories
from services.registry.ports import BlobStore, StorageAway, StorageFull
from services.shared.clock import Clock
from services.shared.errors import AwsError
from services.shared.state import Store


class ImageReferenced(Exception):
    """An index of the repository names this image, so it can't go before the index does. `by` are their digests."""

    def __init__(self, by: list[str]) -> None:
        super().__init__(f"Requested image referenced by manifest list: [{', '.join(by)}]")
        self.by = by


class Images:
    """The images of all repositories. A change of a repository's images waits for the one before it."""

    def __init__(
        self, store: Store, blobs: BlobStore, repositories: Repositories, cache: ManifestCache, clock: Clock
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._repositories = repositories
        self._cache = cache
        self._clock = clock
        self._images = store.table(IMAGE)
        self._tags = store.table(IMAGE_TAG)
        self._index = ImageIndex(store)
        self.pulls = PullTimes(store, clock)

    def find(self, repository: RepositoryId, reference: str) -> Image | None:
        """The image with this digest or tag."""
        digest = reference if ":" in reference else self.tagged(repository, reference)
        return self._images.record(*_key(repository), digest) if digest else None

    def digest_of(self, repository: RepositoryId, reference: str) -> str | None:
        """The digest of the image with this digest or tag."""
        image = self.find(repository, reference)
        return image.digest if image is not None else None

    def tagged(self, repository: RepositoryId, tag: str) -> str | None:
        """The digest that a tag names; None when it names nothing."""
        found = self._tags.record(*_key(repository), tag)
        if found is None or self._images.get(*_key(repository), found.digest) is None:
            return None
        return found.digest

    def tagged_at(self, repository: RepositoryId, tag: str) -> float:
        """Since when a tag names what it names; 0 when it names nothing."""
        found = self._tags.record(*_key(repository), tag)
        return found.tagged_at if found is not None else 0.0

    def all(self, repository: RepositoryId) -> list[Image]:
        """All images of a repository, in no order."""
        return self._images.records(*_key(repository))

    def of_registry(self, account: str, region: str) -> list[Image]:
        """All images of an account in a region, in no order."""
        return self._images.records(account, region)

    def tags(self, repository: RepositoryId) -> dict[str, list[str]]:
        """The tags of each tagged image, by digest, sorted."""
        key = _key(repository)
        found = self._index.tags(key).items()
        return {digest: sorted(tags) for digest, tags in found if self._images.get(*key, digest) is not None}

    def tags_of(self, repository: RepositoryId, digest: str) -> list[str]:
        """The tags of one image, sorted."""
        return self._index.tags_of(_key(repository), digest)

    def indexes_of(self, repository: RepositoryId, digest: str) -> list[str]:
        """The digests of the indexes of the repository that name this manifest, sorted."""
        return self._index.parents_of(_key(repository), digest)

    def pulled_at(self, image: Image) -> float:
        """When it was last pulled, as far as that is recorded; 0 for never."""
        return self.pulls.of(image)

    def is_whole(self, image: Image) -> bool:
        """Whether all manifests are here that an index names: those of a pull-through cache come later."""
        where = (image.account, image.region, image.repository)
        return all(self._images.get(*where, each.digest) is not None for each in image.manifests)

    def size_of(self, image: Image) -> int:
        """What pulling an image transfers, in bytes; of an index, for the largest of its manifests that are here. Those
        of a pull-through cache come later than the index does."""
        where = (image.account, image.region, image.repository)
        found = (self._images.record(*where, each.digest) for each in image.manifests)
        return max([image.size, *(child.size for child in found if child is not None)])

    def referrers(self, repository: RepositoryId, digest: str) -> list[Image]:
        """The images that refer to this one, by digest."""
        found = (image for image in self.all(repository) if image.subject == digest)
        return sorted(found, key=lambda image: image.digest)

    async def manifest(self, repository: RepositoryId, digest: str) -> bytes:
        """The bytes of a manifest whose image is here. Raises ImageNotFoundException when the file is gone,
        KmsException when the repository's key may not be used."""
        await self._blobs.usable(repository)
        data = self._cache.get(digest)
        if data is None:
            data = await self._blobs.read(repository, digest, "manifests")
            if data is None:
                raise errors.image_not_found(repository, digest, None)
            self._cache.put(digest, data)
        return data

    async def push(
        self,
        repository: RepositoryId,
        data: bytes,
        media_type: str,
        *,
        tag: str | None = None,
        digest: str | None = None,
        strict: bool = False,
        replica: bool = False,
        partial: bool = False,
        signings: Sequence[Signing] = (),
        attached_to: str = "",
    ) -> Image:
        """Take a manifest in; with a tag, let the tag name it.

        All that it names must be in the repository already. `digest` is what it was announced as. `strict`: a push
        that changes nothing is ImageAlreadyExistsException (PutImage), else it is fine. `partial`: an index whose
        manifests come later, when they are asked for. `signings`: what a new image is to be signed with; what refers to
        another one is not signed. `attached_to`: it is put by the platform, and must refer to this image, which must be
        there. Raises AwsError, ManifestInvalid.
        """
        actual = "sha256:" + sha256(data).hexdigest()
        if digest is not None and digest != actual:
            raise errors.digest_does_not_match(digest, actual)
        manifest = read_manifest(data, media_type)
        await self._blobs.usable(repository)
        async with self._repositories.lock(repository):
            if attached_to:
                self._check_subject(repository, manifest, tag, attached_to)
            settings = self._repositories.get(repository).settings
            known = self._images.record(*_key(repository), actual)
            named = self.tagged(repository, tag) if tag else None
            again = replica and named == actual  # what was replicated may be brought once more
            if tag and named is not None and is_immutable(settings, tag) and not again:
                raise errors.tag_exists(repository, tag)
            if strict and known is not None and (not tag or named == actual):
                raise errors.image_exists(repository, actual, tag)
            image = known or await self._add(
                repository, actual, data, manifest, replica, partial, signings, bool(attached_to)
            )
            if image.archived:
                image = await self._set_archived(repository, actual, False, None) or image
            if tag and named != actual:
                await self._move_tag(repository, tag, actual, is_immutable(settings, tag))
        return image

    def _check_subject(self, repository: RepositoryId, manifest: Manifest, tag: str | None, subject: str) -> None:
        if manifest.subject != subject or tag:
            raise ManifestInvalid(f"it does not refer to {subject}, or has a tag")
        if self._images.get(*_key(repository), subject) is None:
            raise errors.image_not_found(repository, subject, None)

    async def _add(
        self,
        repository: RepositoryId,
        digest: str,
        data: bytes,
        manifest: Manifest,
        replica: bool,
        partial: bool,
        signings: Sequence[Signing],
        attached: bool,
    ) -> Image:
        await self._check_blobs(repository, manifest)
        children = self._children(repository, manifest, partial)
        try:
            await self._blobs.put(repository, digest, data, "manifests")
        except StorageFull:
            raise errors.storage_full() from None
        image = Image(
            account=repository.account,
            region=repository.region,
            repository=repository.name,
            digest=digest,
            media_type=manifest.media_type,
            manifest_size=len(data),
            pushed_at=self._clock(),
            size=max([manifest.size, *(child.size for child in children)]),
            config=manifest.config,
            layers=manifest.layers,
            manifests=manifest.manifests,
            subject=manifest.subject,
            artifact_type=manifest.artifact_type,
            annotations=manifest.annotations,
            replica=replica,
            signings=[] if manifest.subject else list(signings),
            attached=attached,
        )
        self._cache.put(digest, data)
        event = "image.attached.v1" if attached else "image.pushed.v1"
        written = await self._store.update(IMAGE, (*_key(repository), digest), lambda old: old or image, event)
        return written or image

    async def _check_blobs(self, repository: RepositoryId, manifest: Manifest) -> None:
        missing = []
        sizes = await asyncio.gather(*(self._blobs.find(repository, blob.digest) for blob in manifest.blobs))
        for blob, size in zip(manifest.blobs, sizes, strict=True):
            if size is None:
                missing.append(blob.digest)
            elif size != blob.size:
                raise ManifestInvalid(f"{blob.digest} has {size} bytes, and the manifest says {blob.size}")
        if missing:
            raise errors.layers_not_found(missing)

    def _children(self, repository: RepositoryId, manifest: Manifest, partial: bool) -> list[Image]:
        found = {d.digest: self._images.record(*_key(repository), d.digest) for d in manifest.manifests}
        missing = [digest for digest, image in found.items() if image is None]
        if missing and not partial:
            raise errors.images_not_found(missing)
        return [image for image in found.values() if image is not None]

    async def _move_tag(self, repository: RepositoryId, tag: str, digest: str, immutable: bool) -> None:
        # What the table shows may be older than what is stored (an answer of NATS that got lost), so that a change
        # starts again from what it then finds.
        def moved(old: ImageTag | None) -> ImageTag:
            if old is not None and old.digest == digest:
                return old
            if old is not None and immutable and self.tagged(repository, tag) is not None:
                raise errors.tag_exists(repository, tag)
            return record

        record = ImageTag(
            account=repository.account,
            region=repository.region,
            repository=repository.name,
            tag=tag,
            digest=digest,
            tagged_at=self._clock(),
        )
        await self._store.update(IMAGE_TAG, (*_key(repository), tag), moved, "tag.moved.v1")

    async def untag(self, repository: RepositoryId, tag: str, *, last_takes_image: bool) -> str | None:
        """Let a tag name nothing; the digest that it named, None when it named none.

        `last_takes_image`: an image that loses its last tag goes with it, as BatchDeleteImage does. Raises
        ImageReferenced.
        """
        async with self._repositories.lock(repository):
            digest = self.tagged(repository, tag)
            if digest is None:
                return None
            if last_takes_image and self.tags_of(repository, digest) == [tag]:
                await self._delete(repository, digest)
            else:
                await self._store.remove(IMAGE_TAG, (*_key(repository), tag), "tag.deleted.v1")
            return digest

    async def delete(self, repository: RepositoryId, digest: str) -> list[str] | None:
        """Delete an image with all its tags; the tags it had, None when there is no such image. Raises
        ImageReferenced."""
        async with self._repositories.lock(repository):
            if self._images.get(*_key(repository), digest) is None:
                return None
            return await self._delete(repository, digest)

    async def remove_replica(self, repository: RepositoryId, digest: str, tag: str = "") -> bool:
        """Delete an image that came by replication, or let a tag of it name nothing; whether there was such a one.
        Raises ImageReferenced."""
        async with self._repositories.lock(repository):
            image = self._images.record(*_key(repository), digest)
            if image is None or not image.replica or (tag and self.tagged(repository, tag) != digest):
                return False
            if tag:
                await self._store.remove(IMAGE_TAG, (*_key(repository), tag), "tag.deleted.v1")
            else:
                await self._delete(repository, digest)
            return True

    async def expire(
        self, repository: RepositoryId, digest: str, tags: tuple[str, ...], cause: str, *, archive: bool
    ) -> bool:
        """Delete or archive an image that was judged with these tags; whether it was done. One that got others since,
        or is gone, or is named by an index, is left alone. `cause` is told in the events."""
        async with self._repositories.lock(repository):
            image = self._images.record(*_key(repository), digest)
            if image is None or tuple(self.tags_of(repository, digest)) != tags:
                return False
            if archive:
                return (await self._set_archived(repository, digest, True, cause)) is not None
            try:
                await self._delete(repository, digest, cause)
            except ImageReferenced:
                return False
            return True

    async def set_archived(self, repository: RepositoryId, digest: str, archived: bool) -> Image | None:
        """Archive an image, or bring it back; the image, None when there is none."""
        async with self._repositories.lock(repository):
            return await self._set_archived(repository, digest, archived, None)

    async def _set_archived(
        self, repository: RepositoryId, digest: str, archived: bool, cause: str | None
    ) -> Image | None:
        now = self._clock()

        def changed(old: Image | None) -> Image | None:
            if old is None or old.archived == archived:
                return old
            if archived:
                return replace(old, archived=True, archived_at=now)
            return replace(old, archived=False, activated_at=now)

        event = "image.archived.v1" if archived else "image.activated.v1"
        return await self._store.update(IMAGE, (*_key(repository), digest), changed, event, cause=cause)

    async def _delete(self, repository: RepositoryId, digest: str, cause: str | None = None) -> list[str]:
        by = self.indexes_of(repository, digest)
        if by:
            raise ImageReferenced(by)
        tags = self.tags_of(repository, digest)
        for tag in tags:
            await self._store.remove(IMAGE_TAG, (*_key(repository), tag), "tag.deleted.v1", cause=cause)
        attached = [each.digest for each in self.referrers(repository, digest) if each.attached]
        for gone in (*attached, digest):
            await self._store.remove(IMAGE, (*_key(repository), gone), "image.deleted.v1", cause=cause)
            with contextlib.suppress(StorageAway):  # nobody reaches it any more, and the cleaner takes it
                await self._blobs.remove(repository, gone, "manifests")
        return tags

    def named(self, repository: RepositoryId) -> set[str]:
        """The digests of all that the images of a repository are made of, themselves included."""
        found: set[str] = set()
        for image in self.all(repository):
            found.add(image.digest)
            found.update(descriptor.digest for descriptor in [*image.layers, *image.manifests])
            if image.config:
                found.add(image.config.digest)
        return found


def as_aws_error(problem: ManifestInvalid) -> AwsError:
    """A manifest that can't be taken, as ECR tells it."""
    return errors.invalid_parameter("imageManifest", f"Invalid JSON syntax or manifest: {problem}")


def _key(repository: RepositoryId) -> tuple[str, str, str]:
    return repository.account, repository.region, repository.name
