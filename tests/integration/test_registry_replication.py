"""Replication between the regions and accounts of one installation."""

from __future__ import annotations

import json

import pytest

from services.registry.decisions.names import RepositoryId
from services.shared.errors import AwsError
from tests.builders.registry import ACCOUNT, REGION, registry_at, small_image, until

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
