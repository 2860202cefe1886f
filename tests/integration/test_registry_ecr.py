"""The ECR API, asked by boto3 through the registry's own door."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest

from tests.builders.ecr import Boto, available, put, upload
from tests.builders.images import digest_of
from tests.builders.registry import descriptor, registry_at, small_image

OCI_INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture
async def registry(nats_platform, tmp_path):
    async with registry_at(nats_platform, tmp_path / "data") as running:
        yield running


@pytest.fixture
def ecr(registry):
    return Boto(registry.port)


async def test_a_repository_is_made_described_and_deleted(ecr, registry):
    made = (
        await ecr.create_repository(
            repositoryName="team/shop",
            imageScanningConfiguration={"scanOnPush": True},
            tags=[{"Key": "team", "Value": "a"}],
        )
    )["repository"]
    created_at = made.pop("createdAt")
    expected = {
        "repositoryArn": "arn:aws:ecr:us-east-1:000000000000:repository/team/shop",
        "registryId": "000000000000",
        "repositoryName": "team/shop",
        "repositoryUri": f"localhost:{registry.port}/team/shop",
        "imageTagMutability": "MUTABLE",
        "imageScanningConfiguration": {"scanOnPush": True},
        "encryptionConfiguration": {"encryptionType": "AES256"},
    }
    assert made == expected
    assert await ecr.refused("create_repository", repositoryName="team/shop") == "RepositoryAlreadyExistsException"
    described = (await ecr.describe_repositories(repositoryNames=["team/shop"]))["repositories"]
    assert described == [{**expected, "createdAt": created_at}]
    assert (await ecr.delete_repository(repositoryName="team/shop"))["repository"]["repositoryName"] == "team/shop"
    assert await ecr.refused("describe_repositories", repositoryNames=["team/shop"]) == "RepositoryNotFoundException"
    assert ecr.message == ("The repository with name 'team/shop' does not exist in the registry with id '000000000000'")


async def test_repositories_come_in_pages(ecr):
    names = [f"r{n}" for n in range(5)]
    for name in names:
        await ecr.create_repository(repositoryName=name)
    pages = await asyncio.to_thread(
        lambda: list(ecr.client.get_paginator("describe_repositories").paginate(PaginationConfig={"PageSize": 2}))
    )
    assert [[r["repositoryName"] for r in page["repositories"]] for page in pages] == [names[:2], names[2:4], names[4:]]
    assert await ecr.refused("describe_repositories", nextToken="nonsense") == "InvalidParameterException"


@pytest.mark.parametrize("name", ["000000000000.us-east-1/shop"])
async def test_a_name_that_would_hide_another_account_is_refused(ecr, name):
    assert await ecr.refused("create_repository", repositoryName=name) == "InvalidParameterException"


async def test_an_image_is_put_with_its_layers_and_told_as_it_is(ecr):
    await ecr.create_repository(repositoryName="shop")
    image = small_image((b"a" * 100, b"b" * 50))
    missing = await ecr.refused("put_image", repositoryName="shop", imageManifest=image.manifest.decode())
    assert missing == "LayersNotFoundException"
    put_image = await put(ecr, "shop", image, "1")
    assert put_image["imageId"] == {"imageDigest": image.digest, "imageTag": "1"}
    await put(ecr, "shop", image, "2")
    (detail,) = (await ecr.describe_images(repositoryName="shop"))["imageDetails"]
    del detail["imagePushedAt"]
    assert detail == {
        "registryId": "000000000000",
        "repositoryName": "shop",
        "imageDigest": image.digest,
        "imageTags": ["1", "2"],
        "imageSizeInBytes": 150 + len(image.config),
        "imageManifestMediaType": image.media_type,
        "artifactMediaType": "application/vnd.oci.image.config.v1+json",
        "imageStatus": "ACTIVE",
    }
    (got,) = (await ecr.batch_get_image(repositoryName="shop", imageIds=[{"imageTag": "2"}]))["images"]
    assert got["imageManifest"].encode() == image.manifest


async def test_put_image_refuses_what_ecr_refuses(ecr):
    await ecr.create_repository(repositoryName="shop")
    image, other = small_image((b"1",)), small_image((b"2",))
    await put(ecr, "shop", image, "1")
    await put(ecr, "shop", other)
    manifest = image.manifest.decode()
    assert await ecr.refused("put_image", repositoryName="shop", imageManifest=manifest, imageTag="1") == (
        "ImageAlreadyExistsException"
    )
    assert await ecr.refused("put_image", repositoryName="shop", imageManifest=manifest) == (
        "ImageAlreadyExistsException"
    )
    wrong = await ecr.refused(
        "put_image", repositoryName="shop", imageManifest=manifest, imageDigest=digest_of(b"x"), imageTag="3"
    )
    assert wrong == "ImageDigestDoesNotMatchException"
    for text in ("{}", "no"):
        assert await ecr.refused("put_image", repositoryName="shop", imageManifest=text) == "InvalidParameterException"
    await ecr.put_image_tag_mutability(repositoryName="shop", imageTagMutability="IMMUTABLE")
    moved = await ecr.refused("put_image", repositoryName="shop", imageManifest=other.manifest.decode(), imageTag="1")
    assert moved == "ImageTagAlreadyExistsException"
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(b"no", OCI_INDEX)]})
    assert await ecr.refused("put_image", repositoryName="shop", imageManifest=index) == (
        "ReferencedImagesNotFoundException"
    )


async def test_images_are_listed_by_whether_they_have_tags(ecr):
    await ecr.create_repository(repositoryName="shop")
    tagged, bare = small_image((b"1",)), small_image((b"2",))
    await put(ecr, "shop", tagged, "a")
    await put(ecr, "shop", tagged, "b")
    await put(ecr, "shop", bare)

    async def ids(**filter):
        listed = await ecr.list_images(repositoryName="shop", filter=filter)
        return {(each["imageDigest"], each.get("imageTag")) for each in listed["imageIds"]}

    with_tags, without = {(tagged.digest, "a"), (tagged.digest, "b")}, {(bare.digest, None)}
    assert await ids() == with_tags | without
    assert await ids(tagStatus="TAGGED") == with_tags
    assert await ids(tagStatus="UNTAGGED") == without
    pages = await asyncio.to_thread(
        lambda: list(
            ecr.client.get_paginator("list_images").paginate(repositoryName="shop", PaginationConfig={"PageSize": 1})
        )
    )
    assert [len(page["imageIds"]) for page in pages] == [1, 1, 1]


async def test_deleting_by_tag_by_last_tag_and_by_digest(ecr):
    await ecr.create_repository(repositoryName="shop")
    image, other = small_image((b"1",)), small_image((b"2",))
    for tag in ("1", "2"):
        await put(ecr, "shop", image, tag)
        await put(ecr, "shop", other, f"other-{tag}")

    async def delete(*ids):
        answer = await ecr.batch_delete_image(repositoryName="shop", imageIds=list(ids))
        return answer["imageIds"], [failure["failureCode"] for failure in answer["failures"]]

    first = {"imageDigest": image.digest, "imageTag": "1"}
    assert await delete({"imageTag": "1"}) == ([first], [])
    assert len((await ecr.describe_images(repositoryName="shop"))["imageDetails"]) == 2
    assert await delete({"imageTag": "1"}, {"imageTag": "2"}) == (
        [{"imageDigest": image.digest, "imageTag": "2"}],
        ["ImageNotFound"],
    )
    assert len((await ecr.describe_images(repositoryName="shop"))["imageDetails"]) == 1
    assert await delete({"imageDigest": other.digest}, {}, {"imageDigest": "x:y"}) == (
        [{"imageDigest": other.digest, "imageTag": "other-1"}, {"imageDigest": other.digest, "imageTag": "other-2"}],
        ["MissingDigestAndTag", "InvalidImageDigest"],
    )
    assert (await ecr.describe_images(repositoryName="shop"))["imageDetails"] == []


async def test_an_image_that_an_index_names_stays_and_the_index_is_as_large_as_its_largest(ecr):
    await ecr.create_repository(repositoryName="shop")
    small, large = small_image((b"1",)), small_image((b"2" * 1000,))
    for image in (small, large):
        await put(ecr, "shop", image)
    index = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [descriptor(image.manifest, image.media_type) for image in (small, large)],
        }
    )
    await ecr.put_image(repositoryName="shop", imageManifest=index, imageTag="all")
    (detail,) = (await ecr.describe_images(repositoryName="shop", imageIds=[{"imageTag": "all"}]))["imageDetails"]
    assert detail["imageSizeInBytes"] == 1000 + len(large.config)
    refused = await ecr.batch_delete_image(repositoryName="shop", imageIds=[{"imageDigest": small.digest}])
    assert [failure["failureCode"] for failure in refused["failures"]] == ["ImageReferencedByManifestList"]


async def test_a_repository_with_images_is_deleted_with_force_and_is_empty_when_made_again(ecr):
    await ecr.create_repository(repositoryName="shop")
    image = small_image()
    await put(ecr, "shop", image, "1")
    assert await ecr.refused("delete_repository", repositoryName="shop") == "RepositoryNotEmptyException"
    await ecr.delete_repository(repositoryName="shop", force=True)
    await ecr.create_repository(repositoryName="shop")
    assert (await ecr.describe_images(repositoryName="shop"))["imageDetails"] == []
    assert not await available(ecr, "shop", digest_of(b"layer"))


async def test_an_image_that_is_not_there_is_told_by_its_id(ecr):
    await ecr.create_repository(repositoryName="shop")
    assert await ecr.refused("describe_images", repositoryName="shop", imageIds=[{"imageTag": "9"}]) == (
        "ImageNotFoundException"
    )
    assert ecr.message == (
        "The image with imageId {imageDigest:'null', imageTag:'9'} does not exist within the repository with name"
        " 'shop' in the registry with id '000000000000'"
    )


async def test_layers_come_in_parts_in_order_and_whole(ecr, registry):
    await ecr.create_repository(repositoryName="shop")
    digest = await upload(ecr, "shop", bytes(range(256)) * 10, parts=3)
    assert await available(ecr, "shop", digest)
    upload_id = (await ecr.initiate_layer_upload(repositoryName="shop"))["uploadId"]
    part = {"repositoryName": "shop", "uploadId": upload_id, "layerPartBlob": b"abc"}
    assert await ecr.refused("upload_layer_part", **part, partFirstByte=5, partLastByte=7) == (
        "InvalidLayerPartException"
    )
    assert await ecr.refused("upload_layer_part", **part, partFirstByte=0, partLastByte=7) == (
        "InvalidLayerPartException"
    )
    complete = {"repositoryName": "shop", "uploadId": upload_id, "layerDigests": [digest_of(b"other")]}
    assert await ecr.refused("complete_layer_upload", **complete) == "EmptyUploadException"
    await ecr.upload_layer_part(**part, partFirstByte=0, partLastByte=2)
    assert await ecr.refused("complete_layer_upload", **complete) == "InvalidLayerException"
    assert await ecr.refused("complete_layer_upload", **complete) == "UploadNotFoundException"
    found = await ecr.batch_check_layer_availability(repositoryName="shop", layerDigests=[digest_of(b"other"), "x"])
    assert found["layers"] == [{"layerDigest": digest_of(b"other"), "layerAvailability": "UNAVAILABLE"}]
    assert [failure["failureCode"] for failure in found["failures"]] == ["InvalidLayerDigest"]


async def test_a_layer_is_downloaded_by_a_url_that_nobody_can_make(ecr, registry):
    await ecr.create_repository(repositoryName="shop")
    digest = await upload(ecr, "shop", b"layer")
    url = (await ecr.get_download_url_for_layer(repositoryName="shop", layerDigest=digest))["downloadUrl"]
    url = url.replace("localhost", "127.0.0.1")
    async with registry.session.get(url) as answer:
        assert (answer.status, await answer.read()) == (200, b"layer")
    for changed in (url.replace(digest, digest_of(b"other")), url.replace("expires=", "expires=9"), url[:-1] + "_"):
        async with registry.session.get(changed) as answer:
            assert answer.status == 403
    assert (
        await ecr.refused("get_download_url_for_layer", repositoryName="shop", layerDigest=digest_of(b"no"))
        == "LayersNotFoundException"
    )


async def test_the_token_opens_v2(ecr, registry):
    (data,) = (await ecr.get_authorization_token())["authorizationData"]
    assert data["proxyEndpoint"] == f"http://localhost:{registry.port}"
    user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
    assert user == "AWS"
    assert (await registry.ask("GET", "", Authorization=registry.auth(password))).status == 200


async def test_tags_of_a_repository_are_put_on_and_taken_off(ecr):
    arn = (await ecr.create_repository(repositoryName="shop"))["repository"]["repositoryArn"]
    await ecr.tag_resource(resourceArn=arn, tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    await ecr.untag_resource(resourceArn=arn, tagKeys=["a"])
    assert (await ecr.list_tags_for_resource(resourceArn=arn))["tags"] == [{"Key": "b", "Value": "2"}]
    many = [{"Key": str(n), "Value": ""} for n in range(51)]
    assert await ecr.refused("tag_resource", resourceArn=arn, tags=many) == "TooManyTagsException"
    assert await ecr.refused("list_tags_for_resource", resourceArn=arn + "x") == "RepositoryNotFoundException"
    assert await ecr.refused("list_tags_for_resource", resourceArn="arn:x") == "InvalidParameterException"


async def test_another_account_s_repository_is_denied_and_an_unknown_key_refused(ecr, registry):
    other = {"registryId": "111111111111", "repositoryName": "shop"}
    assert await ecr.refused("list_images", **other) == "AccessDeniedException"
    assert await Boto(registry.port, "AKIANOBODY").refused("describe_registry") == "UnrecognizedClientException"
    assert (await ecr.describe_registry())["registryId"] == "000000000000"
