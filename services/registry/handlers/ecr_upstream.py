"""Pull-through caches of other registries of ECR: of this installation, or of another one; in the rule's role.

https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache-private.html
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager

from services.registry.decisions.names import RepositoryId, place_of, root_of
from services.registry.decisions.peers import Destination, is_unknown
from services.registry.decisions.upstream import Source
from services.registry.handlers.contents import stream
from services.registry.handlers.images import Images
from services.registry.handlers.peers import Peers
from services.registry.handlers.policies import Asker, Policies
from services.registry.handlers.repositories import Repositories
from services.registry.handlers.roles import PULL_THROUGH, Roles
from services.registry.ports import (
    BlobStore,
    Installations,
    LoginFailed,
    PeerAway,
    PeerRefused,
    Upstream,
    UpstreamFailed,
)
from services.shared.errors import AccessDenied, AwsError
from services.shared.policies.demands import Demand


class EcrUpstream:
    """See ports.Upstream: registries of ECR here, those of other hosts as `others` has them."""

    def __init__(
        self,
        others: Upstream,
        installations: Installations,
        peers: Peers,
        roles: Roles,
        policies: Policies,
        repositories: Repositories,
        images: Images,
        blobs: BlobStore,
    ) -> None:
        self._others = others
        self._installations = installations
        self._peers = peers
        self._roles = roles
        self._policies = policies
        self._repositories = repositories
        self._images = images
        self._blobs = blobs

    async def login(self, source: Source) -> None:
        """See ports.Upstream."""
        if place_of(source.host) is None:
            await self._others.login(source)
        else:
            self._asker(source)

    async def check(self, source: Source) -> None:
        """See ports.Upstream."""
        place = place_of(source.host)
        if place is None:
            await self._others.check(source)
            return
        asker, peer = self._asker(source), self._peers.at(*place)
        if peer is not None:
            try:
                await self._installations.check(peer, asker.principal, "pull")
            except (PeerAway, PeerRefused) as error:
                raise _failed(error) from error

    async def manifest(self, source: Source, name: str, reference: str) -> tuple[str, bytes]:
        """See ports.Upstream."""
        repository = _repository(source, name)
        if repository is None:
            return await self._others.manifest(source, name, reference)
        there = self._reach(source, repository, "ecr:BatchGetImage")
        if isinstance(there, Destination):
            try:
                return await self._installations.manifest(there, reference)
            except (PeerAway, PeerRefused) as error:
                raise _failed(error) from error
        image = self._images.find(repository, reference)
        if image is None or image.archived:
            raise UpstreamFailed(f"{repository.arn} has no image {reference}", unknown=True)
        try:
            data = await self._images.manifest(repository, image.digest)
        except AwsError as error:
            raise UpstreamFailed(error.message) from error
        self._images.pulls.pulled(image, there.principal)
        return image.media_type, data

    @asynccontextmanager
    async def blob(self, source: Source, name: str, digest: str) -> AsyncIterator[tuple[int, AsyncIterable[bytes]]]:
        """See ports.Upstream."""
        repository = _repository(source, name)
        if repository is None:
            async with self._others.blob(source, name, digest) as (size, chunks):
                yield size, chunks
            return
        there = self._reach(source, repository, "ecr:GetDownloadUrlForLayer")
        if not isinstance(there, Destination):
            found = await self._blobs.find(repository, digest)
            if found is None:
                raise UpstreamFailed(f"{repository.arn} has no blob {digest}", unknown=True)
            yield found, stream(self._blobs, repository, digest)
            return
        try:
            async with self._installations.blob(there, digest) as (size, chunks):
                yield size, chunks
        except (PeerAway, PeerRefused) as error:
            raise _failed(error) from error

    def _reach(self, source: Source, repository: RepositoryId, action: str) -> Destination | Asker:
        """Where it is, and who asks there. Raises LoginFailed unless they may: as far as that is decided here."""
        asker = self._asker(source)
        peer = self._peers.at(repository.account, repository.region)
        demand = Demand(action, repository.arn)
        try:
            if peer is not None:
                self._policies.require_own(asker, demand, asker.account, dict)
                return Destination(peer, repository, asker.principal, "pull")
            self._policies.require(asker, demand, repository, dict)
        except AccessDenied as denied:
            raise LoginFailed(denied.message) from denied
        if self._repositories.find(repository) is None:
            raise UpstreamFailed(f"{repository.arn} does not exist", unknown=True)
        return asker

    def _asker(self, source: Source) -> Asker:
        """In whose name the upstream is asked. Raises LoginFailed."""
        if not source.role_arn:
            return Asker(source.account, root_of(source.account))
        try:
            return self._roles.assume(source.role_arn, PULL_THROUGH)
        except AccessDenied as denied:
            raise LoginFailed(denied.message) from denied


def _repository(source: Source, name: str) -> RepositoryId | None:
    place = place_of(source.host)
    return RepositoryId(*place, name) if place is not None else None


def _failed(error: PeerAway | PeerRefused) -> UpstreamFailed:
    if isinstance(error, PeerAway):
        return UpstreamFailed(error.message)
    if is_unknown(error.code):
        return UpstreamFailed(str(error), unknown=True)
    return LoginFailed(str(error))
