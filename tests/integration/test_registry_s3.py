"""A registry whose blobs are in S3: what its clients see, and what happens when S3 or the registry goes away."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from services.registry.adapters.s3.sender import PART
from services.registry.decisions.segments import sealed_size
from services.registry.ports import StorageAway
from services.shared.s3 import Bucket, S3Client, S3Denied, S3Full
from services.shared.settings import SettingsError
from tests.builders.images import digest_of
from tests.builders.link import Link
from tests.builders.registry import registry_at, registry_process, small_image
from tests.builders.seaweed import BUCKET, READER
from tests.builders.waiting import until

LARGE = os.urandom(2 * PART + 1_000_000)
CHUNK = 1024 * 1024


class Storage:
    """The bucket behind a registry, and the link that leads there."""

    def __init__(self, link: Link, bucket: Bucket, prefix: str) -> None:
        self.link = link
        self.bucket = bucket
        self.prefix = prefix

    async def keys(self, kind: str) -> list[str]:
        """The keys of a kind."""
        return [entry.key async for entry in self.bucket.list(f"{self.prefix}/{kind}/")]

    async def parts(self) -> int:
        """How many uploads in parts go on."""
        return len(await self.bucket.unfinished(f"{self.prefix}/"))


@pytest.fixture
async def storage(seaweed, monkeypatch):
    link = Link(seaweed.port)
    environment = seaweed.environment(link.port)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    client = S3Client(seaweed.settings())
    yield Storage(link, client.bucket(BUCKET), environment["ROADSTEAD_REGISTRY_BUCKET_PREFIX"])
    await client.close()
    link.close()


@pytest.fixture
async def registry(nats_platform, tmp_path, storage):
    async with registry_at(nats_platform, tmp_path) as running:
        await running.aws("CreateRepository", repositoryName="shop")
        yield running


async def begun(registry) -> str:
    return (await registry.ask("POST", "shop/blobs/uploads/")).headers["Location"].removeprefix("/v2/")


async def test_an_image_is_pushed_pulled_mounted_and_collected(registry, storage):
    await registry.aws("CreateRepository", repositoryName="bank")
    image = small_image((b"layer", LARGE))
    assert (await registry.push_image("shop", image, "1")).status == 201
    assert (len(await storage.keys("data")), await storage.parts()) == (4, 0)
    digest = digest_of(LARGE)
    assert (await registry.ask("GET", f"shop/blobs/{digest}")).body == LARGE
    part = await registry.ask("GET", f"shop/blobs/{digest}", Range=f"bytes={PART - 5}-{PART + 4}")
    assert (part.status, part.body) == (206, LARGE[PART - 5 : PART + 5])
    assert part.headers["Content-Range"] == f"bytes {PART - 5}-{PART + 4}/{len(LARGE)}"
    url = (await registry.aws("GetDownloadUrlForLayer", repositoryName="shop", layerDigest=digest)).download_url
    async with registry.session.get(url.replace(f"localhost:{registry.port}", f"127.0.0.1:{registry.port}")) as layer:
        assert await layer.read() == LARGE
    assert (await registry.ask("POST", f"bank/blobs/uploads/?mount={digest}&from=shop")).status == 201
    await registry.aws("DeleteRepository", repositoryName="shop", force=True)
    assert (await registry.ask("GET", f"bank/blobs/{digest}")).body == LARGE
    later = time.time() + 10 * 24 * 3600
    stored = (*image.blobs.values(), image.manifest)
    assert await registry.app.cleaner.clean(later) == sum(sealed_size(len(data)) for data in stored)
    assert await storage.keys("data") == await storage.keys("content") == await storage.keys("repositories") == []


async def test_what_two_repositories_push_is_kept_once_and_the_parts_of_the_second_are_dropped(registry, storage):
    await registry.aws("CreateRepository", repositoryName="bank")
    for name in ("shop", "bank"):
        await registry.push_blob(name, LARGE)
    assert (len(await storage.keys("data")), len(await storage.keys("repositories"))) == (1, 2)
    await until(lambda: _none(storage))
    await registry.aws("DeleteRepository", repositoryName="shop", force=True)
    await registry.app.cleaner.clean(time.time())
    assert (await registry.ask("GET", f"bank/blobs/{digest_of(LARGE)}")).body == LARGE


async def test_another_disk_with_the_registry_s_keys_finds_all_that_is_in_the_bucket(nats_platform, tmp_path, storage):
    image = small_image((b"1", LARGE))
    async with registry_at(nats_platform, tmp_path / "first") as registry:
        await registry.aws("CreateRepository", repositoryName="shop")
        await registry.push_image("shop", image, "1")
    with pytest.raises(SettingsError, match="CONTENT_KEY_FILE"):  # and nothing is swept
        async with registry_at(nats_platform, tmp_path / "second"):
            pass
    key = str(tmp_path / "first" / "registry" / "content.key")
    async with registry_at(nats_platform, tmp_path / "second", content_key_file=key) as registry:
        assert (await registry.ask("GET", "shop/manifests/1")).body == image.manifest
        assert (await registry.ask("GET", f"shop/blobs/{digest_of(LARGE)}")).body == LARGE


async def test_a_connection_that_is_cut_in_the_midst_of_the_parts_harms_nobody(registry, storage):
    path = await begun(registry)
    storage.link.cut_at = storage.link.sent + PART + PART // 2
    for start in range(0, len(LARGE), 5 * CHUNK):
        piece = LARGE[start : start + 5 * CHUNK]
        answer = await registry.ask("PATCH", path, piece, Content_Range=f"{start}-{start + len(piece) - 1}")
        assert answer.status == 202, answer
    assert (await registry.ask("PUT", f"{path}?digest={digest_of(LARGE)}")).status == 201
    assert storage.link.cut_at is None  # it was cut
    assert (await registry.ask("GET", f"shop/blobs/{digest_of(LARGE)}")).body == LARGE
    await until(lambda: _none(storage))


async def _none(storage) -> bool:
    return await storage.parts() == 0


async def test_while_s3_is_away_uploads_go_on_manifests_are_pulled_and_nothing_is_lost(registry, storage):
    image = small_image((b"old",))
    await registry.push_image("shop", image, "1")
    path = await begun(registry)
    assert (await registry.ask("PATCH", path, LARGE[:PART])).status == 202
    storage.link.cut()
    assert (await registry.ask("PATCH", path, LARGE[PART:])).headers["Range"] == f"0-{len(LARGE) - 1}"
    assert (await registry.ask("PUT", f"{path}?digest={digest_of(LARGE)}")).said == (503, "UNAVAILABLE")
    assert (await registry.ask("GET", f"shop/blobs/{digest_of(b'old')}")).said == (503, "UNAVAILABLE")
    assert (await registry.ask("GET", "shop/manifests/1")).body == image.manifest
    assert (await registry.ask("GET", path)).headers["Range"] == f"0-{len(LARGE) - 1}"
    storage.link.mend()
    assert (await registry.ask("PUT", f"{path}?digest={digest_of(LARGE)}")).status == 201
    assert (await registry.ask("GET", f"shop/blobs/{digest_of(LARGE)}")).body == LARGE


async def test_what_is_deleted_while_s3_is_away_is_gone_at_once_and_freed_later(nats_platform, tmp_path, storage):
    async with registry_at(nats_platform, tmp_path) as registry:
        for name in ("shop", "bank"):
            await registry.aws("CreateRepository", repositoryName=name)
            await registry.push_image(name, small_image((name.encode(),)), "1")
        storage.link.cut()
        image = small_image((b"shop",))
        assert (await registry.ask("DELETE", f"shop/manifests/{image.digest}")).status == 202
        assert (await registry.ask("GET", "shop/manifests/1")).said == (404, "MANIFEST_UNKNOWN")
        await registry.aws("DeleteRepository", repositoryName="bank", force=True)
        with pytest.raises(StorageAway):
            await registry.app.cleaner.clean(time.time())
        storage.link.mend()
    async with registry_at(nats_platform, tmp_path) as registry:
        await registry.app.cleaner.clean(time.time() + 10 * 24 * 3600)
        assert await storage.keys("data") == await storage.keys("repositories") == []


async def test_a_push_goes_on_after_the_kill_of_the_registry_and_its_parts_are_dropped(
    nats_platform, tmp_path, storage
):
    async with registry_at(nats_platform, tmp_path) as registry:
        await registry.aws("CreateRepository", repositoryName="shop")
        path, auth = await begun(registry), registry.auth()
    async with registry_process(nats_platform, tmp_path) as (process, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"PATCH /v2/{path} HTTP/1.1\r\nHost: x\r\nAuthorization: {auth}\r\nContent-Length: {len(LARGE)}\r\n\r\n"
        writer.write(head.encode() + LARGE[: PART + 3 * CHUNK])
        await until(lambda: _some(storage))
        process.kill()
        await process.wait()
        writer.close()
    assert await storage.keys("content") == []
    async with registry_at(nats_platform, tmp_path) as registry:
        arrived = int((await registry.ask("GET", path)).headers["Range"].partition("-")[2]) + 1
        assert 0 < arrived <= PART + 3 * CHUNK
        assert (await registry.ask("HEAD", f"shop/blobs/{digest_of(LARGE)}")).status == 404
        done = await registry.ask("PUT", f"{path}?digest={digest_of(LARGE)}", LARGE[arrived:])
        assert done.status == 201
        assert (await registry.ask("GET", f"shop/blobs/{digest_of(LARGE)}")).body == LARGE
        assert await storage.parts() == 1  # of the one that was killed
        await registry.app.cleaner.clean(time.time())
        assert await storage.parts() == 0
        assert (await registry.ask("GET", f"shop/blobs/{digest_of(LARGE)}")).body == LARGE


async def _some(storage) -> bool:
    return await storage.parts() > 0


async def test_parts_that_somebody_else_aborted_are_sent_again(registry, storage):
    path = await begun(registry)
    await registry.ask("PATCH", path, LARGE[: 2 * PART])
    for each in await until(lambda: storage.bucket.unfinished(f"{storage.prefix}/")):
        await storage.bucket.abort(each.key, each.id)
    assert (await registry.ask("PUT", f"{path}?digest={digest_of(LARGE)}", LARGE[2 * PART :])).status == 201
    assert (await registry.ask("GET", f"shop/blobs/{digest_of(LARGE)}")).body == LARGE


async def test_an_upload_that_is_cancelled_leaves_no_parts(registry, storage):
    path = await begun(registry)
    await registry.ask("PATCH", path, LARGE)
    await until(lambda: _some(storage))
    assert (await registry.ask("DELETE", path)).status == 204
    await until(lambda: _none(storage))
    assert await storage.keys("data") == []


async def test_a_full_bucket_is_507_and_a_forbidden_one_is_503(registry, storage, monkeypatch):
    async def refuse(self, key, *arguments, **options):
        raise error

    monkeypatch.setattr(Bucket, "put", refuse)
    error = S3Full("no room", "InsufficientStorage", 507)
    digest = digest_of(b"whole")
    assert (await registry.ask("POST", f"shop/blobs/uploads/?digest={digest}", b"whole")).said == (507, "STORAGE_FULL")
    path = await begun(registry)
    await registry.ask("PATCH", path, b"whole")
    error = S3Denied("no", "AccessDenied", 403)
    answer = await registry.ask("PUT", f"{path}?digest={digest}")
    assert answer.said == (503, "UNAVAILABLE")
    assert b"may not use its storage" in answer.body
    monkeypatch.undo()
    assert (await registry.ask("PUT", f"{path}?digest={digest}")).status == 201


async def test_data_that_are_lost_are_told_and_come_again_with_the_next_push(registry, storage):
    digest = await registry.push_blob("shop", b"data")
    (key,) = await storage.keys("data")
    await storage.bucket.delete(key)
    assert (await registry.ask("GET", f"shop/blobs/{digest}")).said == (500, "UNKNOWN")
    assert (await registry.ask("HEAD", f"shop/blobs/{digest}")).status == 404
    await registry.push_blob("shop", b"data")
    assert (await registry.ask("GET", f"shop/blobs/{digest}")).body == b"data"
    assert (len(await storage.keys("data")), len(await storage.keys("content"))) == (1, 1)


async def test_clients_may_be_sent_to_s3_itself(nats_platform, tmp_path, storage):
    async with registry_at(nats_platform, tmp_path, redirect=True, sealed=False) as registry:
        await registry.aws("CreateRepository", repositoryName="shop")
        digest = await registry.push_blob("shop", b"content")
        answer = await registry.ask("GET", f"shop/blobs/{digest}")
        assert (answer.status, answer.headers["Docker-Content-Digest"]) == (307, digest)
        async with registry.session.get(answer.headers["Location"]) as there:
            assert await there.read() == b"content"


@pytest.mark.parametrize(
    "variables, why",
    [
        ({"ROADSTEAD_REGISTRY_BUCKET": ""}, "set ROADSTEAD_REGISTRY_BUCKET"),
        ({"ROADSTEAD_REGISTRY_BUCKET": "nowhere"}, "'nowhere' at http://127.0.0.1:.*: there is no such bucket"),
        ({"ROADSTEAD_S3_ENDPOINT": "http://127.0.0.1:1", "ROADSTEAD_S3_ATTEMPTS": "1"}, "can't be reached"),
        ({"ROADSTEAD_S3_ACCESS_KEY_ID": READER}, "403 AccessDenied"),
        ({"ROADSTEAD_S3_ACCESS_KEY_ID": ""}, "S3 needs keys"),
    ],
)
async def test_a_storage_that_does_not_do_is_told_at_the_start(
    nats_platform, tmp_path, storage, monkeypatch, variables, why
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=why):
        async with registry_at(nats_platform, tmp_path):
            pass
