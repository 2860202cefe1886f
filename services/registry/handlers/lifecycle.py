"""Lifecycle policies: set, previewed, carried out."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from msgspec.structs import replace

from contracts.records.registry import LifecyclePreview, Repository
from services.registry.decisions.lifecycle import Candidate, Due, due
from services.registry.decisions.lifecycle_text import read_lifecycle
from services.registry.decisions.names import RepositoryId, parse_reference
from services.registry.handlers.images import Images
from services.registry.handlers.repositories import Repositories
from services.registry.ports import RunningImages
from services.shared import telemetry
from services.shared.clock import Clock

log = structlog.get_logger()


class Lifecycle:
    """The lifecycle policies of all repositories. `own_hosts` tells the hosts that mean this registry."""

    def __init__(
        self,
        repositories: Repositories,
        images: Images,
        running: RunningImages,
        own_hosts: Callable[[], frozenset[str]],
        clock: Clock,
    ) -> None:
        self._repositories = repositories
        self._images = images
        self._running = running
        self._own_hosts = own_hosts
        self._clock = clock

    async def put(self, repository: RepositoryId, text: str) -> Repository:
        """Set the policy, or with an empty text take it away. Raises RepositoryNotFoundException."""

        def changed(old: Repository) -> Repository:
            return replace(old, lifecycle=text, lifecycle_evaluated_at=0.0)

        return await self._repositories.change(repository, changed, "repository.lifecycle_changed.v1")

    async def preview(self, repository: RepositoryId, text: str) -> Repository:
        """Remember what is to be previewed, and since when. Raises RepositoryNotFoundException."""
        preview = LifecyclePreview(policy=text, started_at=self._clock())

        def changed(old: Repository) -> Repository:
            return replace(old, preview=preview)

        return await self._repositories.change(repository, changed, "repository.lifecycle_previewed.v1")

    async def previewed(self, repository: RepositoryId, preview: LifecyclePreview) -> list[Due]:
        """What the policy would do to the images that were there when the preview was started."""
        images = [each for each in self._candidates(repository) if each.since <= preview.started_at]
        return await self._due(repository, preview.policy, images, preview.started_at)

    async def evaluate(self, repository: RepositoryId) -> int:
        """Carry the policy out now; how many images went. Raises StateUnavailable: what is left is left to the next
        time."""
        record = self._repositories.find(repository)
        if record is None or not record.lifecycle:
            return 0
        now, done = self._clock(), 0
        found = await self._due(repository, record.lifecycle, self._candidates(repository), now)
        if found:
            with telemetry.span("registry.lifecycle", repository=repository.name, images=len(found)):
                for each in found:
                    cause = f"lifecycle policy rule {each.priority}"
                    done += await self._images.expire(repository, each.digest, each.tags, cause, archive=each.archive)
        await self._evaluated(repository, record.lifecycle, now)
        if done:
            log.info("lifecycle.evaluated", repository=repository.name, images=done)
        return done

    async def _evaluated(self, repository: RepositoryId, text: str, now: float) -> None:
        def changed(old: Repository) -> Repository:
            return replace(old, lifecycle_evaluated_at=now) if old.lifecycle == text else old

        if self._repositories.find(repository) is not None:
            await self._repositories.change(repository, changed, "repository.lifecycle_evaluated.v1")

    async def _due(self, repository: RepositoryId, text: str, images: list[Candidate], now: float) -> list[Due]:
        """What tasks use is asked only when something would go."""
        rules = read_lifecycle(text)
        if not due(rules, images, now, frozenset()):
            return []
        return due(rules, images, now, await self._in_use(repository))

    async def _in_use(self, repository: RepositoryId) -> frozenset[str]:
        hosts, found = self._own_hosts(), set()
        for use in await self._running.images():
            reference = parse_reference(use.image, hosts)
            if reference is None or reference.repository != repository:
                continue
            named = self._images.digest_of(repository, reference.meant)
            found.update(digest for digest in (use.digest, named) if digest)
        return frozenset(found)

    def _candidates(self, repository: RepositoryId) -> list[Candidate]:
        return [
            Candidate(
                digest=image.digest,
                since=image.activated_at or image.pushed_at,
                tags=tuple(self._images.tags_of(repository, image.digest)),
                pulled_at=self._images.pulled_at(image),
                archived=image.archived,
                archived_at=image.archived_at,
                named_by=tuple(self._images.indexes_of(repository, image.digest)),
                subject=image.subject,
            )
            for image in self._images.all(repository)
        ]
