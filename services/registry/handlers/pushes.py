"""Repositories that a push makes, where a creation template says so (CREATE_ON_PUSH).

https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-creation-templates.html
"""

from __future__ import annotations

from services.registry.decisions.names import RepositoryId
from services.registry.handlers.policies import Asker, Keys, Policies
from services.registry.handlers.repositories import Repositories
from services.registry.handlers.templates import ByTemplate, Prefixed
from services.shared.policies.demands import Demand

PURPOSE = "CREATE_ON_PUSH"


class Pushes:
    """Asked when something is to be pushed."""

    def __init__(
        self, repositories: Repositories, prefixed: Prefixed, policies: Policies, by_template: ByTemplate
    ) -> None:
        self._repositories = repositories
        self._prefixed = prefixed
        self._policies = policies
        self._by_template = by_template

    async def make(self, repository: RepositoryId, asker: Asker, keys: Keys) -> None:
        """See to it that the repository is there. Raises RepositoryNotFoundException when no template makes it, and
        AccessDenied unless who pushes may create it."""
        if self._repositories.find(repository) is not None:
            return
        if self._prefixed.template(repository, PURPOSE) is not None:
            self._policies.require(asker, Demand("ecr:CreateRepository", repository.arn), repository, keys)
            await self._by_template.create(repository, PURPOSE)
        self._repositories.get(repository)
