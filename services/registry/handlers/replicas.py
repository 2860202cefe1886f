"""What a registry says to what is replicated into it, from wherever: its policy, and how a repository comes to be."""

from __future__ import annotations

from services.registry.decisions.names import RepositoryId, root_of
from services.registry.handlers.policies import Asker, Policies
from services.registry.handlers.repositories import Repositories
from services.registry.handlers.templates import ByTemplate
from services.shared.policies.demands import Demand

REPLICATE, CREATE = "ecr:ReplicateImage", "ecr:CreateRepository"


class Replicas:
    """Lets replication in. https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry-permissions.html: another
    account's registry policy must allow it; within an account nothing need be allowed."""

    def __init__(self, repositories: Repositories, policies: Policies, by_template: ByTemplate) -> None:
        self._repositories = repositories
        self._policies = policies
        self._by_template = by_template

    def require(self, account: str, target: RepositoryId, action: str = REPLICATE) -> None:
        """Raises AccessDenied unless the target's registry lets this account do it."""
        if account != target.account:
            asker = Asker(account, root_of(account))
            self._policies.require(asker, Demand(action, target.arn), target, dict)

    async def make(self, account: str, target: RepositoryId) -> None:
        """See to it that the repository is there. Raises AccessDenied."""
        self.require(account, target)
        if self._repositories.find(target) is None:
            self.require(account, target, CREATE)
            await self._by_template.create(target, "REPLICATION")
