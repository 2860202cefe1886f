"""Replication between the regions and accounts of one installation."""

from __future__ import annotations

import json
import time
import uuid

import pytest
from msgspec.structs import replace

from contracts.records.registry import BACKFILL, BACKFILL_RESULT, Backfill, BackfillResult
from services.registry.decisions.names import RepositoryId
from services.shared.errors import AwsError
from tests.builders.registry import ACCOUNT, REGION, registry_at, small_image
from tests.builders.waiting import until

OTHER = "999999999999"
SHOP, THERE, THEIRS = (
    RepositoryId(ACCOUNT, REGION, "shop"),
    RepositoryId(ACCOUNT, "eu-west-1", "shop"),
    RepositoryId(OTHER, REGION, "shop"),
)


@pytest.fixture
async def registry(nats_platform, tmp_path):
    async with registry_at(nats_platform, tmp_path / "data") as running:
        await running.aws("CreateRepository", repositoryName="shop")
        yield running


def rules(*targets: RepositoryId, prefix: str = "") -> dict:
    rule = {"destinations": [{"region": each.region, "registryId": each.account} for each in targets]}
    if prefix:
        rule["repositoryFilters"] = [{"filter": prefix, "filterType": "PREFIX_MATCH"}]
    return {"rules": [rule]}


async def status(registry, tag: str) -> list[tuple[str, str, str | None]]:
    asked = {"repositoryName": "shop", "imageId": {"imageTag": tag}}
    found = await registry.aws("DescribeImageReplicationStatus", **asked)
    return [(each.region, each.status, each.failure_code) for each in found.replication_statuses]


async def test_what_is_pushed_after_the_rules_is_there_with_its_blobs_and_not_sent_on(registry):
    find = registry.parts.images.find
    await registry.push_image("shop", small_image((b"before",)), "before")
    await registry.aws("PutReplicationConfiguration", replicationConfiguration=rules(THERE, prefix="sh"))
    await registry.aws("PutReplicationConfiguration", region="eu-west-1", replicationConfiguration=rules(SHOP, THEIRS))
    shown = (await registry.aws("DescribeRegistry")).replication_configuration.rules
    assert [each.destinations[0].region for each in shown] == ["eu-west-1"]
    image = small_image((b"after",))
    await registry.push_image("shop", image, "after")
    await until(lambda: find(THERE, "after"), 30)
    for digest, data in image.blobs.items():
        path = f"{ACCOUNT}.eu-west-1/shop/blobs/{digest}"
        assert (await registry.ask("GET", path)).body == data
    assert await status(registry, "after") == [("eu-west-1", "COMPLETE", None)]
    assert await status(registry, "before") == []
    assert find(THERE, "before") is None and find(THEIRS, "after") is None
    await registry.aws("BatchDeleteImage", repositoryName="shop", imageIds=[{"imageTag": "after"}])
    assert find(THERE, "after").digest == image.digest


async def test_another_account_must_allow_it(registry):
    await registry.aws("PutReplicationConfiguration", replicationConfiguration=rules(THEIRS))
    await registry.push_image("shop", small_image((b"1",)), "1")
    await until(lambda: registry.app._replication._failed, 30)
    assert await status(registry, "1") == [(REGION, "FAILED", "AccessDeniedException")]
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": ACCOUNT},
        "Action": ["ecr:ReplicateImage", "ecr:CreateRepository"],
        "Resource": f"arn:aws:ecr:{REGION}:{OTHER}:repository/*",
    }
    text = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    await registry.aws("PutRegistryPolicy", account=OTHER, policyText=text)
    await registry.push_image("shop", small_image((b"2",)), "2")
    await until(lambda: registry.parts.images.find(THEIRS, "2"), 30)
    assert await status(registry, "2") == [(REGION, "COMPLETE", None)]


async def test_a_registry_is_not_its_own_destination(registry):
    with pytest.raises(AwsError) as refused:
        await registry.aws("PutReplicationConfiguration", replicationConfiguration=rules(SHOP))
    assert refused.value.code == "InvalidParameterException"


async def ended(registry, backfill_id: str) -> object:
    asked = {"replicationBackfillId": backfill_id}

    async def over() -> bool:
        told = await registry.aws("DescribeReplicationBackfillResults", **asked)
        return told.status in ("COMPLETE", "STOPPED", "FAILED")

    await until(over, 30)
    return await registry.aws("DescribeReplicationBackfillResults", **asked)


def to(target: RepositoryId) -> dict:
    return {"destination": {"region": target.region, "registryId": target.account}}


def rows(told) -> set[tuple]:
    ids = ((each.image_id, each) for each in told.results)
    return {(i.image_digest, i.image_tag, each.status, each.failure_code) for i, each in ids}


async def test_a_backfill_brings_what_was_pushed_before_the_rules(registry):
    one, two, bare = small_image((b"one",)), small_image((b"two",)), small_image((b"bare",))
    for tag, image in (("1", one), ("also", one), ("2", two)):
        await registry.push_image("shop", image, tag)
    await registry.push_image("shop", bare, bare.digest)
    await registry.aws("PutReplicationConfiguration", replicationConfiguration=rules(THERE, THEIRS))
    started = await registry.aws("StartReplicationBackfill", **to(THERE))
    assert (started.status, started.destination.region) == ("PREPARING", "eu-west-1")
    told = await ended(registry, started.replication_backfill_id)
    assert (told.status, told.progress.total_replication_count) == ("COMPLETE", 4)
    assert (told.progress.completed_replication_count, told.progress.failed_replication_count) == (4, 0)
    assert rows(told) == {
        (one.digest, "1", "COMPLETE", None),
        (one.digest, "also", "COMPLETE", None),
        (two.digest, "2", "COMPLETE", None),
        (bare.digest, None, "COMPLETE", None),
    }
    find = registry.parts.images.find
    assert [find(THERE, tag).digest for tag in ("1", "also", "2")] == [one.digest, one.digest, two.digest]
    assert find(THERE, bare.digest).replica
    for digest, data in one.blobs.items():
        assert (await registry.ask("GET", f"{ACCOUNT}.eu-west-1/shop/blobs/{digest}")).body == data
    assert find(THEIRS, "1") is None
    refused = await registry.aws("StartReplicationBackfill", **to(THEIRS))  # their registry policy allows nothing
    told = await ended(registry, refused.replication_backfill_id)
    assert (told.status, told.progress.failed_replication_count) == ("COMPLETE", 4)
    assert told.progress.failure_codes == ["AccessDeniedException"]
    asked = {"replicationBackfillId": refused.replication_backfill_id, "resultStatusFilter": "COMPLETE"}
    assert (await registry.aws("DescribeReplicationBackfillResults", **asked)).results == []
    listed = (await registry.aws("ListReplicationBackfills", maxResults=1)).backfills
    more = (await registry.aws("ListReplicationBackfills")).backfills
    assert (len(listed), {each.replication_backfill_id for each in more}) == (
        1,
        {started.replication_backfill_id, refused.replication_backfill_id},
    )
    with pytest.raises(AwsError) as over:
        await registry.aws("StopReplicationBackfill", replicationBackfillId=started.replication_backfill_id)
    assert over.value.code == "ReplicationBackfillInvalidStatusException"


async def test_a_backfill_needs_a_destination_of_the_rules_and_can_be_named(registry):
    with pytest.raises(AwsError) as caught:
        await registry.aws("StartReplicationBackfill", **to(THERE))
    assert caught.value.code == "InvalidParameterException"
    for operation in ("StopReplicationBackfill", "DescribeReplicationBackfillResults"):
        with pytest.raises(AwsError) as caught:
            await registry.aws(operation, replicationBackfillId="0" * 8 + "-0000-0000-0000-" + "0" * 12)
        assert caught.value.code == "ReplicationBackfillNotFoundException"


async def test_a_backfill_that_broke_off_is_gone_on_with_and_one_that_is_stopped_brings_no_more(
    nats_platform, tmp_path
):
    async with registry_at(nats_platform, tmp_path / "again") as registry:
        await registry.aws("CreateRepository", repositoryName="shop")
        image, gone = small_image((b"one",)), small_image((b"two",))
        await registry.push_image("shop", image, "1")
        await registry.push_image("shop", gone, "2")
        await registry.aws("PutReplicationConfiguration", replicationConfiguration=rules(THERE))
        left = Backfill(
            account=ACCOUNT, region=REGION, id=str(uuid.uuid4()), to_account=ACCOUNT, to_region="eu-west-1",
            started_at=time.time(), status="IN_PROGRESS", total=2,
        )  # fmt: skip
        done = BackfillResult(
            account=ACCOUNT, region=REGION, backfill=left.id, repository="shop", digest=gone.digest,
            outcomes={"2": "AccessDeniedException"},
        )  # fmt: skip
        store = registry.app._store
        await store.put(BACKFILL_RESULT, done, "backfill_result.recorded.v1")
        await store.put(BACKFILL, left, "backfill.prepared.v1")  # as a process that ended would have left them
        told = await ended(registry, left.id)
        assert rows(told) == {
            (image.digest, "1", "COMPLETE", None),
            (gone.digest, "2", "FAILED", "AccessDeniedException"),
        }
        find = registry.parts.images.find
        assert find(THERE, "1").digest == image.digest and find(THERE, "2") is None
        stopping = replace(left, id=str(uuid.uuid4()), status="STOPPING")
        await store.put(BACKFILL, stopping, "backfill.stopping.v1")
        assert (await ended(registry, stopping.id)).status == "STOPPED"
        assert find(THERE, "2") is None


async def test_a_backfill_in_which_something_unforeseen_happens_has_failed_and_the_next_one_runs(registry, monkeypatch):
    await registry.push_image("shop", small_image(), "1")
    await registry.aws("PutReplicationConfiguration", replicationConfiguration=rules(THERE))

    async def broken(*_):
        raise RuntimeError("unforeseen")

    with monkeypatch.context() as patched:
        patched.setattr(registry.app._replication, "bring", broken)
        started = await registry.aws("StartReplicationBackfill", **to(THERE))
        told = await ended(registry, started.replication_backfill_id)
    assert (told.status, told.failure_code, told.progress.completed_replication_count) == (
        "FAILED",
        "ServerException",
        0,
    )
    started = await registry.aws("StartReplicationBackfill", **to(THERE))
    assert (await ended(registry, started.replication_backfill_id)).status == "COMPLETE"
