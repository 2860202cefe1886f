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
        filters = rule.get("repositoryFilters") or []
        if not filters or any(repository.name.startswith(each["filter"]) for each in filters):
            for each in rule["destinations"]:
                found[RepositoryId(each["registryId"], each["region"], repository.name)] = None
    found.pop(repository, None)
    return list(found)
