"""Repository and registry policies: set, and asked at both doors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from contracts.records.registry import Repository
from services.registry.decisions.access import read_registry_policy, read_repository_policy
from services.registry.decisions.account_settings import scope_covers
from services.registry.decisions.names import RepositoryId, parse_arn
from services.registry.handlers.repositories import Repositories
from services.registry.handlers.settings import Settings
from services.registry.ports import Granter
from services.shared.authorization import Authorization, denied, request_keys
from services.shared.aws.context import RequestContext
from services.shared.policies import ALLOW, IMPLICIT_DENY, Document, Question
from services.shared.policies.demands import Demand, Place, demands
from services.shared.policies.resource_based import RESOURCE_BASED, combined, said

Keys = Callable[[], dict[str, tuple[str, ...]]]

OF_THE_OWNER = frozenset({"ecr:SetRepositoryPolicy", "ecr:GetRepositoryPolicy", "ecr:DeleteRepositoryPolicy"})
"""What the account itself may always do with its repositories: nobody locks himself out."""


class Asker(msgspec.Struct, frozen=True):
    """Who asks. `session` is the access key of a role's session, empty for the account itself. With `role` (an ARN,
    which `principal` is too) it is ECR in that role."""

    account: str
    principal: str
    session: str = ""
    role: str = ""

    @property
    def bounded(self) -> bool:
        """Whether they may do only what policies allow: all but the account itself."""
        return bool(self.session or self.role)


def asker_of(context: RequestContext) -> Asker:
    """Who sent a request to the ECR API."""
    return Asker(context.account, context.principal_arn, context.access_key_id if context.session else "")


def granter_of(context: RequestContext) -> Granter:
    """The same, as who lets the registry use a KMS key."""
    return Granter(context.principal_arn, context.access_key_id if context.session else "")


class Policies:
    """Judges whoever comes to a repository, with the caller's own policies and with the repository's."""

    def __init__(self, authorization: Authorization, repositories: Repositories, settings: Settings) -> None:
        self._authorization = authorization
        self._repositories = repositories
        self._settings = settings

    async def check(self, context: RequestContext, request: Any) -> None:
        """The guard of the ECR API. Raises AccessDenied."""
        asker = asker_of(context)
        for demand in demands(context.api, context.operation, request, Place(context.account, context.region)):
            repository = parse_arn(demand.resource)
            if repository is not None:
                self.require(asker, demand, repository, lambda: request_keys(context))
            else:
                self.require_of(context, demand)

    def require_own(self, asker: Asker, demand: Demand, owner: str, keys: Keys) -> None:
        """Raises AccessDenied unless they may do it with what is their own account's, by their own policies alone."""
        if asker.account != owner:
            raise denied(asker.principal, demand, IMPLICIT_DENY, RESOURCE_BASED)
        if asker.bounded:
            verdict, by = self._identity(asker, demand, keys())
            if verdict != ALLOW:
                raise denied(asker.principal, demand, verdict, by)

    def require_of(self, context: RequestContext, demand: Demand) -> None:
        """Raises AccessDenied unless who sent this request may do it, by their own policies alone."""
        self.require_own(asker_of(context), demand, context.account, lambda: request_keys(context))

    def require(self, asker: Asker, demand: Demand, repository: RepositoryId, keys: Keys) -> None:
        """Raises AccessDenied unless they may do this with the repository, which need not exist."""
        own = asker.account == repository.account
        documents = self._documents(repository, demand.action)
        if own and not asker.bounded and (not documents or demand.action in OF_THE_OWNER):
            return
        verdict, by = self._verdict(asker, demand, own, documents, keys())
        if verdict != ALLOW:
            raise denied(asker.principal, demand, verdict, by)

    def require_import(self, asker: Asker, repository: RepositoryId, keys: Keys) -> None:
        """Raises AccessDenied unless they may have images fetched into a pull-through cache, which makes its repository
        if that is not there."""
        self.require(asker, Demand("ecr:BatchImportUpstreamImage", repository.arn), repository, keys)
        if self._repositories.find(repository) is None:
            self.require(asker, Demand("ecr:CreateRepository", repository.arn), repository, keys)

    def denies_itself(self, asker: Asker, repository: RepositoryId, text: str, keys: Keys) -> bool:
        """Whether with this policy its setter could not set another one."""
        demand = Demand("ecr:SetRepositoryPolicy", repository.arn)
        documents = [read_repository_policy(text)]
        return self._verdict(asker, demand, asker.account == repository.account, documents, keys())[0] != ALLOW

    async def set_repository_policy(self, repository: RepositoryId, text: str) -> Repository:
        """Set it, or with an empty text take it away. Raises RepositoryNotFoundException."""

        def changed(old: Repository) -> Repository:
            return replace(old, policy=text)

        return await self._repositories.change(repository, changed, "repository.policy_changed.v1")

    def _documents(self, repository: RepositoryId, action: str) -> list[Document]:
        record = self._repositories.find(repository)
        settings = self._settings.get(repository.account, repository.region)
        registry = settings.policy if scope_covers(settings.account_settings, action) else ""
        own = [read_repository_policy(record.policy)] if record is not None and record.policy else []
        return [*own, read_registry_policy(registry)] if registry else own

    def _verdict(
        self, asker: Asker, demand: Demand, own: bool, documents: list[Document], keys: dict[str, tuple[str, ...]]
    ) -> tuple[str, str]:
        principal, about = self._authorization.principal(asker.account, asker.principal, asker.session)
        identity = self._identity(asker, demand, keys)
        question = Question(demand.action, demand.resource, {**keys, **about, **demand.context})
        return combined(own, identity, said(documents, principal, question))

    def _identity(self, asker: Asker, demand: Demand, keys: dict[str, tuple[str, ...]]) -> tuple[str, str]:
        """What their own policies say, and which sort of them."""
        if asker.session:
            return self._authorization.verdict(asker.session, demand, keys)
        if asker.role:
            role = self._authorization.role(asker.role)
            return self._authorization.of_role(role, None, demand, keys) if role else (IMPLICIT_DENY, "identity-based")
        return ALLOW, "identity-based"
