"""Where images are replicated to.

https://docs.aws.amazon.com/AmazonECR/latest/userguide/replication.html: what was replicated is not replicated again,
and only what was pushed after the rules were set is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from services.registry.decisions.names import RepositoryId, valid_region

MAX_DESTINATIONS = 25


class BadReplication(ValueError):
    """The rules can't be; the message says why."""


def check_replication(rules: list[dict[str, Any]], account: str, region: str) -> None:
    """Raises BadReplication."""
    found = [(each["region"], each["registryId"]) for rule in rules for each in rule["destinations"]]
    if (region, account) in found:
        raise BadReplication("a registry can't be its own destination")
    for place, _ in found:
        if not valid_region(place):
            raise BadReplication(f"'{place}' is no region")
    if len(set(found)) > MAX_DESTINATIONS:
        raise BadReplication(f"there can't be more than {MAX_DESTINATIONS} destinations")


def targets(rules: Iterable[Mapping[str, Any]], repository: RepositoryId) -> list[RepositoryId]:
    """The repositories that one is replicated to: those of all rules of which a prefix fits, or that have none."""
    found: dict[RepositoryId, None] = {}
    for rule in rules:
        if _is_for(rule, repository):
            found.update(dict.fromkeys(_destinations(rule, repository)))
    found.pop(repository, None)
    return list(found)


def deletes(rules: Iterable[Mapping[str, Any]], repository: RepositoryId, target: RepositoryId) -> bool:
    """Whether what is deleted from a repository is to be deleted from this one too."""
    return any(
        (rule.get("deleteReplication") or {}).get("enabled")
        and _is_for(rule, repository)
        and target in _destinations(rule, repository)
        for rule in rules
    )


def _is_for(rule: Mapping[str, Any], repository: RepositoryId) -> bool:
    filters = rule.get("repositoryFilters") or []
    return not filters or any(repository.name.startswith(each["filter"]) for each in filters)


def _destinations(rule: Mapping[str, Any], repository: RepositoryId) -> list[RepositoryId]:
    return [RepositoryId(each["registryId"], each["region"], repository.name) for each in rule["destinations"]]
