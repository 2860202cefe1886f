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
    return targets_since(rules, repository, {}, 0.0, 0.0)


def targets_since(
    rules: Iterable[Mapping[str, Any]],
    repository: RepositoryId,
    since: Mapping[str, float],
    at: float,
    pushed_at: float,
) -> list[RepositoryId]:
    """The same for an image that was pushed at some time: by what the rules said then. `since` as `held_since` gives
    it; what is not in it holds since `at`."""
    found: dict[RepositoryId, None] = {}
    for key, (account, region, prefix) in _parts(rules).items():
        if repository.name.startswith(prefix) and pushed_at >= since.get(key, at):
            found[RepositoryId(account, region, repository.name)] = None
    found.pop(repository, None)
    return list(found)


def held_since(
    rules: Iterable[Mapping[str, Any]], before: Iterable[Mapping[str, Any]], since: Mapping[str, float], at: float,
    now: float,
) -> dict[str, float]:  # fmt: skip
    """Since when each part of the rules holds (a destination and a prefix): what they said `before` too holds since it
    did, so that what is on its way does not get lost when something else is changed."""
    known = _parts(before)
    return {key: since.get(key, at) if key in known else now for key in _parts(rules)}


def _parts(rules: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, str, str]]:
    """(account, region, prefix) of each, by a name of its own."""
    return {
        f"{each['registryId']}/{each['region']}/{prefix}": (each["registryId"], each["region"], prefix)
        for rule in rules
        for each in rule["destinations"]
        for prefix in [one["filter"] for one in rule.get("repositoryFilters") or []] or [""]
    }


def deletes(rules: Iterable[Mapping[str, Any]], repository: RepositoryId, target: RepositoryId) -> bool:
    """Whether what is deleted from a repository is to be deleted from this one too."""
    return target in targets(
        [rule for rule in rules if (rule.get("deleteReplication") or {}).get("enabled")], repository
    )
