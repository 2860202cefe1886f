"""Pull-through caches: what a repository under a rule does not have is fetched from another registry, once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from hashlib import sha256
from typing import Any

import msgspec
import structlog

from contracts.records.registry import PullThroughRule
from services.registry.decisions.manifests import Manifest, ManifestInvalid, read_manifest
from services.registry.decisions.names import RepositoryId
from services.registry.decisions.upstream import FRESH_S, Source, upstream_name
from services.registry.handlers.downloads import Download
from services.registry.handlers.images import Images
from services.registry.handlers.templates import ByTemplate, Prefixed
from services.registry.ports import BlobStore, StorageFull, Upstream, UpstreamFailed, WrongDigest
from services.shared.clock import Clock
from services.shared.errors import AwsError

log = structlog.get_logger()

AWAY_S = 60.0
"""An upstream that did not answer is not asked again about the same tag for so long, if the tag is cached."""


def source_of(rule: PullThroughRule) -> Source:
    """The registry that a rule names."""
    return Source(rule.upstream, rule.credential_arn, rule.role_arn, rule.account)


class Coming(msgspec.Struct):
    """A manifest whose blobs are being stored. Its image is there when they are, with these tags."""

    digest: str
    media_type: str
    data: bytes
    tags: set[str]
    task: asyncio.Task[None] | None = None


class Answer(msgspec.Struct, frozen=True):
    """What a pull is to be answered with: what is coming, or else what the repository has. `stale`: the upstream
    could not be asked whether that is still true."""

    coming: Coming | None = None
    stale: bool = False


HELD = Answer()


class PullThrough:
    """Fetches manifests and blobs. Of callers that want the same, one fetches and all get it."""

    def __init__(
        self,
        upstream: Upstream,
        prefixed: Prefixed,
        by_template: ByTemplate,
        images: Images,
        blobs: BlobStore,
        clock: Clock,
    ) -> None:
        self._upstream = upstream
        self._prefixed = prefixed
        self._by_template = by_template
        self._images = images
        self._blobs = blobs
        self._clock = clock
        self._fresh_until: dict[tuple[RepositoryId, str], tuple[float, bool]] = {}
        self._asking: dict[tuple[RepositoryId, str], asyncio.Task[Answer]] = {}
        self._coming: dict[tuple[RepositoryId, str], Coming] = {}
        self._downloads: dict[tuple[RepositoryId, str], Download] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    async def close(self) -> None:
        """Stop what is being fetched; nothing of it is left behind."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def covers(self, repository: RepositoryId) -> bool:
        """Whether a rule makes this repository a cache."""
        return self._prefixed.rule(repository) is not None

    async def image(self, repository: RepositoryId, reference: str, allow: Callable[[], None]) -> Answer:
        """See to it that a pull of this tag or digest can be answered. `allow` raises unless the caller may have
        images fetched here. Raises UpstreamFailed, AwsError."""
        rule = self._prefixed.rule(repository)
        if rule is None:
            return HELD
        coming = self._coming.get((repository, reference))
        if coming is not None:
            return Answer(coming)
        known = self._images.find(repository, reference)
        if known is not None:
            fresh = self._fresh(repository, reference)
            if fresh is not None:
                return fresh
        else:
            allow()
        key = (repository, reference)
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = self._spawn(self._ask(rule, repository, reference))
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(asking)

    def _fresh(self, repository: RepositoryId, reference: str) -> Answer | None:
        """How to answer without asking; None: it is time to ask."""
        if ":" in reference:
            return HELD
        until, stale = self._fresh_until.get((repository, reference), (0.0, False))
        if not until:
            until = self._images.tagged_at(repository, reference) + FRESH_S
        return Answer(stale=stale) if self._clock() < until else None

    async def _ask(self, rule: PullThroughRule, repository: RepositoryId, reference: str) -> Answer:
        now = self._clock()
        known = self._images.find(repository, reference) is not None
        try:
            answer = await self._fetch(rule, repository, reference)
        except (UpstreamFailed, AwsError) as error:
            if not known:
                raise
            log.warning("pull_through.stale", repository=repository.name, reference=reference, error=str(error))
            self._fresh_until[repository, reference] = (now + AWAY_S, True)
            return Answer(stale=True)
        if ":" not in reference:
            self._fresh_until[repository, reference] = (now + FRESH_S, False)
        return answer

    async def _fetch(self, rule: PullThroughRule, repository: RepositoryId, reference: str) -> Answer:
        name = upstream_name(repository.name, rule.prefix, rule.upstream_prefix)
        media_type, data = await self._upstream.manifest(source_of(rule), name, reference)
        digest = "sha256:" + sha256(data).hexdigest()
        if ":" in reference and digest != reference:
            raise UpstreamFailed(f"{rule.upstream} sent {digest} for {reference}")
        try:
            manifest = read_manifest(data, media_type)
        except ManifestInvalid as error:
            raise UpstreamFailed(f"{rule.upstream} sent a manifest that is none: {error}") from error
        await self._by_template.create(repository, "PULL_THROUGH_CACHE")
        tags = set() if ":" in reference else {reference}
        if manifest.manifests or self._images.find(repository, digest) is not None:
            await self._push(repository, Coming(digest, media_type, data, tags))
            return HELD
        coming = self._coming.get((repository, digest))
        if coming is None:
            coming = self._coming[repository, digest] = Coming(digest, media_type, data, tags)
            coming.task = self._spawn(self._store(rule, repository, coming, manifest))
        coming.tags |= tags
        return Answer(coming)

    async def _store(self, rule: PullThroughRule, repository: RepositoryId, coming: Coming, manifest: Manifest) -> None:
        """Fetch the blobs that are not there, then keep the image. What fails here, the next pull tries again."""
        try:
            for blob in manifest.blobs:
                if await self._blobs.find(repository, blob.digest) is None:
                    await self._download(rule, repository, blob.digest).done()
            await self._push(repository, coming)
        except (UpstreamFailed, AwsError, WrongDigest, StorageFull, ManifestInvalid) as error:
            log.warning("pull_through.failed", repository=repository.name, image=coming.digest, error=str(error))
            for tag in coming.tags:
                self._fresh_until.pop((repository, tag), None)
            raise UpstreamFailed(f"{coming.digest} could not be fetched from {rule.upstream}: {error}") from error
        finally:
            self._coming.pop((repository, coming.digest), None)

    async def _push(self, repository: RepositoryId, coming: Coming) -> None:
        for tag in [*coming.tags] or [None]:
            await self._images.push(
                repository, coming.data, coming.media_type, tag=tag, digest=coming.digest, partial=True
            )

    def download(self, repository: RepositoryId, digest: str) -> Download | None:
        """A blob that the repository does not have, on its way in; None when no rule holds for the repository."""
        rule = self._prefixed.rule(repository)
        return self._download(rule, repository, digest) if rule is not None else None

    def _download(self, rule: PullThroughRule, repository: RepositoryId, digest: str) -> Download:
        key = (repository, digest)
        found = self._downloads.get(key)
        if found is None:
            found = self._downloads[key] = Download(repository, digest)
            name = upstream_name(repository.name, rule.prefix, rule.upstream_prefix)
            found.task = self._spawn(found.run(self._upstream, source_of(rule), name, self._blobs))
            found.task.add_done_callback(lambda _: self._downloads.pop(key, None))
        return found

    async def digest_of(self, repository: RepositoryId, reference: str) -> str | None:
        """The digest that a task is to run. What is not here yet is fetched whole first, so that it can be scanned."""
        try:
            answer = await self.image(repository, reference, lambda: None)
            if answer.coming is not None and answer.coming.task is not None:
                await asyncio.shield(answer.coming.task)
        except (UpstreamFailed, AwsError) as error:
            log.warning("pull_through.unknown", repository=repository.name, reference=reference, error=str(error))
        return self._images.digest_of(repository, reference)

    async def whole(self, repository: RepositoryId, digest: str | None) -> None:
        """Fetch the manifests of an index that are not here yet: what is to be judged must be there."""
        image = self._images.find(repository, digest) if digest else None
        if image is not None and self.covers(repository):
            for child in image.manifests:
                await self.digest_of(repository, child.digest)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # who waits for it is told; if nobody does, it was logged
