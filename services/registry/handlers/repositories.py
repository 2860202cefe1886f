"""Repositories: made, found, changed and deleted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

import msgspec

from contracts.records.registry import IMAGE, IMAGE_TAG, REPOSITORY, Repository, RepositoryKey
from services.registry.decisions.names import RepositoryId
from services.registry.handlers import errors
from services.registry.ports import BlobStore, Granter, RepositoryKeys
from services.shared.clock import Clock
from services.shared.errors import StateUnavailable
from services.shared.state import Conflict, Store


class Repositories:
    """The repositories of all accounts and regions."""

    def __init__(self, store: Store, blobs: BlobStore, keys: RepositoryKeys, clock: Clock) -> None:
        self._store = store
        self._blobs = blobs
        self._keys = keys
        self._clock = clock
        self._table = store.table(REPOSITORY)
        self._locks: WeakValueDictionary[RepositoryId, asyncio.Lock] = WeakValueDictionary()

    def lock(self, repository: RepositoryId) -> asyncio.Lock:
        """Held while what a repository contains is changed."""
        lock = self._locks.get(repository)
        if lock is None:
            lock = self._locks[repository] = asyncio.Lock()
        return lock

    def find(self, repository: RepositoryId) -> Repository | None:
        """The repository, if there is one."""
        return self._table.record(repository.account, repository.region, repository.name)

    def get(self, repository: RepositoryId) -> Repository:
        """The repository. Raises RepositoryNotFoundException."""
        found = self.find(repository)
        if found is None:
            raise errors.repository_not_found(repository)
        return found

    def all(self, account: str, region: str) -> list[Repository]:
        """All of an account in a region, in no order."""
        return self._table.records(account, region)

    async def create(
        self,
        repository: RepositoryId,
        settings: dict[str, Any],
        tags: dict[str, str],
        policy: str = "",
        lifecycle: str = "",
        granter: Granter | None = None,
    ) -> Repository:
        """Make one, with the texts of its policies if any. `granter` lets the registry use its KMS key, if it
        has one; None: the account itself. Raises
        RepositoryAlreadyExistsException, KeyRefused."""
        async with self.lock(repository):
            if self.find(repository) is not None:
                raise errors.repository_exists(repository)
            await self._clear(repository)
            key, settings = await self._key(repository, settings, granter)
            record = Repository(
                account=repository.account,
                region=repository.region,
                name=repository.name,
                created_at=self._clock(),
                settings=settings,
                tags=tags,
                policy=policy,
                lifecycle=lifecycle,
                key=key,
            )
            try:
                await self._store.put(REPOSITORY, record, "repository.created.v1", expect=0)
            except Conflict:
                if key is not None:
                    await self._keys.retire(key)
                raise errors.repository_exists(repository) from None
            return record

    async def _key(
        self, repository: RepositoryId, settings: dict[str, Any], granter: Granter | None
    ) -> tuple[RepositoryKey | None, dict[str, Any]]:
        """The key of a repository with these settings, and the settings, which then name the KMS key by its ARN."""
        wanted = settings.get("encryptionConfiguration", {})
        if wanted.get("encryptionType") != "KMS":
            return None, settings
        granter = granter or Granter(f"arn:aws:iam::{repository.account}:root")
        key = await self._keys.make(repository, wanted.get("kmsKey", ""), granter)
        return key, {**settings, "encryptionConfiguration": {**wanted, "kmsKey": key.key_arn}}

    async def delete(self, repository: RepositoryId, *, force: bool) -> Repository:
        """Delete one. Raises RepositoryNotFoundException, RepositoryNotEmptyException.

        It is gone with one write; what it contained can't be reached any more, and is cleared away then, or, if
        that breaks off, when the registry starts or before the name is used again.
        """
        async with self.lock(repository):
            record = self.get(repository)
            key = (repository.account, repository.region, repository.name)
            if not force and next(self._store.table(IMAGE).entries(*key), None) is not None:
                raise errors.repository_not_empty(repository)
            await self._store.remove(REPOSITORY, key, "repository.deleted.v1")
            with contextlib.suppress(StateUnavailable):
                await self._clear(repository)
            if record.key is not None:
                await self._keys.retire(record.key)
            return record

    async def change(
        self, repository: RepositoryId, change: Callable[[Repository], Repository], event: str
    ) -> Repository:
        """Change one with one write. Raises RepositoryNotFoundException, and what `change` raises."""

        def changed(old: Repository | None) -> Repository:
            if old is None:
                raise errors.repository_not_found(repository)
            return change(old)

        key = (repository.account, repository.region, repository.name)
        record = await self._store.update(REPOSITORY, key, changed, event)
        assert record is not None
        return record

    async def change_settings(self, repository: RepositoryId, settings: dict[str, Any], event: str) -> Repository:
        """Change some settings; those that are None are dropped."""

        def changed(old: Repository) -> Repository:
            merged = {**old.settings, **settings}
            kept = {name: value for name, value in merged.items() if value is not None}
            return msgspec.structs.replace(old, settings=kept)

        return await self.change(repository, changed, event)

    async def _clear(self, repository: RepositoryId) -> None:
        await self._blobs.remove_repository(repository)  # first: what is left is found by its images
        key = (repository.account, repository.region, repository.name)
        for tag in self._store.table(IMAGE_TAG).records(*key):
            await self._store.remove(IMAGE_TAG, (*key, tag.tag), "tag.deleted.v1")
        for image in self._store.table(IMAGE).records(*key):
            await self._store.remove(IMAGE, (*key, image.digest), "image.deleted.v1")

    async def clear_orphans(self) -> None:
        """Clear away what a deletion that broke off left: images without a repository, tags without an image."""
        images, tags = self._store.table(IMAGE), self._store.table(IMAGE_TAG)
        left = {RepositoryId(r.account, r.region, r.repository) for r in [*images.records(), *tags.records()]}
        for repository in left:
            if self.find(repository) is None:
                await self._clear(repository)
        for tag in tags.records():
            key = (tag.account, tag.region, tag.repository)
            if images.get(*key, tag.digest) is None:
                await self._store.remove(IMAGE_TAG, (*key, tag.tag), "tag.deleted.v1")
