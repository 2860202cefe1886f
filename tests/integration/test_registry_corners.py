"""Corners of the ECR API: defaults and limits of lists, sizes after any sequence, caches through the API."""

from __future__ import annotations

import json
import os

import pytest

from services.registry.decisions.names import RepositoryId
from services.shared.errors import AwsError
from tests.builders.images import digest_of
from tests.builders.registry import ACCOUNT, REGION, descriptor, registry_at, small_image
from tests.builders.waiting import until
from tests.fakes.image_registry import ImageRegistry

INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture
async def registry(nats_platform, tmp_path):
    async with registry_at(nats_platform, tmp_path / "data") as running:
        await running.aws("CreateRepository", repositoryName="shop")
        yield running


@pytest.fixture
async def upstream():
    async with ImageRegistry() as running:
        yield running


async def refused(registry, operation: str, **members) -> str:
    with pytest.raises(AwsError) as error:
        await registry.aws(operation, **members)
    return error.value.code


async def test_lists_show_what_is_active_unless_they_are_asked_for_more(registry):
    kept, away = small_image((b"kept",)), small_image((b"away",))
    for tag, image in (("kept", kept), ("away", away)):
        await registry.push_image("shop", image, tag)
    told = {"repositoryName": "shop", "imageId": {"imageTag": "away"}, "targetStorageClass": "ARCHIVE"}
    await registry.aws("UpdateImageStorageClass", **told)
    found = {}
    for status in (None, "ACTIVE", "ARCHIVED", "ACTIVATING", "ANY"):
        asked = {"filter": {"imageStatus": status, "tagStatus": "TAGGED"}} if status else {}
        listed = await registry.aws("ListImages", repositoryName="shop", **asked)
        described = await registry.aws("DescribeImages", repositoryName="shop", **asked)
        found[status] = sorted(each.image_tag for each in listed.image_ids)
        assert found[status] == sorted(tag for each in described.image_details for tag in each.image_tags)
    assert found == {
        None: ["kept"],
        "ACTIVE": ["kept"],
        "ARCHIVED": ["away"],
        "ACTIVATING": [],
        "ANY": ["away", "kept"],
    }
    by_id = await registry.aws("DescribeImages", repositoryName="shop", imageIds=[{"imageTag": "away"}])
    assert by_id.image_details[0].image_status == "ARCHIVED"


async def test_what_is_named_comes_in_no_pages(registry):
    named = {"repositoryNames": ["shop"], "maxResults": 1}
    assert await refused(registry, "DescribeRepositories", **named) == "InvalidParameterException"


async def test_referrers_come_twenty_a_page_unless_more_are_asked_for(registry):
    image = small_image()
    await registry.push_image("shop", image, "1")
    subject = descriptor(image.manifest, image.media_type)
    for number in range(21):
        bill = small_image((b"%d" % number,), subject=subject)
        await registry.push_image("shop", bill, bill.digest)
    asked = {"repositoryName": "shop", "subjectId": {"imageDigest": image.digest}}
    first = await registry.aws("ListImageReferrers", **asked)
    rest = await registry.aws("ListImageReferrers", **asked, nextToken=first.next_token)
    assert (len(first.referrers), len(rest.referrers), rest.next_token) == (20, 1, None)
    assert len((await registry.aws("ListImageReferrers", **asked, maxResults=50)).referrers) == 21


@pytest.mark.parametrize("operation", ["CreateRepository", "PutImageTagMutability", "CreateRepositoryCreationTemplate"])
async def test_an_exclusion_filter_has_two_wildcards_at_most(registry, operation):
    names = {"CreateRepositoryCreationTemplate": {"prefix": "team", "appliedFor": ["REPLICATION"]}}
    named = names.get(operation, {"repositoryName": "other" if operation == "CreateRepository" else "shop"})

    def members(pattern: str) -> dict:
        filters = [{"filterType": "WILDCARD", "filter": pattern}]
        return {
            **named,
            "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
            "imageTagMutabilityExclusionFilters": filters,
        }

    assert await refused(registry, operation, **members("*a*b*")) == "InvalidParameterException"
    await registry.aws(operation, **members("*a*"))


async def test_a_token_is_told_once_for_each_registry_that_is_asked_for(registry):
    told = await registry.aws("GetAuthorizationToken", registryIds=[ACCOUNT, "999999999999"])
    assert len(told.authorization_data) == 2
    assert len((await registry.aws("GetAuthorizationToken")).authorization_data) == 1


async def test_a_destination_is_a_region(registry):
    rules = [{"destinations": [{"region": "mars", "registryId": ACCOUNT}]}]
    code = await refused(registry, "PutReplicationConfiguration", replicationConfiguration={"rules": rules})
    assert code == "InvalidParameterException"


async def test_a_template_s_tags_are_tags(registry):
    template = {"prefix": "team", "appliedFor": ["REPLICATION"], "resourceTags": [{"Key": "aws:x", "Value": ""}]}
    assert await refused(registry, "CreateRepositoryCreationTemplate", **template) == "InvalidTagParameterException"


async def test_the_api_pulls_through_a_cache(registry, upstream):
    await registry.aws("CreatePullThroughCacheRule", ecrRepositoryPrefix="hub", upstreamRegistryUrl=upstream.host)
    image = small_image((os.urandom(500_000),))
    upstream.push("app", "1", image)
    name = {"repositoryName": "hub/app"}
    told = await registry.aws("BatchGetImage", **name, imageIds=[{"imageTag": "1"}, {"imageTag": "none"}, {}])
    assert [(each.image_id.image_digest, each.image_manifest) for each in told.images] == [
        (image.digest, image.manifest.decode())
    ]
    assert [each.failure_code for each in told.failures] == ["ImageNotFound", "MissingDigestAndTag"]
    for digest, data in image.blobs.items():
        url = (await registry.aws("GetDownloadUrlForLayer", **name, layerDigest=digest)).download_url
        async with registry.session.get(url.replace("localhost", "127.0.0.1")) as answer:
            assert await answer.read() == data
    missing = digest_of(b"missing")
    assert await refused(registry, "GetDownloadUrlForLayer", **name, layerDigest=missing) == "LayersNotFoundException"
    upstream.broken[digest_of(b"what it should be")] = b"wrong bytes"
    wrong = {**name, "layerDigest": digest_of(b"what it should be")}
    assert await refused(registry, "GetDownloadUrlForLayer", **wrong) == "UnableToGetUpstreamLayerException"
    await upstream.__aexit__()
    told = await registry.aws("BatchGetImage", **name, imageIds=[{"imageTag": "2"}])
    assert [each.failure_code for each in told.failures] == ["UpstreamUnavailable"]


async def test_an_index_of_a_cache_is_as_large_as_the_largest_of_its_manifests_that_came_and_replicated_with_the_last(
    registry, upstream
):
    await registry.aws("CreatePullThroughCacheRule", ecrRepositoryPrefix="hub", upstreamRegistryUrl=upstream.host)
    arm, amd = small_image((os.urandom(1000),)), small_image((os.urandom(3000),))
    manifests = []
    for image in (arm, amd):
        upstream.push("app", image.digest, image)
        manifests.append(descriptor(image.manifest, image.media_type))
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).encode()
    upstream.push_manifest("app", "multi", INDEX, index)
    cached = RepositoryId(ACCOUNT, REGION, "hub/app")
    rules = [{"destinations": [{"region": "eu-west-1", "registryId": ACCOUNT}]}]
    await registry.aws("PutReplicationConfiguration", replicationConfiguration={"rules": rules})

    async def size() -> int:
        asked = {"repositoryName": "hub/app", "imageIds": [{"imageTag": "multi"}]}
        return (await registry.aws("DescribeImages", **asked)).image_details[0].image_size_in_bytes

    sizes = []
    await registry.ask("GET", "hub/app/manifests/multi")
    sizes.append(await size())
    for image in (arm, amd):
        await registry.ask("GET", f"hub/app/manifests/{image.digest}")
        await until(lambda image=image: registry.parts.images.find(cached, image.digest), 30)
        sizes.append(await size())
    config = len(arm.config)
    assert sizes == [0, 1000 + config, 3000 + config]
    # An index is replicated when the last of its manifests has come.
    await until(lambda: registry.parts.images.find(RepositoryId(ACCOUNT, "eu-west-1", "hub/app"), "multi"), 30)
    asked = {"repositoryName": "hub/app", "imageId": {"imageTag": "multi"}}
    told = await registry.aws("DescribeImageReplicationStatus", **asked)
    assert [each.status for each in told.replication_statuses] == ["COMPLETE"]
