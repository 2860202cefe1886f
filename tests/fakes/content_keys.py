"""Keys of repositories, without KMS: one for all, and others for those that are given one."""

from __future__ import annotations

from services.registry.decisions.names import RepositoryId
from services.registry.ports import ContentKey, KeyRefused

OWN = ContentKey(bytes(16), bytes(range(32)))


class FakeKeys:
    """A ContentKeys. What is in `refused` may not be used."""

    def __init__(self) -> None:
        self.keys: dict[RepositoryId, ContentKey] = {}
        self.refused: set[RepositoryId] = set()
        self.sealed = True

    def give(self, repository: RepositoryId, number: int) -> None:
        """Give a repository a key of its own."""
        self.keys[repository] = ContentKey(bytes([number]) * 16, bytes([number]) * 32)

    def id_of(self, repository: RepositoryId) -> bytes:
        """See ports.ContentKeys."""
        return self.keys.get(repository, OWN).id

    def seals(self, repository: RepositoryId) -> bool:
        """See ports.ContentKeys."""
        return self.sealed or repository in self.keys

    async def of(self, repository: RepositoryId) -> ContentKey:
        """See ports.ContentKeys."""
        if repository in self.refused:
            raise KeyRefused(repository, "DisabledException", "the key is disabled")
        return self.keys.get(repository, OWN)
