"""OCI distribution v1.1, as a client sees it."""

from __future__ import annotations

import asyncio
import json

import pytest

from contracts.records.identity import ACCESS_KEY, ROLE, AccessKey, Role
from services.shared.state import Store
from tests.builders.images import digest_of
from tests.builders.registry import ACCOUNT, descriptor, registry_at, small_image
from tests.builders.seaweed import EACH_STORAGE

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
JSON = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture
async def registry(nats_platform, tmp_path, kept):
    async with registry_at(nats_platform, tmp_path / "data") as running:
        await running.aws("CreateRepository", repositoryName="shop")
        yield running


async def test_nobody_comes_in_without_a_token(registry):
    answer = await registry.ask("GET", "", Authorization="")
    assert answer.said == (401, "UNAUTHORIZED")
    assert answer.headers["WWW-Authenticate"] == (
        f'Basic realm="http://localhost:{registry.port}/",service="ecr.amazonaws.com"'
    )
    assert (await registry.ask("GET", "", Authorization=registry.auth("made.up"))).said == (401, "UNAUTHORIZED")
    welcome = await registry.ask("GET", "")
    assert (welcome.status, welcome.headers["Docker-Distribution-Api-Version"]) == (200, "registry/2.0")


@EACH_STORAGE
async def test_a_pushed_image_is_pulled_by_tag_and_by_digest(registry):
    image = small_image((b"first", b"second"))
    pushed = await registry.push_image("shop", image, "1")
    assert (pushed.status, pushed.headers["Docker-Content-Digest"]) == (201, image.digest)
    for reference in ("1", image.digest):
        got = await registry.ask("GET", f"shop/manifests/{reference}")
        assert (got.status, got.body, got.headers["Content-Type"]) == (200, image.manifest, image.media_type)
        head = await registry.ask("HEAD", f"shop/manifests/{reference}")
        assert (head.status, head.headers["Content-Length"]) == (200, str(len(image.manifest)))
        assert head.headers["Docker-Content-Digest"] == image.digest
    for digest, data in image.blobs.items():
        got = await registry.ask("GET", f"shop/blobs/{digest}")
        assert (got.status, got.body, got.headers["Docker-Content-Digest"]) == (200, data, digest)


@EACH_STORAGE
async def test_a_blob_is_fetched_in_ranges(registry):
    digest = await registry.push_blob("shop", b"0123456789")
    part = await registry.ask("GET", f"shop/blobs/{digest}", Range="bytes=2-4")
    assert (part.status, part.body, part.headers["Content-Range"]) == (206, b"234", "bytes 2-4/10")
    assert (await registry.ask("GET", f"shop/blobs/{digest}", Range="bytes=20-")).status == 416
    head = await registry.ask("HEAD", f"shop/blobs/{digest}")
    assert (head.status, head.headers["Content-Length"]) == (200, "10")


@EACH_STORAGE
async def test_chunks_come_in_order_or_not_at_all(registry):
    begun = await registry.ask("POST", "shop/blobs/uploads/")
    path = begun.headers["Location"].removeprefix("/v2/")
    assert (begun.status, begun.headers["Range"]) == (202, "0-0")
    first = await registry.ask("PATCH", path, b"hello ", Content_Range="0-5")
    assert (first.status, first.headers["Range"]) == (202, "0-5")
    early = await registry.ask("PATCH", path, b"xx", Content_Range="9-10")
    assert (early.said, early.headers["Range"]) == ((416, "RANGE_INVALID"), "0-5")
    assert (await registry.ask("PATCH", path, b"xx", Content_Range="six")).said == (416, "RANGE_INVALID")
    assert (await registry.ask("PATCH", path, b"xx", Content_Range="6-8")).said == (416, "RANGE_INVALID")
    status = await registry.ask("GET", path)
    assert (status.status, status.headers["Range"]) == (204, "0-5")
    done = await registry.ask("PUT", f"{path}?digest={digest_of(b'hello world')}", b"world", Content_Range="6-10")
    assert (done.status, done.headers["Location"]) == (201, f"/v2/shop/blobs/{digest_of(b'hello world')}")
    assert (await registry.ask("GET", f"shop/blobs/{digest_of(b'hello world')}")).body == b"hello world"
    assert (await registry.ask("GET", path)).said == (404, "BLOB_UPLOAD_UNKNOWN")


async def test_a_cancelled_upload_is_gone(registry):
    path = (await registry.ask("POST", "shop/blobs/uploads/")).headers["Location"].removeprefix("/v2/")
    assert (await registry.ask("DELETE", path)).status == 204
    assert (await registry.ask("PATCH", path, b"x")).said == (404, "BLOB_UPLOAD_UNKNOWN")


async def test_a_wrong_digest_leaves_nothing(registry, tmp_path):
    wrong = digest_of(b"other")
    assert (await registry.ask("POST", f"shop/blobs/uploads/?digest={wrong}", b"data")).said == (400, "DIGEST_INVALID")
    path = (await registry.ask("POST", "shop/blobs/uploads/")).headers["Location"].removeprefix("/v2/")
    assert (await registry.ask("PUT", f"{path}?digest={wrong}", b"data")).said == (400, "DIGEST_INVALID")
    for digest in (wrong, digest_of(b"data")):
        assert (await registry.ask("HEAD", f"shop/blobs/{digest}")).status == 404
    root = tmp_path / "data" / "registry"
    own = ["content.id", "content.key", "door.key", "peers.key", "signing.key", "token.key"]
    assert sorted(p.name for p in root.rglob("*") if p.is_file()) == own


@EACH_STORAGE
async def test_an_upload_that_broke_off_is_gone_on_with(registry):
    path = (await registry.ask("POST", "shop/blobs/uploads/")).headers["Location"].removeprefix("/v2/")
    _, writer = await asyncio.open_connection("127.0.0.1", registry.port)
    head = f"PATCH /v2/{path} HTTP/1.1\r\nHost: x\r\nAuthorization: {registry.auth()}\r\nContent-Length: 100\r\n\r\n"
    writer.write(head.encode() + b"0123456789")
    await writer.drain()
    writer.transport.abort()
    async with asyncio.timeout(30):
        while (await registry.ask("GET", path)).headers["Range"] != "0-9":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    rest = await registry.ask("PATCH", path, b"abc", Content_Range="10-12")
    assert (rest.status, rest.headers["Range"]) == (202, "0-12")
    done = await registry.ask("PUT", f"{path}?digest={digest_of(b'0123456789abc')}")
    assert done.status == 201


@EACH_STORAGE
async def test_a_blob_is_seen_only_where_it_was_pushed_or_mounted(registry):
    await registry.aws("CreateRepository", repositoryName="other")
    digest = await registry.push_blob("shop", b"shared")
    assert (await registry.ask("GET", f"other/blobs/{digest}")).said == (404, "BLOB_UNKNOWN")
    mounted = await registry.ask("POST", f"other/blobs/uploads/?mount={digest}&from=shop")
    assert (mounted.status, mounted.headers["Location"]) == (201, f"/v2/other/blobs/{digest}")
    assert (await registry.ask("GET", f"other/blobs/{digest}")).body == b"shared"
    absent = digest_of(b"absent")
    for source in ("from=shop", "from=nosuch", "from=../x", ""):
        fallen_back = await registry.ask("POST", f"other/blobs/uploads/?mount={absent}&{source}")
        assert (fallen_back.status, "uploads/" in fallen_back.headers["Location"]) == (202, True)


async def test_where_blob_mounting_is_disabled_a_mount_is_an_upload(registry):
    await registry.aws("CreateRepository", repositoryName="other")
    digest = await registry.push_blob("shop", b"data")
    await registry.aws("PutAccountSetting", name="BLOB_MOUNTING", value="DISABLED")
    assert (await registry.ask("POST", f"other/blobs/uploads/?mount={digest}&from=shop")).status == 202
    assert (await registry.ask("HEAD", f"other/blobs/{digest}")).status == 404
    await registry.aws("PutAccountSetting", name="BLOB_MOUNTING", value="ENABLED")
    assert (await registry.ask("POST", f"other/blobs/uploads/?mount={digest}&from=shop")).status == 201


async def test_a_manifest_must_name_what_is_there(registry):
    image = small_image((b"here", b"missing"))
    await registry.push_blob("shop", b"here")
    answer = await registry.ask("PUT", "shop/manifests/1", image.manifest, Content_Type=JSON)
    assert answer.said == (404, "MANIFEST_BLOB_UNKNOWN")
    index = json.dumps(
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(image.manifest, JSON)]}
    ).encode()
    answer = await registry.ask("PUT", "shop/manifests/1", index, Content_Type=OCI_INDEX)
    assert answer.said == (404, "MANIFEST_BLOB_UNKNOWN")
    assert (await registry.ask("GET", "shop/manifests/1")).said == (404, "MANIFEST_UNKNOWN")
    assert (await registry.ask("GET", "shop/tags/list")).json == {"name": "shop", "tags": []}


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"{", JSON),
        (b"[]", JSON),
        (b'{"schemaVersion":2}', JSON),
        (b'{"schemaVersion":1,"mediaType":"application/vnd.oci.image.manifest.v1+json"}', JSON),
        (b'{"schemaVersion":2,"config":{"digest":"md5:1","size":1},"layers":[]}', JSON),
        (b'{"schemaVersion":2}', "text/plain"),
        (b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}', JSON),
    ],
)
async def test_a_manifest_that_is_none_is_refused(registry, body, content_type):
    answer = await registry.ask("PUT", "shop/manifests/1", body, Content_Type=content_type)
    assert answer.said == (400, "MANIFEST_INVALID")


async def test_a_manifest_has_at_most_four_mebibytes(registry):
    answer = await registry.ask("PUT", "shop/manifests/1", b" " * (4 * 1024 * 1024 + 1), Content_Type=JSON)
    assert answer.said == (413, "MANIFEST_INVALID")


async def test_a_manifest_pushed_by_digest_must_have_it(registry):
    image = small_image()
    wrong = digest_of(b"other")
    assert (await registry.push_image("shop", image, wrong)).said == (400, "DIGEST_INVALID")
    pushed = await registry.push_image("shop", image, image.digest)
    assert pushed.status == 201
    assert (await registry.ask("GET", "shop/tags/list")).json["tags"] == []


async def test_an_index_is_pushed_after_its_manifests(registry):
    one, two = small_image((b"1",)), small_image((b"2",))
    for image in (one, two):
        assert (await registry.push_image("shop", image, image.digest)).status == 201
    index = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [descriptor(image.manifest, image.media_type) for image in (one, two)],
        }
    ).encode()
    assert (await registry.ask("PUT", "shop/manifests/all", index, Content_Type=OCI_INDEX)).status == 201
    assert (await registry.ask("GET", "shop/manifests/all")).body == index
    assert (await registry.ask("DELETE", f"shop/manifests/{one.digest}")).said == (403, "DENIED")
    assert (await registry.ask("DELETE", f"shop/manifests/{digest_of(index)}")).status == 202
    assert (await registry.ask("DELETE", f"shop/manifests/{one.digest}")).status == 202


async def test_referrers_are_found_by_their_subject(registry):
    image = small_image()
    subject = descriptor(image.manifest, image.media_type)
    empty = {"annotations": {"a": "b"}, "subject": subject}
    signature = small_image((b"signature",), artifactType="application/x.signature", **empty)
    bill = small_image((b"bill",), artifactType="application/x.bill", subject=subject)
    pushed = await registry.push_image("shop", signature, signature.digest)
    assert (pushed.status, pushed.headers["OCI-Subject"]) == (201, image.digest)
    await registry.push_image("shop", bill, bill.digest)
    both = await registry.ask("GET", f"shop/referrers/{image.digest}")
    assert (both.status, both.headers["Content-Type"]) == (200, OCI_INDEX)
    assert {each["digest"] for each in both.json["manifests"]} == {signature.digest, bill.digest}
    one = await registry.ask("GET", f"shop/referrers/{image.digest}?artifactType=application/x.signature")
    assert one.headers["OCI-Filters-Applied"] == "artifactType"
    assert one.json["manifests"] == [
        {
            "mediaType": signature.media_type,
            "size": len(signature.manifest),
            "digest": signature.digest,
            "artifactType": "application/x.signature",
            "annotations": {"a": "b"},
        }
    ]
    assert (await registry.ask("GET", f"shop/referrers/{digest_of(b'no')}")).json["manifests"] == []
    assert (await registry.ask("GET", "shop/referrers/no")).said == (400, "DIGEST_INVALID")


async def test_tags_are_listed_in_pages(registry):
    image = small_image()
    for tag in ("b", "a", "c"):
        await registry.push_image("shop", image, tag)
    first = await registry.ask("GET", "shop/tags/list?n=2")
    assert (first.json, first.headers["Link"]) == (
        {"name": "shop", "tags": ["a", "b"]},
        '</v2/shop/tags/list?last=b&n=2>; rel="next"',
    )
    last = await registry.ask("GET", "shop/tags/list?last=b&n=2")
    assert (last.json["tags"], "Link" in last.headers) == (["c"], False)
    assert (await registry.ask("GET", "shop/tags/list?n=x")).status == 400


@EACH_STORAGE
async def test_a_deleted_tag_leaves_the_image_and_a_deleted_image_no_tag(registry):
    image = small_image()
    await registry.push_image("shop", image, "1")
    await registry.push_image("shop", image, "2")
    assert (await registry.ask("DELETE", "shop/manifests/1")).status == 202
    assert (await registry.ask("DELETE", "shop/manifests/1")).said == (404, "MANIFEST_UNKNOWN")
    assert (await registry.ask("GET", "shop/tags/list")).json["tags"] == ["2"]
    assert (await registry.ask("DELETE", f"shop/blobs/{digest_of(b'layer')}")).said == (405, "UNSUPPORTED")
    assert (await registry.ask("DELETE", f"shop/manifests/{image.digest}")).status == 202
    assert (await registry.ask("GET", "shop/tags/list")).json["tags"] == []
    assert (await registry.ask("GET", f"shop/manifests/{image.digest}")).said == (404, "MANIFEST_UNKNOWN")
    assert (await registry.ask("DELETE", f"shop/blobs/{digest_of(b'layer')}")).status == 202
    assert (await registry.ask("HEAD", f"shop/blobs/{digest_of(b'layer')}")).status == 404


@pytest.mark.parametrize("name", ["..", "a/../b", "Shop", "a//b", "-a", "a/%2e%2e/b", "a%00b", "x" * 300, "a%0ab"])
async def test_a_name_is_a_name_and_no_path(registry, name, tmp_path):
    # A client would normalise the dots away: the request goes over a bare connection.
    reader, writer = await asyncio.open_connection("127.0.0.1", registry.port)
    for method, path in (("POST", f"/v2/{name}/blobs/uploads/"), ("GET", f"/v2/{name}/blobs/{digest_of(b'x')}")):
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {registry.auth()}\r\nContent-Length: 0\r\n\r\n"
        writer.write(head.encode())
        line = await asyncio.wait_for(reader.readline(), 30)
        assert line.split()[1] == b"400", line
        length = 0
        while (header := await reader.readline()) != b"\r\n":
            if header.lower().startswith(b"content-length:"):
                length = int(header.split(b":")[1])
        await reader.readexactly(length)
    writer.close()


async def test_a_repository_that_does_not_exist_is_unknown_as_ecr_says_it(registry):
    answer = await registry.ask("POST", "nosuch/blobs/uploads/")
    assert answer.status == 404
    assert answer.json["errors"] == [
        {
            "code": "NAME_UNKNOWN",
            "message": "The repository with name 'nosuch' does not exist in the registry with id '000000000000'",
        }
    ]


async def test_other_accounts_and_regions_have_stores_of_their_own(registry):
    await registry.aws("CreateRepository", region="eu-west-1", repositoryName="shop")
    image = small_image()
    far = "000000000000.eu-west-1/shop"
    assert (await registry.push_image(far, image, "1")).status == 201
    assert (await registry.ask("GET", "shop/manifests/1")).said == (404, "MANIFEST_UNKNOWN")
    host = "000000000000.dkr.ecr.eu-west-1.amazonaws.com"
    assert (await registry.ask("GET", "shop/manifests/1", Host=host)).body == image.manifest
    await registry.aws("CreateRepository", account="111111111111", repositoryName="shop")
    answer = await registry.ask("GET", "111111111111.us-east-1/shop/manifests/1")
    assert answer.said == (403, "DENIED")


async def test_an_immutable_tag_stays(registry):
    await registry.aws("PutImageTagMutability", repositoryName="shop", imageTagMutability="IMMUTABLE")
    image, other = small_image((b"1",)), small_image((b"2",))
    assert (await registry.push_image("shop", image, "1")).status == 201
    answer = await registry.push_image("shop", other, "1")
    assert answer.said == (400, "TAG_INVALID")
    assert (await registry.ask("GET", "shop/manifests/1")).body == image.manifest


async def test_of_two_pushes_of_a_tag_at_once_one_is_last(registry):
    images = [small_image((bytes([n]),)) for n in range(8)]
    for image in images:
        await registry.push_image("shop", image, image.digest)
    answers = await asyncio.gather(
        *(registry.ask("PUT", "shop/manifests/latest", i.manifest, Content_Type=JSON) for i in images)
    )
    assert {answer.status for answer in answers} == {201}
    assert (await registry.ask("GET", "shop/manifests/latest")).body in {image.manifest for image in images}
    assert (await registry.ask("GET", "shop/tags/list")).json["tags"] == ["latest"]


async def test_a_method_that_does_not_fit_and_a_path_that_is_none(registry):
    assert (await registry.ask("PATCH", "shop/manifests/1")).said == (405, "UNSUPPORTED")
    assert (await registry.ask("GET", "shop/nothing")).said == (404, "UNSUPPORTED")


async def test_the_token_of_a_role_s_session_has_the_rights_of_the_role_and_ends_with_it(registry, nats_platform):
    await registry.push_image("shop", small_image(), "1")
    pull = {
        "Effect": "Allow",
        "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
        "Resource": "arn:aws:ecr:*:*:repository/shop",
    }
    role = Role(
        account=ACCOUNT,
        role_name="puller",
        role_id="AROA1",
        path="/",
        arn=f"arn:aws:iam::{ACCOUNT}:role/puller",
        trust="{}",
        created_at=0.0,
        inline={"own": json.dumps({"Version": "2012-10-17", "Statement": pull})},
    )
    session = AccessKey(
        access_key_id="ASIA1",
        secret="s",
        account=ACCOUNT,
        principal_arn=f"arn:aws:sts::{ACCOUNT}:assumed-role/puller/me",
        user_id="AROA1:me",
        created_at=0.0,
        session_token="t",
        role="puller",
    )
    store = await Store.open(await nats_platform.bus("identity"), (ROLE, ACCESS_KEY))
    await store.put(ROLE, role, "role.created.v1")
    await store.put(ACCESS_KEY, session, "session.issued.v1")
    token, _ = registry.parts.access.issue(ACCOUNT, session.principal_arn, session.access_key_id)
    own = {"Authorization": registry.auth(token)}

    async def pulled() -> int:
        return (await registry.ask("GET", "shop/manifests/1", **own)).status

    async with asyncio.timeout(30):  # until the door has heard of the role
        while await pulled() != 200:
            pass
    assert (await registry.ask("POST", "shop/blobs/uploads/", **own)).said == (403, "DENIED")
    assert (await registry.ask("PUT", "shop/manifests/2", b"{}", **own)).said == (403, "DENIED")
    assert (await registry.ask("GET", "shop/tags/list", **own)).said == (403, "DENIED")
    await store.delete(ACCESS_KEY, ("ASIA1",), "session.expired.v1")
    async with asyncio.timeout(30):
        while await pulled() != 403:
            pass
    await store.close()
