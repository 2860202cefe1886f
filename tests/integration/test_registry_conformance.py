"""What the distribution specification asks of its endpoints (end-1 to end-13) beyond what test_registry_oci.py holds:
the cases that its conformance suite goes through in its four workflows."""

from __future__ import annotations

import json

import pytest

from tests.builders.images import digest_of
from tests.builders.registry import descriptor, registry_at, small_image
from tests.builders.seaweed import EACH_STORAGE

EMPTY = "application/vnd.oci.empty.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


pytestmark = EACH_STORAGE


@pytest.fixture
async def registry(nats_platform, tmp_path, kept):
    async with registry_at(nats_platform, tmp_path / "data") as running:
        await running.aws("CreateRepository", repositoryName="shop")
        yield running


async def begun(registry) -> str:
    return (await registry.ask("POST", "shop/blobs/uploads/")).headers["Location"].removeprefix("/v2/")


async def test_end_1_the_base_says_that_this_is_a_registry(registry):
    assert (await registry.ask("GET", "")).status == 200


async def test_end_2_and_3_what_is_not_there_is_404_with_get_and_head(registry):
    absent = digest_of(b"absent")
    for path in (f"shop/blobs/{absent}", f"shop/manifests/{absent}", "shop/manifests/absent"):
        assert (await registry.ask("GET", path)).status == 404
        head = await registry.ask("HEAD", path)
        assert (head.status, head.body) == (404, b"")


@pytest.mark.parametrize("in_patch", [True, False])
async def test_end_4a_5_and_6_an_upload_ends_with_bytes_or_without(registry, in_patch):
    path, data = await begun(registry), b"streamed"
    if in_patch:
        patched = await registry.ask("PATCH", path, data)
        assert (patched.status, patched.headers["Range"]) == (202, f"0-{len(data) - 1}")
        path = patched.headers["Location"].removeprefix("/v2/")
    put = await registry.ask("PUT", f"{path}?digest={digest_of(data)}", b"" if in_patch else data)
    assert put.status == 201
    assert (await registry.ask("GET", put.headers["Location"].removeprefix("/v2/"))).body == data


async def test_end_5_a_chunk_out_of_order_is_416_and_the_upload_goes_on(registry):
    path = await begun(registry)
    assert (await registry.ask("PATCH", path, b"late", Content_Range="5-8")).status == 416
    assert (await registry.ask("PATCH", path, b"first", Content_Range="0-4")).status == 202
    assert (await registry.ask("PATCH", path, b"first", Content_Range="0-4")).status == 416
    assert (await registry.ask("PATCH", path, b"late", Content_Range="5-8")).status == 202
    assert (await registry.ask("PUT", f"{path}?digest={digest_of(b'firstlate')}")).status == 201


async def test_end_6_an_upload_needs_a_digest_that_is_one(registry):
    path = await begun(registry)
    assert (await registry.ask("PUT", path, b"x")).status == 400
    assert (await registry.ask("PUT", f"{path}?digest=sha256:no", b"x")).status == 400


async def test_end_8a_all_pages_together_are_all_tags(registry):
    image, tags = small_image(), [f"t{number}" for number in range(7)]
    for tag in tags:
        await registry.push_image("shop", image, tag)
    assert (await registry.ask("GET", "shop/tags/list")).json["tags"] == tags
    none = await registry.ask("GET", "shop/tags/list?n=0")
    assert (none.json["tags"], "Link" in none.headers) == ([], False)
    assert (await registry.ask("GET", "shop/tags/list?last=t4")).json["tags"] == ["t5", "t6"]
    path, found = "shop/tags/list?n=3", []
    while path:
        page = await registry.ask("GET", path)
        found.append(page.json["tags"])
        path = page.headers.get("Link", "").partition(">")[0].removeprefix("</v2/")
    assert found == [tags[:3], tags[3:6], tags[6:]]


async def test_end_7_and_12_an_artifact_may_refer_to_what_comes_later_or_never(registry):
    image = small_image()
    await registry.push_blob("shop", b"{}")
    subject, empty = descriptor(image.manifest, image.media_type), descriptor(b"{}", EMPTY)
    typed = {"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(b"{}", "application/x.sbom")}
    untyped = {"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/x.note", "config": empty}
    listed = {"schemaVersion": 2, "mediaType": INDEX, "artifactType": "application/x.list", "manifests": []}
    pushed = []
    for manifest in (typed, untyped, listed):
        data = json.dumps({**manifest, "layers": [empty], "subject": subject}).encode()
        if manifest is listed:
            data = json.dumps({**manifest, "subject": subject}).encode()
        put = await registry.ask(
            "PUT", f"shop/manifests/{digest_of(data)}", data, Content_Type=str(manifest["mediaType"])
        )
        assert (put.status, put.headers["OCI-Subject"]) == (201, image.digest)
        pushed.append(digest_of(data))
    found = (await registry.ask("GET", f"shop/referrers/{image.digest}")).json["manifests"]
    types = ["application/x.sbom", "application/x.note", "application/x.list"]
    assert {each["digest"]: each["artifactType"] for each in found} == dict(zip(pushed, types, strict=True))
    assert (await registry.ask("DELETE", f"shop/manifests/{pushed[0]}")).status == 202
    left = (await registry.ask("GET", f"shop/referrers/{image.digest}")).json["manifests"]
    assert {each["digest"] for each in left} == set(pushed[1:])
    other = await registry.ask("GET", f"shop/referrers/{image.digest}?artifactType=application/x.other")
    assert (other.json["manifests"], other.headers["OCI-Filters-Applied"]) == ([], "artifactType")


async def test_end_9_and_10_what_is_deleted_is_gone_and_a_second_time_404(registry):
    image = small_image()
    await registry.push_image("shop", image, "1")
    unused = await registry.push_blob("shop", b"unused")
    for path in (f"shop/manifests/{image.digest}", f"shop/blobs/{unused}"):
        assert (await registry.ask("DELETE", path)).status == 202
        assert (await registry.ask("GET", path)).status == 404
        assert (await registry.ask("DELETE", path)).status == 404
    assert (await registry.ask("GET", "shop/manifests/1")).status == 404


async def test_end_11_a_mount_without_a_source_or_of_what_is_not_there_is_an_upload(registry):
    digest = await registry.push_blob("shop", b"here")
    await registry.aws("CreateRepository", repositoryName="other")
    answer = await registry.ask("POST", f"other/blobs/uploads/?mount={digest}")
    assert answer.status in (201, 202) and answer.headers["Location"]
    path = (await registry.ask("POST", f"other/blobs/uploads/?mount={digest_of(b'no')}&from=shop")).headers["Location"]
    assert (await registry.ask("PUT", f"{path.removeprefix('/v2/')}?digest={digest_of(b'no')}", b"no")).status == 201


async def test_end_13_an_upload_tells_how_far_it_is(registry):
    path = await begun(registry)
    await registry.ask("PATCH", path, b"12345")
    status = await registry.ask("GET", path)
    assert (status.status, status.headers["Range"]) == (204, "0-4")
    assert status.headers["Location"]


async def test_end_2_a_blob_comes_in_any_range_that_is_one(registry):
    digest = await registry.push_blob("shop", b"0123456789")
    told = {"bytes=7-": b"789", "bytes=-3": b"789", "bytes=0-0": b"0", "bytes=4-99": b"456789"}
    for asked, part in told.items():
        answer = await registry.ask("GET", f"shop/blobs/{digest}", Range=asked)
        assert (answer.status, answer.body, answer.headers["Content-Length"]) == (206, part, str(len(part))), asked
    whole = await registry.ask("GET", f"shop/blobs/{digest}", Range="bytes=9-2")
    assert (whole.status, whole.body) in ((200, b"0123456789"), (416, whole.body))


async def test_end_6_a_last_chunk_out_of_order_is_416_and_the_upload_goes_on(registry):
    path = await begun(registry)
    await registry.ask("PATCH", path, b"first", Content_Range="0-4")
    put = f"{path}?digest={digest_of(b'firstlast')}"
    assert (await registry.ask("PUT", put, b"last", Content_Range="9-12")).status == 416
    assert (await registry.ask("PUT", put, b"last", Content_Range="5-8")).status == 201


async def test_end_7_a_manifest_of_four_mebibytes_and_one_of_nothing_are_manifests(registry):
    empty = descriptor(b"{}", EMPTY)
    await registry.push_blob("shop", b"{}")
    none = {"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/x.a", "config": empty, "layers": []}
    data = json.dumps(none).encode()
    large = data + b" " * (4 * 1024 * 1024 - len(data))
    for tag, manifest in (("none", data), ("large", large)):
        put = await registry.ask("PUT", f"shop/manifests/{tag}", manifest, Content_Type=MANIFEST)
        assert (put.status, put.headers["Docker-Content-Digest"]) == (201, digest_of(manifest))
        assert (await registry.ask("GET", f"shop/manifests/{tag}")).body == manifest


async def test_end_9_10_12_in_a_repository_that_is_not_there_all_is_404(registry):
    digest = digest_of(b"x")
    for method, path in (
        ("DELETE", "absent/manifests/1"),
        ("DELETE", f"absent/blobs/{digest}"),
        ("GET", f"absent/referrers/{digest}"),
        ("GET", "absent/tags/list"),
        ("GET", f"absent/blobs/{digest}"),
    ):
        assert (await registry.ask(method, path)).said == (404, "NAME_UNKNOWN"), (method, path)


async def test_end_11_a_mounted_blob_is_where_the_answer_says(registry):
    digest = await registry.push_blob("shop", b"here")
    await registry.aws("CreateRepository", repositoryName="other")
    for _ in range(2):
        answer = await registry.ask("POST", f"other/blobs/uploads/?mount={digest}&from=shop")
        assert (answer.status, answer.headers["Docker-Content-Digest"]) == (201, digest)
        assert (await registry.ask("GET", answer.headers["Location"].removeprefix("/v2/"))).body == b"here"


async def test_end_12_an_index_without_a_type_is_told_without_one(registry):
    image = small_image()
    await registry.push_image("shop", image, "1")
    subject = descriptor(image.manifest, image.media_type)
    listed = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "subject": subject, "annotations": {"a": "b"}}
    data = json.dumps(listed).encode()
    assert (await registry.ask("PUT", f"shop/manifests/{digest_of(data)}", data, Content_Type=INDEX)).status == 201
    said = {"mediaType": INDEX, "size": len(data), "digest": digest_of(data), "annotations": {"a": "b"}}
    assert (await registry.ask("GET", f"shop/referrers/{image.digest}")).json["manifests"] == [said]
