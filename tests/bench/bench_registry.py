"""The registry beside Debian's docker-registry: images and layers in and out, manifests, memory, many tags.

`python -m tests.bench registry`. Both are processes over the same disk, asked by the same clients (skopeo, curl,
tests.bench.load) in turns; figures are of the round whose ratio is the middle one: others load both alike.
"""

from __future__ import annotations

import asyncio
import gzip
import itertools
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import aiohttp
import structlog
import uvloop
from msgspec.structs import replace

from contracts.records.registry import IMAGE_TAG, KINDS, ImageTag
from services.shared.state import Store
from tests.bench.figures import Figure, at_least, at_most, median, percentile, table
from tests.bench.load import load
from tests.bench.registries import Registry, debians, ours
from tests.builders.images import BuiltImage, digest_of
from tests.builders.registry import ACCOUNT, REGION, small_image

PEER = "docker-registry"
IMAGE_MB, LAYERS, LAYER_MB = 500, 5, 200
ROUNDS, PUSHES, TAGS, AT_ONCE = 3, 200, 10_000, 10
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
Measure = Callable[[Registry, str], Awaitable[float]]


def run() -> list[Figure]:
    """All figures of the registry."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    return uvloop.run(_run())


async def _run() -> list[Figure]:
    names = [f"bench/{number}" for number in range(2 * ROUNDS + AT_ONCE + 1)]
    with (
        tempfile.TemporaryDirectory(prefix="roadstead-bench-") as disk,
        tempfile.TemporaryDirectory(prefix="roadstead-bench-", dir=MEMORY) as memory,
    ):
        async with ours(Path(disk), names) as own, debians(Path(disk)) as peer, aiohttp.ClientSession() as session:
            fresh = iter(names)
            both = Both(own, peer, fresh)
            return [
                *await _images(both, Path(memory)),
                *await _layers(both, Path(memory), session),
                *await _manifests(both, names[-1], session),
                *await _tags(own, names[-1], session),
            ]


class Both:
    """The two, and names of repositories that nothing was pushed to."""

    def __init__(self, own: Registry, peer: Registry | None, fresh: Iterator[str]) -> None:
        self.own, self.peer, self.fresh = own, peer, fresh

    async def round(self, measure: Measure, number: int, name: str) -> tuple[float, float | None]:
        """What is measured of both, who is first changing from round to round."""
        if self.peer is None:
            return await measure(self.own, name), None
        if number % 2:
            theirs = await measure(self.peer, name)
            return await measure(self.own, name), theirs
        return await measure(self.own, name), await measure(self.peer, name)


def _middle(rounds: list[tuple[float, float | None]]) -> tuple[float, float | None]:
    return sorted(rounds, key=lambda r: r[0] / r[1] if r[1] else r[0])[len(rounds) // 2]


async def _images(both: Both, folder: Path) -> list[Figure]:
    """skopeo's pushes and pulls of an image, in MB/s."""
    if shutil.which("skopeo") is None:
        print("  left out: skopeo is not installed", file=sys.stderr)
        return []
    size = IMAGE_MB * 1_000_000 // LAYERS
    image = small_image(tuple(gzip.compress(os.urandom(size), 0) for _ in range(LAYERS)))
    layout = image.write_oci_layout(folder / "image", tag="1")
    homes, pushed, pulled = itertools.count(), [], []

    async def push(registry: Registry, name: str) -> float:
        began = time.perf_counter()
        await registry.skopeo(folder / f"home{next(homes)}", f"oci:{layout}:1", f"REGISTRY/{name}:1")
        return IMAGE_MB / (time.perf_counter() - began)

    async def pull(registry: Registry, name: str) -> float:
        target = folder / "pulled"
        began = time.perf_counter()
        await registry.skopeo(folder / f"home{next(homes)}", f"REGISTRY/{name}:1", f"dir:{target}")
        took = time.perf_counter() - began
        shutil.rmtree(target)
        return IMAGE_MB / took

    for number in range(ROUNDS):
        name = next(both.fresh)
        pushed.append(await both.round(push, number, name))
        pulled.append(await both.round(pull, number, name))
    shutil.rmtree(layout)
    return [
        at_least(f"skopeo pushes an image of {IMAGE_MB} MB", *_with("MB/s", _middle(pushed)), 0.9),
        at_least("… and pulls it", *_with("MB/s", _middle(pulled)), 0.9),
    ]


def _with(unit: str, values: tuple[float, float | None]) -> tuple[float, str, str, float | None]:
    return values[0], unit, PEER, values[1]


async def _layers(both: Both, folder: Path, session: aiohttp.ClientSession) -> list[Figure]:
    """A layer in and out, in MB/s; and what many at once take of memory."""
    file = folder / "layer"
    file.write_bytes(os.urandom(LAYER_MB * 1_000_000))
    digest = digest_of(file.read_bytes())

    async def put(registry: Registry, name: str) -> float:
        began = time.perf_counter()
        await registry.put(session, name, file, digest)
        return LAYER_MB / (time.perf_counter() - began)

    async def get(registry: Registry, name: str) -> float:
        began = time.perf_counter()
        await registry.curl(f"{registry.base}/{name}/blobs/{digest}")
        return LAYER_MB / (time.perf_counter() - began)

    puts, gets = [], []
    for number in range(ROUNDS):
        name = next(both.fresh)
        puts.append(await both.round(put, number, name))
        gets.append(await both.round(get, number, name))
    (ours_in, theirs_in), (ours_out, theirs_out) = _middle(puts), _middle(gets)
    names = [next(both.fresh) for _ in range(AT_ONCE)]
    before = both.own.resident_mib()
    most = await _most(both.own, asyncio.gather(*(both.own.put(session, name, file, digest) for name in names)))
    return [
        Figure("PUT of a layer", ours_in, "MB/s", PEER, theirs_in, theirs_in and ours_in / theirs_in),
        Figure("GET of a layer", ours_out, "MB/s", PEER, theirs_out, theirs_out and ours_out / theirs_out),
        at_most(f"resident memory while {AT_ONCE} layers of {LAYER_MB} MB go in at once", most, "MiB", 150),
        Figure("… before them", before, "MiB"),
    ]


async def _most(registry: Registry, work: Awaitable[object]) -> float:
    """The most memory that it has while something is done."""
    most, doing = 0.0, asyncio.ensure_future(work)
    while not doing.done():
        most = max(most, registry.resident_mib())
        await asyncio.wait({doing}, timeout=0.05)
    await doing
    return most


async def _manifests(both: Both, name: str, session: aiohttp.ClientSession) -> list[Figure]:
    async def gets(registry: Registry, name: str) -> float:
        lines = [f"GET /v2/{name}/manifests/1 HTTP/1.1", "Host: bench", f"Accept: {image.media_type}"]
        lines += [f"{header}: {value}" for header, value in registry.headers().items()]
        return await asyncio.to_thread(load, registry.port, "\r\n".join([*lines, "", ""]).encode(), seconds=2.0)

    image = small_image()
    for registry in filter(None, (both.own, both.peer)):
        for digest, data in image.blobs.items():
            with tempfile.NamedTemporaryFile() as file:
                file.write(data)
                file.flush()
                await registry.put(session, name, Path(file.name), digest)
        await _push(registry, session, name, "1", image)
    rounds = [await both.round(gets, number, name) for number in range(ROUNDS)]
    pushes = []
    for number in range(PUSHES):
        each = small_image(annotations={"number": str(number)})
        began = time.perf_counter()
        await _push(both.own, session, name, f"t{number}", each)
        pushes.append((time.perf_counter() - began) * 1000)
    return [
        at_least("manifest by tag, 8 connections", *_with("/s", _middle(rounds)), 5),
        Figure("push of a manifest and its tag p50", percentile(pushes, 50), "ms"),
        Figure("push of a manifest and its tag p99", percentile(pushes, 99), "ms"),
    ]


async def _push(registry: Registry, session: aiohttp.ClientSession, name: str, tag: str, image: BuiltImage) -> None:
    headers = {**registry.headers(), "Content-Type": image.media_type}
    url = f"{registry.base}/{name}/manifests/{tag}"
    async with session.put(url, data=image.manifest, headers=headers) as answer:
        answer.raise_for_status()


async def _tags(own: Registry, name: str, session: aiohttp.ClientSession) -> list[Figure]:
    """A repository of many tags, which are written as the registry itself writes them."""
    assert own.platform is not None
    store = await Store.open(await own.platform.bus("registry"), KINDS)
    digest = digest_of(small_image().manifest)
    record = ImageTag(account=ACCOUNT, region=REGION, repository=name, tag="", digest=digest, tagged_at=time.time())
    numbers = iter(range(TAGS - PUSHES - 1))

    async def write() -> None:
        for number in numbers:
            await store.put(IMAGE_TAG, replace(record, tag=f"v{number}"), "tag.moved.v1")

    await asyncio.gather(*(write() for _ in range(32)))
    await store.close()
    took: list[float] = []
    while len(took) < 15:
        began = time.perf_counter()
        async with session.get(f"{own.base}/{name}/tags/list", headers=own.headers()) as answer:
            found = (await answer.json())["tags"]
        if len(found) == TAGS:  # the last ones may be on their way
            took.append((time.perf_counter() - began) * 1000)
    return [at_most(f"a repository of {TAGS:,} tags lists, p50", median(took), "ms", 100)]


if __name__ == "__main__":
    print(table(run()))
