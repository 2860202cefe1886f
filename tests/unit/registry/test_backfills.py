"""Replication backfills: when they may start, what they consist of, how far they are."""

from __future__ import annotations

import pytest

from contracts.records.registry import Backfill, BackfillResult, Descriptor, Image
from services.registry.decisions.backfills import (
    KEPT_S,
    Progress,
    Refused,
    check_start,
    concerned,
    forgotten,
    progress,
    target_of,
)
from services.registry.decisions.names import RepositoryId

SHOP = RepositoryId("1", "here", "shop")
RULES = [
    {
        "destinations": [{"registryId": "1", "region": "there"}, {"registryId": "2", "region": "here"}],
        "repositoryFilters": [{"filter": "sh", "filterType": "PREFIX_MATCH"}],
    }
]


def backfill(**members) -> Backfill:
    told = {"account": "1", "region": "here", "id": "b", "to_account": "1", "to_region": "there", "started_at": 100.0}
    return Backfill(**{**told, **members})


def image(digest: str, **members) -> Image:
    told = {"account": "1", "region": "here", "repository": "shop", "media_type": "m", "manifest_size": 1}
    return Image(**{**told, "digest": digest, "pushed_at": 50.0, **members})


def result(digest: str, **outcomes: str) -> BackfillResult:
    return BackfillResult(account="1", region="here", backfill="b", repository="shop", digest=digest, outcomes=outcomes)


@pytest.mark.parametrize(
    ("to", "others", "code"),
    [
        (("1", "there"), [], None),
        (("1", "there"), [backfill(status="COMPLETE"), backfill(to_region="here", status="STOPPING")], None),
        (("1", "here"), [], "InvalidParameterException"),
        (("2", "here"), [backfill(to_region="here")], "ReplicationBackfillInProgressException"),
        (("1", "there"), [backfill(to_region=f"r{n}") for n in range(10)], "LimitExceededException"),
        (("1", "there"), [backfill(to_region=f"r{n}") for n in range(9)], None),
    ],
)
def test_when_one_may_start(to, others, code):
    if code is None:
        check_start(RULES, others, *to)
        return
    with pytest.raises(Refused) as refused:
        check_start(RULES, others, *to)
    assert refused.value.code == code


def test_images_that_were_there_and_have_no_result_are_left_indexes_last():
    child = Descriptor(digest="b", size=1)
    index = image("a", manifests=[child])
    images = [index, image("b"), image("late", pushed_at=101.0), image("copy", replica=True), image("done")]
    assert [each.digest for each in concerned(images, [result("done", tag="")], backfill())] == ["b", "a"]


def test_where_a_repository_goes():
    assert target_of(RULES, SHOP, backfill()) == RepositoryId("1", "there", "shop")
    assert target_of(RULES, RepositoryId("1", "here", "bank"), backfill()) is None
    assert target_of(RULES, SHOP, backfill(to_region="elsewhere")) is None


def test_how_far_it_is():
    results = [result("a", x="", y="B"), result("b", z="A"), result("c", w="B")]
    assert progress(backfill(total=5), results) == Progress(5, 1, 3, ["A", "B"])
    assert progress(backfill(), []) is None


def test_one_is_told_of_for_ninety_days_after_it_ended():
    over = backfill(status="STOPPED", ended_at=10.0)
    assert [forgotten(over, 10.0 + KEPT_S + past) for past in (0.0, 1.0)] == [False, True]
    assert not forgotten(backfill(), 1e12)
