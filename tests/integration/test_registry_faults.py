"""What the registry does when something is away, full, or ends at the wrong moment."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import subprocess
import time

import pytest

from contracts.records.registry import IMAGE, IMAGE_TAG, REPOSITORY
from contracts.rpc.registry import ISSUE_PULL_TOKEN, IssuePullToken, PullToken
from services.registry.adapters import uploads
from services.registry.decisions.names import RepositoryId
from services.registry.decisions.segments import SEGMENT, sealed_size
from services.shared.bus import CommandRefused
from services.shared.errors import AwsError, StateUnavailable
from tests.builders.images import digest_of
from tests.builders.registry import ACCOUNT, REGION, registry_at, registry_process, small_image
from tests.builders.waiting import until

SHOP = RepositoryId(ACCOUNT, REGION, "shop")


def files(root) -> set[str]:
    """The blobs and uploads there are."""
    return {path.name for path in root.rglob("*") if path.is_file() and path.suffix not in (".key", ".id")}


async def test_a_full_disk_is_507_and_leaves_nothing(nats_platform, tmp_path, monkeypatch):
    async with registry_at(nats_platform, tmp_path) as registry:
        await registry.aws("CreateRepository", repositoryName="shop")
        path = (await registry.ask("POST", "shop/blobs/uploads/")).headers["Location"].removeprefix("/v2/")
        upload_id = (await registry.aws("InitiateLayerUpload", repositoryName="shop")).upload_id

        def full(descriptor, data, at):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(uploads.os, "pwrite", full)
        assert (await registry.ask("PATCH", path, b"x" * 100)).said == (507, "STORAGE_FULL")
        digest = digest_of(b"whole")
        assert (await registry.ask("POST", f"shop/blobs/uploads/?digest={digest}", b"whole")).status == 507
        part = {"uploadId": upload_id, "partFirstByte": 0, "partLastByte": 0, "layerPartBlob": "eA=="}
        with pytest.raises(AwsError) as refused:
            await registry.aws("UploadLayerPart", repositoryName="shop", **part)
        assert refused.value.code == "LimitExceededException"
        assert files(tmp_path / "registry") == set()
        monkeypatch.undo()
        assert await registry.push_blob("shop", b"whole") == digest


@pytest.fixture
def two_mebibytes(tmp_path):
    """A file system that has no more room than that."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a file system of its own takes root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


async def test_a_file_system_that_is_really_full(nats_platform, two_mebibytes):
    async with registry_at(nats_platform, two_mebibytes) as registry:
        await registry.aws("CreateRepository", repositoryName="shop")
        large = os.urandom(4 * 1024 * 1024)
        answer = await registry.ask("POST", f"shop/blobs/uploads/?digest={digest_of(large)}", large)
        assert answer.said == (507, "STORAGE_FULL")
        assert (await registry.ask("HEAD", f"shop/blobs/{digest_of(large)}")).status == 404
        assert files(two_mebibytes / "registry") == set()
        fits = os.urandom(1024 * 1024)
        digest = await registry.push_blob("shop", fits)
        assert (await registry.ask("GET", f"shop/blobs/{digest}")).body == fits


async def test_without_nats_a_push_is_503_and_invisible_and_pulls_go_on(nats_platform, tmp_path):
    async with registry_at(nats_platform, tmp_path) as registry:
        await registry.aws("CreateRepository", repositoryName="shop")
        old, new = small_image((b"old",)), small_image((b"new",))
        await registry.push_image("shop", old, "1")
        await nats_platform.server.stop()
        answer = await registry.push_image("shop", new, "1")
        assert answer.said == (503, "UNAVAILABLE")
        assert (await registry.ask("GET", "shop/manifests/1")).body == old.manifest
        assert (await registry.ask("GET", f"shop/manifests/{new.digest}")).said == (404, "MANIFEST_UNKNOWN")
        with pytest.raises(StateUnavailable):
            await registry.aws("CreateRepository", repositoryName="other")
        await nats_platform.server.start()
        async with asyncio.timeout(30):
            while (await registry.push_image("shop", new, "1")).status != 201:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert (await registry.ask("GET", "shop/manifests/1")).body == new.manifest


async def test_all_is_there_after_a_restart(nats_platform, tmp_path):
    image = small_image((b"1", b"2"))
    async with registry_at(nats_platform, tmp_path) as registry:
        await registry.aws("CreateRepository", repositoryName="shop")
        await registry.push_image("shop", image, "1")
        password = registry.password
        begun = await registry.ask("POST", "shop/blobs/uploads/")
        path = begun.headers["Location"].removeprefix("/v2/")
        await registry.ask("PATCH", path, b"half ")
    async with registry_at(nats_platform, tmp_path) as registry:
        assert (await registry.ask("GET", "shop/manifests/1", Authorization=registry.auth(password))).status == 200
        assert (await registry.ask("GET", f"shop/blobs/{digest_of(b'2')}")).body == b"2"
        assert (await registry.ask("GET", path)).headers["Range"] == "0-4"
        done = await registry.ask("PUT", f"{path}?digest={digest_of(b'half done')}", b"done")
        assert done.status == 201


async def test_an_upload_survives_the_kill_of_the_process_and_no_half_blob_is_served(nats_platform, tmp_path):
    data = os.urandom(3 * 1024 * 1024)
    digest = digest_of(data)
    async with registry_at(nats_platform, tmp_path) as registry:
        await registry.aws("CreateRepository", repositoryName="shop")
        path = (await registry.ask("POST", "shop/blobs/uploads/")).headers["Location"].removeprefix("/v2/")
        auth = registry.auth()
    async with registry_process(nats_platform, tmp_path) as (process, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"PATCH /v2/{path} HTTP/1.1\r\nHost: x\r\nAuthorization: {auth}\r\nContent-Length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data[: 2 * 1024 * 1024])
        upload = next(tmp_path.rglob("uploads/*"))
        await until(lambda: upload.stat().st_size >= 1024 * 1024)
        process.kill()
        writer.close()
    async with registry_at(nats_platform, tmp_path) as registry:
        assert (await registry.ask("GET", f"shop/blobs/{digest}")).said == (404, "BLOB_UNKNOWN")
        reached = int((await registry.ask("GET", path)).headers["Range"].partition("-")[2]) + 1
        assert 15 * SEGMENT <= reached <= 2 * 1024 * 1024  # what was torn in a segment is not there
        rest = data[reached:]
        more = await registry.ask("PATCH", path, rest, Content_Range=f"{reached}-{len(data) - 1}")
        assert more.status == 202
        assert (await registry.ask("PUT", f"{path}?digest={digest}")).status == 201
        assert (await registry.ask("GET", f"shop/blobs/{digest}")).body == data


async def test_a_deletion_that_broke_off_is_finished_at_the_next_start(nats_platform, tmp_path):
    async with registry_at(nats_platform, tmp_path) as registry:
        await registry.aws("CreateRepository", repositoryName="shop")
        await registry.push_image("shop", small_image(), "1")
        await registry.app._store.delete(REPOSITORY, (ACCOUNT, REGION, "shop"), "repository.deleted.v1")
        assert (await registry.ask("GET", "shop/manifests/1")).said == (404, "NAME_UNKNOWN")
    async with registry_at(nats_platform, tmp_path) as registry:
        store = registry.app._store
        assert (len(store.table(IMAGE)), len(store.table(IMAGE_TAG))) == (0, 0)
        assert not list((tmp_path / "registry" / "repositories").rglob("shop"))


async def test_one_push_is_one_trace_and_its_changes_say_so(nats_platform, tmp_path):
    events = await nats_platform.bus("operator")
    async with registry_at(nats_platform, tmp_path) as registry:
        await registry.aws("CreateRepository", repositoryName="shop")
        heard = await events.client.jetstream().subscribe("events.registry.>", stream="EVENTS", ordered_consumer=True)
        assert (await heard.next_msg(30)).headers["Event"] == "repository.created.v1"
        for tag in ("1", "2"):
            await registry.push_image("shop", small_image((tag.encode(),)), tag)
        messages = [await heard.next_msg(30) for _ in range(4)]
    told = [(m.headers["Event"], m.headers["traceparent"].split("-")[1]) for m in messages]
    traces = list(dict.fromkeys(trace for _, trace in told))
    assert told == [
        ("image.pushed.v1", traces[0]),
        ("tag.moved.v1", traces[0]),
        ("image.pushed.v1", traces[1]),
        ("tag.moved.v1", traces[1]),
    ]
    spans = await events.client.jetstream().subscribe(f"traces.{traces[0]}", stream="TRACES", ordered_consumer=True)
    names: set[str] = set()
    async with asyncio.timeout(30):
        while not {"push shop", "POST uploads", "PUT manifest"} <= names:
            names |= {span["name"] for span in json.loads((await spans.next_msg(30)).data)["spans"]}


async def test_a_trace_that_the_client_began_goes_on(nats_platform, tmp_path):
    async with registry_at(nats_platform, tmp_path) as registry:
        await registry.aws("CreateRepository", repositoryName="shop")
        image = small_image()
        await registry.push_image("shop", image, image.digest)
        trace = f"00-{'ab' * 16}-{'cd' * 8}-01"
        await registry.ask("PUT", "shop/manifests/1", image.manifest, Content_Type=image.media_type, traceparent=trace)
        entry = registry.app._store.table(IMAGE_TAG).get(ACCOUNT, REGION, "shop", "1")
        assert entry.trace.split("-")[1] == "ab" * 16


async def test_an_agent_gets_a_token_that_opens_one_repository_for_pulls(nats_platform, tmp_path):
    agent = await nats_platform.bus("agent")
    async with registry_at(nats_platform, tmp_path) as registry:

        async def ask(image: str, account: str = ACCOUNT) -> PullToken:
            return await agent.call(ISSUE_PULL_TOKEN, IssuePullToken(image=image, account=account, region=REGION))

        for name in ("shop", "other"):
            await registry.aws("CreateRepository", repositoryName=name)
        image = small_image()
        await registry.push_image("shop", image, "1")
        token = await ask(f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/shop:1")
        assert (token.local, token.image, token.insecure) == (True, f"localhost:{registry.port}/shop:1", True)
        bearer = registry.auth(token.password)
        assert (await registry.ask("GET", "shop/manifests/1", Authorization=bearer)).body == image.manifest
        assert (await registry.ask("GET", "other/manifests/1", Authorization=bearer)).said == (403, "DENIED")
        assert (await registry.ask("POST", "shop/blobs/uploads/", Authorization=bearer)).said == (403, "DENIED")
        assert (await ask(f"127.0.0.1:{registry.port}/shop@{image.digest}")).image.endswith(f"/shop@{image.digest}")
        assert await ask("busybox:1") == PullToken(local=False, image="busybox:1")
        with pytest.raises(CommandRefused) as refused:
            await ask(f"localhost:{registry.port}/shop:1", account="111111111111")
        assert refused.value.code == "AccessDeniedException"
        assert "no resource-based policy allows the ecr:BatchGetImage action" in refused.value.message


async def test_what_no_image_is_made_of_is_freed_after_the_grace(nats_platform, tmp_path):
    async with registry_at(nats_platform, tmp_path, sweep_grace_s=100.0, upload_life_s=50.0) as registry:
        await registry.aws("CreateRepository", repositoryName="shop")
        kept, gone = small_image((b"kept",)), small_image((b"gone" * 10,))
        await registry.push_image("shop", kept, "1")
        await registry.push_image("shop", gone, "2")
        await registry.ask("DELETE", f"shop/manifests/{gone.digest}")
        await registry.ask("POST", "shop/blobs/uploads/")

        now = time.time()
        assert await registry.app.cleaner.clean(now) == 0
        assert (await registry.ask("HEAD", f"shop/blobs/{digest_of(b'gone' * 10)}")).status == 200
        assert await registry.app.cleaner.clean(now + 200) == sealed_size(40) + sealed_size(len(gone.manifest))
        assert (await registry.ask("HEAD", f"shop/blobs/{digest_of(b'gone' * 10)}")).status == 404
        assert (await registry.ask("GET", f"shop/blobs/{digest_of(b'kept')}")).body == b"kept"
        assert not list((tmp_path / "registry").rglob("uploads/*"))


async def test_a_push_whose_answer_from_nats_got_lost_can_be_sent_again(nats_platform, tmp_path):
    async with registry_at(nats_platform, tmp_path) as registry:
        await registry.aws("CreateRepository", repositoryName="shop")
        image = small_image()
        await registry.push_image("shop", image, "1")
        store = registry.app._store
        store.table(IMAGE).forget((ACCOUNT, REGION, "shop", image.digest))
        store.table(IMAGE_TAG).forget((ACCOUNT, REGION, "shop", "1"))
        pushed_at = (await store.refresh(IMAGE, (ACCOUNT, REGION, "shop", image.digest))).record.pushed_at
        store.table(IMAGE).forget((ACCOUNT, REGION, "shop", image.digest))
        assert (await registry.push_image("shop", image, "1")).status == 201
        (detail,) = (await registry.aws("DescribeImages", repositoryName="shop")).image_details
        assert (detail.image_tags, detail.image_pushed_at) == (["1"], pushed_at)
