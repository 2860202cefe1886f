"""Lifecycle policies, carried out by the registry itself; archived images; when images were pulled."""

from __future__ import annotations

import asyncio
import json

import pytest

from contracts.grants import OPERATOR
from contracts.records.agent import TASK_STATUS, ContainerStatus, TaskStatus
from contracts.records.registry import IMAGE
from services.registry.decisions.names import RepositoryId
from services.shared.clock import ManualClock
from services.shared.errors import AwsError
from services.shared.state import Store
from tests.builders.ecr import Boto, put
from tests.builders.registry import ACCOUNT, REGION, registry_at, small_image
from tests.builders.waiting import until

SHOP = RepositoryId(ACCOUNT, REGION, "shop")
DAY_S = 24 * 3600.0
QUICK = {"lifecycle_delay_s": 0.05, "pull_times_every_s": 0.05}


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
async def registry(nats_platform, tmp_path, clock):
    async with registry_at(nats_platform, tmp_path / "data", clock=clock, **QUICK) as running:
        await running.aws("CreateRepository", repositoryName="shop")
        yield running


def policy(action: str = "expire", **selection) -> str:
    wanted = {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 1} | selection
    done = {"type": action} | ({"targetStorageClass": "archive"} if action == "transition" else {})
    rule = {"rulePriority": 7, "description": "what is too much goes", "selection": wanted, "action": done}
    return json.dumps({"rules": [rule]})


def log_in(registry) -> None:
    """A token that is good by the clock that is now."""
    registry.password = registry.parts.access.issue(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root")[0]


async def pushed(registry, clock, *tags: str) -> list:
    """An image a tag, a day apart."""
    images = []
    for tag in tags:
        log_in(registry)
        image = small_image((tag.encode(),))
        assert (await registry.push_image("shop", image, tag)).status == 201
        images.append(image)
        clock.advance(DAY_S)
    log_in(registry)
    return images


def tags(registry) -> set[str]:
    return {tag for tags in registry.parts.images.tags(SHOP).values() for tag in tags}


async def refused(registry, operation: str, **members) -> str:
    with pytest.raises(AwsError) as error:
        await registry.aws(operation, **members)
    return error.value.code


async def test_what_is_too_much_goes_soon_and_the_events_tell_the_rule(registry, clock, nats_platform):
    await pushed(registry, clock, "1", "2", "3")
    events = await nats_platform.bus(OPERATOR)
    subject = f"events.registry.image.{ACCOUNT}.{REGION}.shop.*"
    heard = await events.client.jetstream().subscribe(subject, stream="EVENTS", ordered_consumer=True)
    text = policy()
    await registry.aws("PutLifecyclePolicy", repositoryName="shop", lifecyclePolicyText=text)
    await until(lambda: tags(registry) == {"3"}, 30)
    causes = []
    while len(causes) < 2:
        headers = (await heard.next_msg(30)).headers
        if headers["Event"] == "image.deleted.v1":
            causes.append(headers["Cause"])
    assert causes == ["lifecycle policy rule 7"] * 2
    await until(lambda: registry.parts.repositories.get(SHOP).lifecycle_evaluated_at, 30)
    got = await registry.aws("GetLifecyclePolicy", repositoryName="shop")
    assert (got.lifecycle_policy_text, got.last_evaluated_at) == (text, clock())


async def test_a_push_is_followed_by_the_policy(registry, clock):
    await registry.aws("PutLifecyclePolicy", repositoryName="shop", lifecyclePolicyText=policy())
    await pushed(registry, clock, "1", "2")
    await until(lambda: tags(registry) == {"2"}, 30)


async def test_the_policy_goes_on_after_a_restart(nats_platform, tmp_path, clock):
    text = policy(countType="sinceImagePushed", countUnit="days", countNumber=3)
    async with registry_at(nats_platform, tmp_path / "data", clock=clock, **QUICK) as first:
        await first.aws("CreateRepository", repositoryName="shop")
        await first.aws("PutLifecyclePolicy", repositoryName="shop", lifecyclePolicyText=text)
        await pushed(first, clock, "1", "2")
        assert tags(first) == {"1", "2"}
    clock.advance(2 * DAY_S)
    async with registry_at(nats_platform, tmp_path / "data", clock=clock, **QUICK) as second:
        await until(lambda: tags(second) == {"2"}, 30)


async def test_an_image_that_a_task_runs_stays_until_the_task_is_over(registry, clock, nats_platform):
    image, *_ = await pushed(registry, clock, "1", "2")
    agent = await Store.open(await nats_platform.bus("agent"), (TASK_STATUS,))
    container = ContainerStatus(
        name="main", image=f"localhost:{registry.port}/shop:moved", image_digest=image.digest, last_status="RUNNING"
    )
    where = {"account": ACCOUNT, "region": REGION, "cluster": "c", "node": "n", "task": "t"}
    await agent.put(TASK_STATUS, TaskStatus(**where, last_status="RUNNING", containers=[container]), "task.running.v1")
    await registry.aws("PutLifecyclePolicy", repositoryName="shop", lifecyclePolicyText=policy())
    await until(lambda: registry.parts.repositories.get(SHOP).lifecycle_evaluated_at, 30)
    assert tags(registry) == {"1", "2"}
    await agent.put(TASK_STATUS, TaskStatus(**where, last_status="STOPPED", containers=[container]), "task.stopped.v1")
    assert await registry.app.lifecycle.evaluate(SHOP) == 1
    assert tags(registry) == {"2"}
    await agent.close()


async def test_an_index_goes_and_then_what_it_named(registry, clock):
    (child,) = await pushed(registry, clock, "child")
    await registry.ask("DELETE", "shop/manifests/child")
    media_type = "application/vnd.oci.image.index.v1+json"
    named = {"mediaType": child.media_type, "digest": child.digest, "size": len(child.manifest)}
    index = json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": [named]})
    assert (await registry.ask("PUT", "shop/manifests/all", index, Content_Type=media_type)).status == 201
    text = policy(countType="sinceImagePushed", countUnit="days", countNumber=1)
    clock.advance(3 * DAY_S)
    await registry.aws("PutLifecyclePolicy", repositoryName="shop", lifecyclePolicyText=text)
    await until(lambda: not registry.parts.images.all(SHOP), 30)


async def test_a_preview_tells_what_would_go_and_takes_nothing(registry, clock):
    one, two, _ = await pushed(registry, clock, "1", "2", "3")
    assert await refused(registry, "StartLifecyclePolicyPreview", repositoryName="shop") == (
        "LifecyclePolicyNotFoundException"
    )
    assert await refused(registry, "GetLifecyclePolicyPreview", repositoryName="shop") == (
        "LifecyclePolicyPreviewNotFoundException"
    )
    await registry.aws("StartLifecyclePolicyPreview", repositoryName="shop", lifecyclePolicyText=policy())
    clock.advance(1)
    await registry.push_image("shop", small_image((b"later",)), "later")
    first = await registry.aws("GetLifecyclePolicyPreview", repositoryName="shop", maxResults=1)
    second = await registry.aws("GetLifecyclePolicyPreview", repositoryName="shop", nextToken=first.next_token)
    found = [*first.preview_results, *second.preview_results]
    assert [(e.image_digest, e.image_tags, e.applied_rule_priority, e.action.type) for e in found] == [
        (one.digest, ["1"], 7, "EXPIRE"),
        (two.digest, ["2"], 7, "EXPIRE"),
    ]
    assert (first.status, first.summary.expiring_image_total_count, second.next_token) == ("COMPLETE", 2, None)
    assert tags(registry) == {"1", "2", "3", "later"}
    clock.advance(2 * DAY_S)
    assert (await registry.aws("GetLifecyclePolicyPreview", repositoryName="shop")).status == "EXPIRED"


async def test_an_archived_image_is_told_but_not_pulled_until_it_is_back(registry, clock):
    (image,) = await pushed(registry, clock, "1")
    text = policy("transition", countType="sinceImagePulled", countUnit="days")
    clock.advance(DAY_S)
    log_in(registry)
    await registry.aws("PutLifecyclePolicy", repositoryName="shop", lifecyclePolicyText=text)
    await until(lambda: registry.parts.images.find(SHOP, "1").archived, 30)
    assert (await registry.ask("GET", "shop/manifests/1")).said == (404, "MANIFEST_UNKNOWN")
    got = await registry.aws("BatchGetImage", repositoryName="shop", imageIds=[{"imageTag": "1"}])
    assert [each.failure_code for each in got.failures] == ["ImageNotFound"]
    for status, count in (("ACTIVE", 0), ("ARCHIVED", 1), ("ANY", 1)):
        listed = await registry.aws("ListImages", repositoryName="shop", filter={"imageStatus": status})
        assert len(listed.image_ids) == count
    told = {"repositoryName": "shop", "imageId": {"imageTag": "1"}, "targetStorageClass": "STANDARD"}
    assert (await registry.aws("UpdateImageStorageClass", **told)).image_status == "ACTIVE"
    assert (await registry.ask("GET", "shop/manifests/1")).status == 200
    (detail,) = (await registry.aws("DescribeImages", repositoryName="shop")).image_details
    assert (detail.image_status, detail.last_activated_at) == ("ACTIVE", clock())
    assert detail.last_archived_at == clock()
    assert image.digest == detail.image_digest


async def test_pulls_are_told_at_once_and_written_together(registry, clock, nats_platform):
    await pushed(registry, clock, "1")
    before = registry.app._store.table(IMAGE).get(ACCOUNT, REGION, "shop", _digest(registry)).sequence
    for _ in range(20):
        assert (await registry.ask("GET", "shop/manifests/1")).status == 200
    (detail,) = (await registry.aws("DescribeImages", repositoryName="shop")).image_details
    assert detail.last_recorded_pull_time == clock()
    await until(lambda: registry.parts.images.find(SHOP, "1").pulled_at == clock(), 30)
    written = registry.app._store.table(IMAGE).get(ACCOUNT, REGION, "shop", _digest(registry)).sequence - before
    assert 1 <= written < 20


def _digest(registry) -> str:
    return registry.parts.images.find(SHOP, "1").digest


async def test_pulls_of_an_excluded_principal_leave_no_mark(registry, clock):
    await pushed(registry, clock, "1")
    arn = f"arn:aws:iam::{ACCOUNT}:role/Scan"
    await registry.aws("RegisterPullTimeUpdateExclusion", principalArn=arn)
    again = {"principalArn": arn}
    assert await refused(registry, "RegisterPullTimeUpdateExclusion", **again) == "ExclusionAlreadyExistsException"
    listed = await registry.aws("ListPullTimeUpdateExclusions")
    assert listed.pull_time_update_exclusions == [arn]
    image = registry.parts.images.find(SHOP, "1")
    registry.parts.images.pulls.pulled(image, f"arn:aws:sts::{ACCOUNT}:assumed-role/Scan/s")
    assert registry.parts.images.pulled_at(image) == 0
    await registry.aws("DeregisterPullTimeUpdateExclusion", principalArn=arn)
    assert await refused(registry, "DeregisterPullTimeUpdateExclusion", **again) == "ExclusionNotFoundException"
    registry.parts.images.pulls.pulled(image, f"arn:aws:sts::{ACCOUNT}:assumed-role/Scan/s")
    assert registry.parts.images.pulled_at(image) == clock()


async def test_boto3_sets_previews_and_deletes_a_policy(nats_platform, tmp_path):
    async with registry_at(nats_platform, tmp_path / "data") as registry:
        ecr = Boto(registry.port)
        await ecr.create_repository(repositoryName="shop")
        await put(ecr, "shop", small_image((b"1",)), "1")
        await put(ecr, "shop", small_image((b"2",)), "2")
        bad = policy(countNumber=0)
        assert await ecr.refused("put_lifecycle_policy", repositoryName="shop", lifecyclePolicyText=bad) == (
            "InvalidParameterException"
        )
        assert "LifecyclePolicyText" in ecr.message and "countNumber" in ecr.message
        await ecr.start_lifecycle_policy_preview(repositoryName="shop", lifecyclePolicyText=policy())
        waiter = ecr.client.get_waiter("lifecycle_policy_preview_complete")
        await asyncio.to_thread(waiter.wait, repositoryName="shop")
        (result,) = (await ecr.get_lifecycle_policy_preview(repositoryName="shop"))["previewResults"]
        assert (result["imageTags"], result["action"]) == (["1"], {"type": "EXPIRE"})
        assert await ecr.refused("get_lifecycle_policy", repositoryName="shop") == "LifecyclePolicyNotFoundException"
        await ecr.put_lifecycle_policy(repositoryName="shop", lifecyclePolicyText=policy(countNumber=9))
        deleted = await ecr.delete_lifecycle_policy(repositoryName="shop")
        assert deleted["lifecyclePolicyText"] == policy(countNumber=9)
        assert await ecr.refused("delete_lifecycle_policy", repositoryName="shop") == "LifecyclePolicyNotFoundException"
