"""Pull-through caches: fetched once, streamed, verified, looked up once a day, and served when the upstream is away."""

from __future__ import annotations

import asyncio
import json
import os
import time

import aiohttp
import pytest

from contracts.rpc.registry import IssuePullToken
from services.registry.decisions.names import RepositoryId
from services.shared.errors import AwsError
from tests.builders.images import BuiltImage, digest_of
from tests.builders.registry import ACCOUNT, REGION, descriptor, registry_at, small_image
from tests.builders.seaweed import EACH_STORAGE
from tests.builders.waiting import until
from tests.fakes.image_registry import ImageRegistry

CACHED = RepositoryId(ACCOUNT, REGION, "hub/library/app")
APP = "hub/library/app"
INDEX = "application/vnd.oci.image.index.v1+json"


class Clock:
    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def upstream():
    async with ImageRegistry() as running:
        yield running


@pytest.fixture
async def registry(nats_platform, tmp_path, clock, upstream, kept):
    async with registry_at(nats_platform, tmp_path / "data", clock=clock) as running:
        await running.aws("CreatePullThroughCacheRule", ecrRepositoryPrefix="hub", upstreamRegistryUrl=upstream.host)
        yield running


async def pulled(registry, tag: str, image: BuiltImage) -> None:
    answer = await registry.ask("GET", f"{APP}/manifests/{tag}")
    assert (answer.status, answer.body) == (200, image.manifest), answer
    for digest, data in image.blobs.items():
        answer = await registry.ask("GET", f"{APP}/blobs/{digest}")
        assert (answer.status, answer.body) == (200, data)


async def stored(registry, reference: str) -> None:
    await until(lambda: registry.parts.images.find(CACHED, reference), 30)


def ahead(registry, clock: Clock, hours: float) -> None:
    clock.ahead = hours * 3600.0
    registry.password = registry.parts.access.issue(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root")[0]


@EACH_STORAGE
async def test_the_first_pull_comes_through_and_the_next_ones_need_no_upstream(registry, upstream):
    image = small_image((os.urandom(3_000_000), b"small"))
    upstream.push("library/app", "1", image)
    assert (await registry.ask("HEAD", f"{APP}/manifests/1")).headers["Docker-Content-Digest"] == image.digest
    await pulled(registry, "1", image)
    await stored(registry, "1")
    assert all(upstream.requests[digest] == 1 for digest in image.blobs)
    asked = dict(upstream.requests)
    await pulled(registry, "1", image)
    await pulled(registry, image.digest, image)
    assert dict(upstream.requests) == asked
    missing = await registry.ask("GET", f"{APP}/manifests/none")
    assert missing.said == (404, "MANIFEST_UNKNOWN")
    assert (await registry.ask("GET", f"{APP}/blobs/{digest_of(b'none')}")).said == (404, "BLOB_UNKNOWN")
    assert (await registry.ask("GET", "other/app/manifests/1")).said == (404, "NAME_UNKNOWN")


async def test_pulls_at_once_fetch_once(registry, upstream):
    image = small_image((os.urandom(4_000_000),))
    upstream.push("library/app", "1", image)
    await asyncio.gather(*(pulled(registry, "1", image) for _ in range(8)))
    await stored(registry, "1")
    assert upstream.requests["manifest"] == 1
    assert all(upstream.requests[digest] == 1 for digest in image.blobs)


@EACH_STORAGE
@pytest.mark.parametrize("size", [10, 3_000_000])
async def test_wrong_bytes_are_never_served_whole_nor_kept(registry, upstream, size):
    layer = os.urandom(size)
    image = small_image((layer,))
    upstream.push("library/app", "1", image)
    upstream.broken[digest_of(layer)] = layer[:-1] + bytes([layer[-1] ^ 1])
    await registry.ask("GET", f"{APP}/manifests/1")
    try:
        answer = await registry.ask("GET", f"{APP}/blobs/{digest_of(layer)}")
    except aiohttp.ClientError:
        pass
    else:
        assert answer.status == 503
    assert await registry.parts.blobs.find(CACHED, digest_of(layer)) is None
    assert registry.parts.images.find(CACHED, "1") is None
    upstream.broken.clear()

    async def kept() -> bool:
        """What is still on its way in from before may be wrong too, and fails whoever joins it: the next pull asks
        anew."""
        try:
            await pulled(registry, "1", image)
        except (aiohttp.ClientError, AssertionError):
            return False
        return registry.parts.images.find(CACHED, "1") is not None

    await until(kept, 30)


async def test_a_manifest_with_another_digest_is_refused(registry, upstream):
    image, other = small_image((b"a",)), small_image((b"b",))
    upstream.push("library/app", "1", other)
    upstream._manifests["library/app", image.digest] = upstream._manifests["library/app", "1"]
    assert (await registry.ask("GET", f"{APP}/manifests/{image.digest}")).status == 503
    assert registry.parts.repositories.find(CACHED) is None


@EACH_STORAGE
async def test_a_transfer_that_breaks_off_is_begun_again_by_the_next_pull(registry, upstream):
    layer = os.urandom(2_000_000)
    image = small_image((layer,))
    upstream.push("library/app", "1", image)
    upstream.cut.add(digest_of(layer))
    with pytest.raises(aiohttp.ClientError):
        await registry.ask("GET", f"{APP}/manifests/1")
        answer = await registry.ask("GET", f"{APP}/blobs/{digest_of(layer)}")
        raise aiohttp.ClientError if answer.status == 503 else AssertionError(answer.status)
    await pulled(registry, "1", image)
    await stored(registry, "1")


async def test_a_tag_is_looked_up_once_a_day_and_an_upstream_that_is_away_says_so(registry, upstream, clock):
    old, new = small_image((b"old",)), small_image((b"new",))
    upstream.push("library/app", "1", old)
    await pulled(registry, "1", old)
    await stored(registry, "1")
    upstream.push("library/app", "1", new)
    ahead(registry, clock, 23)
    await pulled(registry, "1", old)
    ahead(registry, clock, 25)
    await pulled(registry, "1", new)
    await stored(registry, new.digest)
    await until(lambda: registry.parts.images.tagged(CACHED, "1") == new.digest, 30)
    upstream_asked = upstream.requests["manifest"]
    await upstream.__aexit__()
    ahead(registry, clock, 60)
    answer = await registry.ask("GET", f"{APP}/manifests/1")
    assert (answer.status, answer.body) == (200, new.manifest)
    assert answer.headers["Warning"].startswith("111 ")
    assert upstream.requests["manifest"] == upstream_asked
    assert (await registry.ask("GET", f"{APP}/manifests/2")).said == (503, "UNAVAILABLE")
    shown = await registry.aws("ValidatePullThroughCacheRule", ecrRepositoryPrefix="hub")
    assert not shown.is_valid and "can't be reached" in shown.failure


async def test_an_index_is_kept_and_its_manifests_come_when_asked_for(registry, upstream):
    one, two = small_image((b"amd64",)), small_image((b"arm64",))
    named = [descriptor(each.manifest, each.media_type) for each in (one, two)]
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": named}).encode()
    upstream.push_manifest("library/app", "1", INDEX, index)
    for each in (one, two):
        upstream.push("library/app", each.digest, each)
    assert (await registry.ask("GET", f"{APP}/manifests/1")).body == index
    await pulled(registry, one.digest, one)
    await stored(registry, one.digest)
    assert registry.parts.images.find(CACHED, two.digest) is None
    await registry.parts.pull_through.whole(CACHED, digest_of(index))
    assert registry.parts.images.find(CACHED, two.digest) is not None
    assert registry.parts.images.find(CACHED, "1").digest == digest_of(index)


async def test_a_task_gets_the_digest_of_an_image_that_was_fetched_whole(registry, upstream):
    image = small_image()
    upstream.push("library/app", "1", image)
    access, parts = registry.parts.access, registry.parts

    async def admit(request, repository, digest):
        assert parts.images.find(repository, digest) is not None

    request = IssuePullToken(account=ACCOUNT, region=REGION, image=f"{access.advertised}/{APP}:1", to_run=True)
    token = await access.issue_pull_token(request, parts.pull_through.digest_of, admit)
    assert token.pinned.endswith(f"{APP}@{image.digest}")


async def test_rules_are_made_shown_checked_and_dropped(registry, upstream):
    (rule,) = (await registry.aws("DescribePullThroughCacheRules")).pull_through_cache_rules
    assert (rule.ecr_repository_prefix, rule.upstream_registry_url) == ("hub", upstream.host)
    assert (await registry.aws("ValidatePullThroughCacheRule", ecrRepositoryPrefix="hub")).is_valid
    again = {"ecrRepositoryPrefix": "hub", "upstreamRegistryUrl": "quay.io"}
    assert (
        await refused(registry, "CreatePullThroughCacheRule", **again) == "PullThroughCacheRuleAlreadyExistsException"
    )
    odd = {"ecrRepositoryPrefix": "odd", "upstreamRegistryUrl": "https://quay.io/a/b"}
    assert await refused(registry, "CreatePullThroughCacheRule", **odd) == "UnsupportedUpstreamRegistryException"
    assert (await registry.aws("UpdatePullThroughCacheRule", ecrRepositoryPrefix="hub")).updated_at
    await registry.aws("DeletePullThroughCacheRule", ecrRepositoryPrefix="hub")
    gone = await refused(registry, "DeletePullThroughCacheRule", ecrRepositoryPrefix="hub")
    assert gone == "PullThroughCacheRuleNotFoundException"
    upstream.push("library/app", "1", small_image())
    assert (await registry.ask("GET", f"{APP}/manifests/1")).said == (404, "NAME_UNKNOWN")


async def test_templates_make_the_repositories_of_pulls(registry, upstream):
    policy = json.dumps(
        {
            "rules": [
                {
                    "rulePriority": 1,
                    "action": {"type": "expire"},
                    "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 9},
                }
            ]
        }
    )
    await registry.aws("CreateRepositoryCreationTemplate", prefix="ROOT", appliedFor=["PULL_THROUGH_CACHE"])
    await registry.aws(
        "CreateRepositoryCreationTemplate", prefix="hub", appliedFor=["PULL_THROUGH_CACHE"], description="d",
        imageTagMutability="IMMUTABLE", resourceTags=[{"Key": "a", "Value": "b"}], lifecyclePolicy=policy,
    )  # fmt: skip
    await registry.aws("CreateRepositoryCreationTemplate", prefix="hub/library", appliedFor=["REPLICATION"])
    assert await refused(
        registry, "CreateRepositoryCreationTemplate", prefix="hub", appliedFor=["REPLICATION"]
    ) == "TemplateAlreadyExistsException"  # fmt: skip
    await registry.aws("UpdateRepositoryCreationTemplate", prefix="hub", description="e")
    every = (await registry.aws("DescribeRepositoryCreationTemplates")).repository_creation_templates
    assert [(each.prefix, each.description) for each in every] == [("ROOT", None), ("hub", "e"), ("hub/library", None)]
    upstream.push("library/app", "1", small_image())
    assert (await registry.ask("GET", f"{APP}/manifests/1")).status == 200
    made = registry.parts.repositories.get(CACHED)
    assert (made.settings, made.tags, made.lifecycle) == ({"imageTagMutability": "IMMUTABLE"}, {"a": "b"}, policy)
    await registry.aws("DeleteRepositoryCreationTemplate", prefix="hub")
    gone = await refused(registry, "DeleteRepositoryCreationTemplate", prefix="hub")
    assert gone == "TemplateNotFoundException"


async def refused(registry, operation: str, **members) -> str:
    with pytest.raises(AwsError) as caught:
        await registry.aws(operation, **members)
    return caught.value.code
