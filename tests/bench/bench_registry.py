"""Layers in and out, manifests by tag, and what a push of a manifest costs: `python -m tests.bench.bench_registry`.

On a file system in memory, so that it is the registry that is measured; the clients are curl and tests.bench.load.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import uvloop

from contracts.grants import OPERATOR, USERS
from services.shared.nats_server import NatsServer
from services.shared.provision import provision
from tests.bench.figures import Figure, median, percentile, table
from tests.bench.load import load
from tests.builders.images import digest_of
from tests.builders.registry import RunningRegistry, registry_at, small_image
from tests.integration.conftest import Platform

LAYER_MB = 200
ROUNDS = 5
PUSHES = 200


def run() -> list[Figure]:
    """All figures of the registry."""
    return uvloop.run(_run())


async def _run() -> list[Figure]:
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="roadstead-bench-", dir=memory) as directory:
        data = Path(directory)
        passwords = {user: secrets.token_hex(8) for user in (OPERATOR, *USERS)}
        server = NatsServer(data / "nats", passwords)
        await server.start()
        platform = Platform(server, passwords)
        try:
            await provision(await platform.bus(OPERATOR))
            async with registry_at(platform, data / "registry") as registry:
                await registry.aws("CreateRepository", repositoryName="bench")
                return [*await _layers(registry, data / "layer"), *await _manifests(registry)]
        finally:
            await platform.close()


async def _layers(registry: RunningRegistry, file: Path) -> list[Figure]:
    content = os.urandom(LAYER_MB * 1_000_000)
    file.write_bytes(content)
    digest = digest_of(content)
    del content
    blob = f"{registry.base}/v2/bench/blobs"
    puts, gets = [], []
    for _ in range(ROUNDS):
        await registry.ask("DELETE", f"bench/blobs/{digest}")
        await registry.parts.blobs.sweep(time.time() + 1)
        puts.append(await _curl(registry, "-X", "POST", "-T", str(file), f"{blob}/uploads?digest={digest}"))
        gets.append(await _curl(registry, f"{blob}/{digest}"))
    return [
        Figure("PUT of a layer", LAYER_MB / median(puts), "MB/s"),
        Figure("GET of a layer", LAYER_MB / median(gets), "MB/s"),
    ]


async def _curl(registry: RunningRegistry, *arguments: str) -> float:
    """Seconds that a request took."""
    flags = ("--silent", "--fail", "--output", "/dev/null", "--user", f"AWS:{registry.password}", "--header", "Expect:")
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec("curl", *flags, *arguments)
    if await process.wait():
        raise RuntimeError(f"curl failed: {arguments}")
    return time.perf_counter() - began


async def _manifests(registry: RunningRegistry) -> list[Figure]:
    await registry.push_image("bench", small_image(), "1")
    pushes = [await _timed(lambda n=n: _push(registry, n)) for n in range(PUSHES)]
    request = f"GET /v2/bench/manifests/1 HTTP/1.1\r\nHost: bench\r\nAuthorization: {registry.auth()}\r\n\r\n"
    rate = await asyncio.to_thread(load, registry.port, request.encode())
    return [
        Figure("manifest by tag, 8 connections", rate, "a second"),
        Figure("push of a manifest and its tag p50", percentile(pushes, 50) * 1000, "ms"),
        Figure("push of a manifest and its tag p99", percentile(pushes, 99) * 1000, "ms"),
    ]


async def _push(registry: RunningRegistry, number: int) -> None:
    image = small_image(annotations={"number": str(number)})
    answer = await registry.ask("PUT", f"bench/manifests/t{number}", image.manifest, Content_Type=image.media_type)
    if answer.status != 201:
        raise RuntimeError(f"a push was answered with {answer.status}")


async def _timed(work: Callable[[], Coroutine[Any, Any, None]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


if __name__ == "__main__":
    print(table(run()))
