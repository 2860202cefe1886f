"""Replication backfills: what they consist of, when one may start, and how far it is.

https://docs.aws.amazon.com/AmazonECR/latest/userguide/replication.html, and the API's model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from contracts.records.registry import Backfill, BackfillResult, Image
from services.registry.decisions.names import RepositoryId
from services.registry.decisions.replication import targets

ENDED = frozenset({"COMPLETE", "FAILED", "STOPPED"})
KEPT_S = 90 * 24 * 3600.0
"""How long one is told of when it has ended."""
AT_ONCE = 10


class Progress(msgspec.Struct, frozen=True):
    """Counts of replications, and the codes of those that failed, sorted."""

    total: int
    completed: int
    failed: int
    codes: list[str]


class Refused(Exception):
    """It can't start. `code` is ECR's error."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def check_start(
    rules: Iterable[Mapping[str, Any]], others: Iterable[Backfill], to_account: str, to_region: str
) -> None:
    """Raises Refused unless the rules have this destination and no backfill of the registry stands in the way."""
    destinations = [(each["registryId"], each["region"]) for rule in rules for each in rule["destinations"]]
    if (to_account, to_region) not in destinations:
        raise Refused(
            "InvalidParameterException",
            f"the replication configuration has no destination {to_account} in {to_region}",
        )
    going_on = [each for each in others if each.status not in ENDED]
    if any(each.to_region == to_region for each in going_on):
        raise Refused(
            "ReplicationBackfillInProgressException", f"A replication backfill to {to_region} is in progress already"
        )
    if len(going_on) >= AT_ONCE:
        raise Refused("LimitExceededException", f"There can't be more than {AT_ONCE} replication backfills in progress")


def target_of(rules: Iterable[Mapping[str, Any]], repository: RepositoryId, backfill: Backfill) -> RepositoryId | None:
    """Where a backfill brings the images of a repository; None when no rule sends them to its destination."""
    wanted = RepositoryId(backfill.to_account, backfill.to_region, repository.name)
    return wanted if wanted in targets(rules, repository) else None


def concerned(images: Iterable[Image], done: Iterable[BackfillResult], backfill: Backfill) -> list[Image]:
    """The images that are left: there when it was started, no replicas, without a result; what is named before what
    names it."""
    over = {(each.repository, each.digest) for each in done}
    left = [
        each
        for each in images
        if each.pushed_at <= backfill.started_at
        and not (each.replica or each.attached)
        and (each.repository, each.digest) not in over
    ]
    return sorted(left, key=lambda each: (bool(each.manifests), each.pushed_at, each.repository, each.digest))


def progress(backfill: Backfill, results: Iterable[BackfillResult]) -> Progress | None:
    """How far it is; None while it is not known of how many replications it consists."""
    if backfill.total < 0:
        return None
    codes = [code for each in results for code in each.outcomes.values()]
    failed = sorted({code for code in codes if code})
    return Progress(backfill.total, codes.count(""), len(codes) - codes.count(""), failed)


def forgotten(backfill: Backfill, now: float) -> bool:
    """Whether it ended so long ago that it is told of no more."""
    return backfill.status in ENDED and backfill.ended_at + KEPT_S < now
