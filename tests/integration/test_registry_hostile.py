"""Clients and upstreams that break off, are slow or lie, and a process that is killed while it is pushed to."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random

import aiohttp
import pytest

from services.registry.decisions.manifests import MAX_MANIFEST
from services.registry.decisions.names import RepositoryId
from tests.builders.images import digest_of
from tests.builders.registry import ACCOUNT, REGION, registry_at, small_image
from tests.builders.waiting import until
from tests.fakes.image_registry import ImageRegistry
from tests.integration.test_registry_faults import registry_process

SHOP = RepositoryId(ACCOUNT, REGION, "shop")
UPLOADS = 200


@pytest.fixture
async def registry(nats_platform, tmp_path):
    async with registry_at(nats_platform, tmp_path / "data") as running:
        await running.aws("CreateRepository", repositoryName="shop")
        yield running


class Sent:
    """A request on a bare connection, of which as much is sent as the test likes."""

    def __init__(self, registry, method: str, path: str, length: int, content_type: str = "") -> None:
        self._port = registry.port
        lines = [f"{method} /v2/{path} HTTP/1.1", "Host: x", f"Authorization: {registry.auth()}"]
        lines += [f"Content-Length: {length}", *([f"Content-Type: {content_type}"] if content_type else [])]
        self._head = "\r\n".join([*lines, "", ""]).encode()

    async def begin(self, data: bytes = b"") -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        await self.go_on(self._head + data)

    async def go_on(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def status(self) -> int:
        return int((await self._reader.readline()).split()[1])

    def cut(self) -> None:
        self._writer.transport.abort()


async def begun(registry) -> str:
    """A new upload's path."""
    return (await registry.ask("POST", "shop/blobs/uploads/")).headers["Location"].removeprefix("/v2/")


async def reached(registry, path: str) -> int:
    last = int((await registry.ask("GET", path)).headers["Range"].partition("-")[2])
    return last + 1 if last else 0


async def test_an_upload_that_is_cut_at_any_byte_is_gone_on_with_and_nothing_of_it_is_seen_before(registry, tmp_path):
    size = 2 * 1024 * 1024 + 17
    cuts = [0, 1, 2, 65_535, 65_536, 1024 * 1024 - 1, 1024 * 1024, 1024 * 1024 + 1, size - 2, size - 1]
    seed = random.randrange(2**32)
    cuts += random.Random(seed).sample(range(size), 6)
    for cut in cuts:
        data = os.urandom(size)
        digest = digest_of(data)
        path = await begun(registry)
        sent = Sent(registry, "PATCH", path, size)
        await sent.begin(data[:cut])
        if cut > 1:
            await until(lambda path=path, cut=cut: _arrived(registry, path, cut), 30)
        sent.cut()
        assert (await registry.ask("GET", f"shop/blobs/{digest}")).said == (404, "BLOB_UNKNOWN"), (cut, seed)
        start = await reached(registry, path)
        assert start <= cut
        rest = await registry.ask("PATCH", path, data[start:], Content_Range=f"{start}-{size - 1}")
        if rest.status == 416:  # what was on its way when it was asked has been written since; 0-0 may mean one byte
            start = int(rest.headers["Range"].partition("-")[2]) + 1
            rest = await registry.ask("PATCH", path, data[start:], Content_Range=f"{start}-{size - 1}")
        assert rest.status == 202, (cut, seed, rest)
        assert (await registry.ask("PUT", f"{path}?digest={digest}")).status == 201
        assert (await registry.ask("GET", f"shop/blobs/{digest}")).body == data
        await registry.ask("DELETE", f"shop/blobs/{digest}")
    assert not list((tmp_path / "data" / "registry").rglob("uploads/*"))


async def _arrived(registry, path: str, cut: int) -> bool:
    """Whether what was sent has been read, so that the cut comes behind it: all, but for what waits to be a chunk."""
    return await reached(registry, path) >= cut - 1024 * 1024


async def test_a_whole_upload_and_a_manifest_that_are_cut_leave_nothing(registry, tmp_path):
    data, image = os.urandom(300_000), small_image()
    for blob in image.blobs.values():
        await registry.push_blob("shop", blob)
    before = sorted(path for path in (tmp_path / "data" / "registry").rglob("*") if path.is_file())
    for method, path, body in (
        ("POST", f"shop/blobs/uploads/?digest={digest_of(data)}", data),
        ("PUT", "shop/manifests/1", image.manifest),
    ):
        for cut in (1, len(body) // 2, len(body) - 1):
            sent = Sent(registry, method, path, len(body), image.media_type)
            await sent.begin(body[:cut])
            sent.cut()
    assert (await registry.ask("GET", f"shop/blobs/{digest_of(data)}")).said == (404, "BLOB_UNKNOWN")
    assert (await registry.ask("GET", "shop/manifests/1")).said == (404, "MANIFEST_UNKNOWN")

    def clean() -> bool:
        return sorted(path for path in (tmp_path / "data" / "registry").rglob("*") if path.is_file()) == before

    await until(clean, 30)


async def test_two_hundred_slow_uploads_at_once_come_whole_and_hold_up_nobody(registry):
    image = small_image()
    await registry.push_image("shop", image, "1")
    blobs = [os.urandom(40_000) for _ in range(UPLOADS)]
    sent = [Sent(registry, "PATCH", await begun(registry), len(blob)) for blob in blobs]
    paths = [each._head.split()[1].decode().removeprefix("/v2/") for each in sent]
    await asyncio.gather(*(each.begin() for each in sent))
    for start in range(0, 40_000, 10_000):
        await asyncio.gather(*(s.go_on(b[start : start + 10_000]) for s, b in zip(sent, blobs, strict=True)))
        # All two hundred are open and none is done: others are served meanwhile.
        assert (await registry.ask("GET", "shop/manifests/1")).body == image.manifest
        assert await registry.push_blob("shop", b"meanwhile %d" % start)
    assert {await each.status() for each in sent} == {202}
    for path, blob in zip(paths, blobs, strict=True):
        digest = digest_of(blob)
        assert (await registry.ask("PUT", f"{path}?digest={digest}")).status == 201
        assert (await registry.ask("GET", f"shop/blobs/{digest}")).body == blob
    for each in sent:
        each.cut()


NO_REFERENCES = (
    ("GET", "shop/manifests/..%2F..%2Ftoken.key"),
    ("GET", "shop/blobs/sha256:..%2F..%2F..%2F..%2F..%2Ftoken.key"),
    ("GET", f"shop/blobs/sha256:{'.' * 64}"),
    ("PATCH", "shop/blobs/uploads/..%2F..%2F..%2F..%2F..%2Ftoken.key"),
    ("DELETE", "shop/blobs/uploads/..%2F..%2F..%2F..%2F..%2Ftoken.key"),
    ("PUT", f"shop/blobs/uploads/..%2Ftoken.key?digest=sha256:{'a' * 64}"),
    ("POST", "shop/blobs/uploads/?digest=sha256:..%2F..%2Ftoken.key"),
    ("POST", "shop/blobs/uploads/?resume=..%2F..%2Ftoken.key"),
    ("DELETE", "shop/manifests/..%2F..%2Ftoken.key"),
    ("GET", "shop/referrers/..%2F..%2Ftoken.key"),
)


async def test_what_is_no_reference_leads_nowhere(registry, tmp_path):
    key = (tmp_path / "data" / "registry" / "token.key").read_bytes()
    for method, path in NO_REFERENCES:
        sent = Sent(registry, method, path, 0)
        await sent.begin()
        status = await sent.status()
        sent.cut()
        # A POST whose `resume` is of no concern to it begins an upload under an id of its own.
        assert status in (400, 404) or (status == 202 and "resume" in path), (method, path, status)
    assert (tmp_path / "data" / "registry" / "token.key").read_bytes() == key


async def test_a_manifest_of_an_upstream_has_at_most_four_mebibytes(registry):
    async with ImageRegistry() as upstream:
        await registry.aws("CreatePullThroughCacheRule", ecrRepositoryPrefix="hub", upstreamRegistryUrl=upstream.host)
        image = small_image()
        upstream.push_manifest("app", "1", image.media_type, image.manifest + b" " * MAX_MANIFEST)
        answer = await registry.ask("GET", "hub/app/manifests/1")
        assert (answer.status, b"more than" in answer.body) == (503, True)
        assert registry.parts.repositories.find(RepositoryId(ACCOUNT, REGION, "hub/app")) is None


async def test_what_was_acknowledged_before_a_kill_is_there_and_what_is_there_is_whole(nats_platform, tmp_path):
    async with registry_at(nats_platform, tmp_path) as registry:
        await registry.aws("CreateRepository", repositoryName="shop")
        auth = {"Authorization": registry.auth()}
    acknowledged: dict[str, bytes] = {}
    numbers = itertools.count()
    for _ in range(3):
        async with registry_process(nats_platform, tmp_path) as (process, port), aiohttp.ClientSession() as session:
            pushers = [
                asyncio.create_task(_push_on(session, f"http://127.0.0.1:{port}/v2/shop", auth, numbers, acknowledged))
                for _ in range(4)
            ]
            enough = len(acknowledged) + 8
            await until(lambda enough=enough: len(acknowledged) >= enough, 60)
            process.kill()
            await process.wait()
            await asyncio.gather(*pushers)
    async with registry_at(nats_platform, tmp_path) as registry:
        for tag, manifest in acknowledged.items():
            assert (await registry.ask("GET", f"shop/manifests/{tag}")).body == manifest
        images = registry.parts.images.all(SHOP)
        assert len(images) >= len(acknowledged)
        for image in images:
            for blob in (*image.layers, image.config):
                data = (await registry.ask("GET", f"shop/blobs/{blob.digest}")).body
                assert (digest_of(data), len(data)) == (blob.digest, blob.size)


async def _push_on(session, base: str, auth: dict[str, str], numbers, acknowledged: dict[str, bytes]) -> None:
    """Push images until the registry is gone; those whose tag it acknowledged."""
    with contextlib.suppress(aiohttp.ClientError, ConnectionError):
        while True:
            tag = f"t{next(numbers)}"
            image = small_image((os.urandom(150_000), tag.encode()))
            for digest, data in image.blobs.items():
                async with session.post(f"{base}/blobs/uploads/?digest={digest}", data=data, headers=auth) as answer:
                    assert answer.status == 201
            headers = {**auth, "Content-Type": image.media_type}
            async with session.put(f"{base}/manifests/{tag}", data=image.manifest, headers=headers) as answer:
                if answer.status == 201:
                    acknowledged[tag] = image.manifest
