"""Rules of pull-through caches and templates of repositories: kept, and found for a repository."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from contracts.kinds import Kind
from contracts.records.registry import CREATION_TEMPLATE, PULL_THROUGH_RULE, CreationTemplate, PullThroughRule
from services.registry.decisions.names import RepositoryId
from services.registry.decisions.upstream import longest_prefix
from services.registry.handlers import errors
from services.registry.handlers.policies import Policies
from services.registry.handlers.repositories import Repositories
from services.registry.handlers.roles import TEMPLATES, Roles, in_role
from services.shared.errors import AwsError
from services.shared.policies.demands import Demand
from services.shared.state import Change, Conflict, Store

R = TypeVar("R", PullThroughRule, CreationTemplate)
_Missing = Callable[[str, str], AwsError]


class Prefixed:
    """Rules and templates of all registries, each by its prefix."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._found: dict[Kind[object], dict[tuple[str, str], dict[str, object]]] = {}
        for kind in (PULL_THROUGH_RULE, CREATION_TEMPLATE):
            for entry in store.table(kind).entries():
                self._heard(Change(kind, kind.key_of(entry.record), None, entry))
        store.listen(self._heard)

    def _heard(self, change: Change) -> None:
        if change.kind not in (PULL_THROUGH_RULE, CREATION_TEMPLATE):
            return
        account, region, prefix = change.key
        held = self._found.setdefault(change.kind, {}).setdefault((account, region), {})
        held.pop(prefix, None)
        if change.new is not None:
            held[prefix] = change.new.record

    def all(self, kind: Kind[R], account: str, region: str) -> list[R]:
        """Those of one registry, in no order."""
        return self._store.table(kind).records(account, region)

    def get(self, kind: Kind[R], account: str, region: str, prefix: str) -> R:
        """The one with this very prefix. Raises …NotFoundException."""
        found = self._store.table(kind).record(account, region, prefix)
        if found is None:
            raise _missing(kind)(prefix, account)
        return found

    def rule(self, repository: RepositoryId) -> PullThroughRule | None:
        """The rule under which a repository is a cache. Asked at every pull, so a registry without rules costs a
        look into a dictionary."""
        held = self._found.get(PULL_THROUGH_RULE, {}).get((repository.account, repository.region))
        prefix = longest_prefix(repository.name, held) if held else None
        found = held[prefix] if held and prefix else None
        return found if isinstance(found, PullThroughRule) else None

    def template(self, repository: RepositoryId, purpose: str) -> CreationTemplate | None:
        """The template of the longest prefix among those that hold for `purpose`."""
        every = self.all(CREATION_TEMPLATE, repository.account, repository.region)
        fitting = {each.prefix: each for each in every if purpose in each.applied_for}
        prefix = longest_prefix(repository.name, fitting)
        return fitting[prefix] if prefix else None

    async def create(self, kind: Kind[R], record: R) -> None:
        """Keep a new one. Raises …AlreadyExistsException."""
        exists = errors.rule_exists if kind is PULL_THROUGH_RULE else errors.template_exists
        if self._store.table(kind).record(record.account, record.region, record.prefix) is not None:
            raise exists(record.prefix, record.account)
        try:
            await self._store.put(kind, record, f"{kind.name}.created.v1", expect=0)
        except Conflict:
            raise exists(record.prefix, record.account) from None

    async def change(self, kind: Kind[R], account: str, region: str, prefix: str, change: Callable[[R], R]) -> R:
        """Change one with one write. Raises …NotFoundException."""

        def changed(old: R | None) -> R:
            if old is None:
                raise _missing(kind)(prefix, account)
            return change(old)

        record = await self._store.update(kind, (account, region, prefix), changed, f"{kind.name}.updated.v1")
        assert record is not None
        return record

    async def delete(self, kind: Kind[R], account: str, region: str, prefix: str) -> R:
        """Drop one; what it was. Raises …NotFoundException."""
        record = self.get(kind, account, region, prefix)
        await self._store.delete(kind, (account, region, prefix), f"{kind.name}.deleted.v1")
        return record


class ByTemplate:
    """Makes repositories that nobody made by hand, as their templates say."""

    def __init__(self, repositories: Repositories, prefixed: Prefixed, policies: Policies, roles: Roles) -> None:
        self._repositories = repositories
        self._prefixed = prefixed
        self._policies = policies
        self._roles = roles

    async def create(self, repository: RepositoryId, purpose: str) -> None:
        """Make a repository, by a template if there is one; nothing when it is there. Raises AccessDenied when the
        template's role can't be assumed, or may not do it."""
        if self._repositories.find(repository) is not None:
            return
        template = self._prefixed.template(repository, purpose)
        settings, tags, policy, lifecycle = {}, {}, "", ""
        granter = None
        if template is not None:
            settings, tags, policy, lifecycle = template.settings, template.tags, template.policy, template.lifecycle
            self._require(template, repository)
            granter = in_role(template.role_arn) if template.role_arn else None
        try:
            await self._repositories.create(repository, settings, tags, policy, lifecycle, granter)
        except AwsError as error:
            if error.code != "RepositoryAlreadyExistsException":
                raise

    def _require(self, template: CreationTemplate, repository: RepositoryId) -> None:
        """https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-creation-templates-custom.html"""
        if not template.role_arn:
            return
        asker = self._roles.assume(template.role_arn, TEMPLATES)
        demands = {"ecr:CreateRepository": True, "ecr:TagResource": bool(template.tags)}
        demands |= {
            "ecr:SetRepositoryPolicy": bool(template.policy),
            "ecr:PutLifecyclePolicy": bool(template.lifecycle),
        }
        for action, needed in demands.items():
            if needed:
                self._policies.require_own(asker, Demand(action, repository.arn), repository.account, dict)


def _missing(kind: Kind[R]) -> _Missing:
    return errors.rule_not_found if kind is PULL_THROUGH_RULE else errors.template_not_found
