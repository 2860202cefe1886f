"""Long listings, and what refers to an image."""

from __future__ import annotations

import asyncio
import time

import pytest

from contracts.records.registry import IMAGE_TAG, ImageTag
from services.registry.decisions.names import RepositoryId
from tests.builders.ecr import Boto
from tests.builders.registry import ACCOUNT, REGION, descriptor, registry_at, small_image

SHOP = RepositoryId(ACCOUNT, REGION, "shop")
MANY = 10_000


@pytest.fixture
async def registry(nats_platform, tmp_path):
    async with registry_at(nats_platform, tmp_path / "data") as running:
        await running.aws("CreateRepository", repositoryName="shop")
        yield running


async def test_ten_thousand_tags_are_listed_whole_and_in_order(registry):
    image = small_image()
    await registry.push_image("shop", image, "first")
    names = [f"v{n}" for n in range(MANY - 1)]
    store = registry.app._store
    for at in range(0, len(names), 500):
        await asyncio.gather(*(_tag(store, image.digest, name) for name in names[at : at + 500]))
    began = time.perf_counter()
    listed = await registry.ask("GET", "shop/tags/list")
    took = time.perf_counter() - began
    assert listed.json["tags"] == sorted(["first", *names])
    print(f"{MANY} tags listed in {took * 1000:.1f} ms")
    page = await registry.ask("GET", "shop/tags/list?n=3&last=v9997")
    assert page.json["tags"] == ["v9998"]
    assert (await registry.aws("DescribeImages", repositoryName="shop")).image_details[0].image_digest == image.digest


async def _tag(store, digest: str, name: str) -> None:
    tag = ImageTag(account=ACCOUNT, region=REGION, repository="shop", tag=name, digest=digest, tagged_at=0.0)
    await store.put(IMAGE_TAG, tag, "tag.moved.v1", expect=0)


async def test_referrers_by_type_and_status_in_pages(registry):
    ecr = Boto(registry.port)
    image = small_image()
    await registry.push_image("shop", image, "1")
    subject = descriptor(image.manifest, image.media_type)
    digests = {}
    for kind in ("sbom", "signature"):
        artifact = small_image((kind.encode(),), subject=subject, artifactType=f"application/{kind}")
        assert (await registry.push_image("shop", artifact, kind)).headers["OCI-Subject"] == image.digest
        digests[kind] = artifact.digest
    asked = {"repositoryName": "shop", "subjectId": {"imageDigest": image.digest}}
    found = (await ecr.list_image_referrers(**asked))["referrers"]
    assert {each["digest"]: each["artifactType"] for each in found} == {
        digest: f"application/{kind}" for kind, digest in digests.items()
    }
    first = await ecr.list_image_referrers(**asked, maxResults=1)
    second = await ecr.list_image_referrers(**asked, maxResults=1, nextToken=first["nextToken"])
    assert [*first["referrers"], *second["referrers"]] == found
    one = await ecr.list_image_referrers(**asked, filter={"artifactTypes": ["application/sbom"]})
    assert [each["digest"] for each in one["referrers"]] == [digests["sbom"]]
    archive = {"imageId": {"imageTag": "sbom"}, "targetStorageClass": "ARCHIVE"}
    await ecr.update_image_storage_class(repositoryName="shop", **archive)
    for status, kinds in (("ACTIVE", {"signature"}), ("ARCHIVED", {"sbom"}), ("ANY", {"sbom", "signature"})):
        listed = (await ecr.list_image_referrers(**asked, filter={"artifactStatus": status}))["referrers"]
        assert {each["digest"] for each in listed} == {digests[kind] for kind in kinds}
    bad = {"repositoryName": "shop", "subjectId": {"imageDigest": "sha256:no"}}
    assert await ecr.refused("list_image_referrers", **bad) == "InvalidParameterException"


async def test_immutable_tags_are_refused_on_push_but_for_those_excluded(registry):
    filters = [{"filterType": "WILDCARD", "filter": "dev-*"}]
    await registry.aws(
        "PutImageTagMutability",
        repositoryName="shop",
        imageTagMutability="IMMUTABLE_WITH_EXCLUSION",
        imageTagMutabilityExclusionFilters=filters,
    )
    one, two = small_image((b"one",)), small_image((b"two",))
    for tag in ("v1", "dev-1"):
        assert (await registry.push_image("shop", one, tag)).status == 201
    assert (await registry.push_image("shop", two, "v1")).said == (400, "TAG_INVALID")
    assert (await registry.push_image("shop", one, "v1")).said == (400, "TAG_INVALID")
    assert (await registry.push_image("shop", two, "dev-1")).status == 201
    assert (await registry.ask("GET", "shop/manifests/v1")).body == one.manifest
    assert (await registry.ask("GET", "shop/manifests/dev-1")).body == two.manifest
