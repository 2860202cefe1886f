"""The registry as a process of its own, and Debian's docker-registry beside it, over one disk."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import urllib.parse
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from contracts.grants import OPERATOR, USERS
from services.shared.nats_server import NatsServer
from services.shared.provision import provision
from tests.bench.platforms import PEERS, free_port
from tests.builders.registry import registry_at, registry_process
from tests.integration.conftest import Platform

_CONFIG = """version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  cache: {{blobdescriptor: inmemory}}
  filesystem: {{rootdirectory: {root}}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:{port}"}}
"""


@dataclass(frozen=True)
class Registry:
    """One that runs. `credentials` are `user:password`, empty where it wants none; `platform` is ours' NATS."""

    name: str
    port: int
    pid: int
    credentials: str = ""
    platform: Platform | None = None

    @property
    def base(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.port}/v2"

    def headers(self) -> dict[str, str]:
        """What a request needs."""
        if not self.credentials:
            return {}
        return {"Authorization": "Basic " + base64.b64encode(self.credentials.encode()).decode()}

    def resident_mib(self) -> float:
        """The memory that it has now."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024

    async def put(self, session: aiohttp.ClientSession, repository: str, file: Path, digest: str) -> None:
        """Push a blob with one PUT, by curl. Raises RuntimeError."""
        url = f"{self.base}/{repository}/blobs/uploads/"
        async with session.post(url, headers=self.headers()) as answer:
            answer.raise_for_status()
            place = urllib.parse.urljoin(url, answer.headers["Location"])
        await self.curl("-X", "PUT", "-T", str(file), f"{place}{'&' if '?' in place else '?'}digest={digest}")

    async def curl(self, *arguments: str) -> None:
        """A request. Raises RuntimeError when it fails."""
        flags = ["--silent", "--fail", "--output", "/dev/null", "--header", "Expect:"]
        flags += ["--header", "Content-Type: application/octet-stream"]
        flags += ["--user", self.credentials] if self.credentials else []
        process = await asyncio.create_subprocess_exec("curl", *flags, *arguments)
        if await process.wait():
            raise RuntimeError(f"curl failed: {arguments}")

    async def skopeo(self, home: Path, source: str, target: str) -> None:
        """`skopeo copy`; `REGISTRY` in source or target stands for this one. It knows nothing of copies before, or it
        would mount instead of sending. Raises RuntimeError."""
        flags = ["--insecure-policy", "copy", "--quiet", "--preserve-digests"]
        for side, place in (("src", source), ("dest", target)):
            if "REGISTRY" in place:
                flags += [f"--{side}-tls-verify=false"] + (
                    [f"--{side}-creds", self.credentials] if self.credentials else []
                )
        home.mkdir()
        process = await asyncio.create_subprocess_exec(
            "skopeo",
            *flags,
            *(place.replace("REGISTRY", f"docker://127.0.0.1:{self.port}") for place in (source, target)),
            env={
                "HOME": str(home),
                "XDG_DATA_HOME": str(home),
                "PATH": os.environ["PATH"],
                "_CONTAINERS_ROOTLESS_UID": "1000",
            },
        )
        if await process.wait():
            raise RuntimeError(f"skopeo failed: {source} {target}")
        shutil.rmtree(home)


@contextlib.asynccontextmanager
async def ours(directory: Path, repositories: list[str]) -> AsyncIterator[Registry]:
    """Ours, over a NATS of its own, with these repositories."""
    passwords = {user: secrets.token_hex(8) for user in (OPERATOR, *USERS)}
    server = NatsServer(directory / "nats", passwords)
    await server.start()
    platform = Platform(server, passwords)
    try:
        await provision(await platform.bus(OPERATOR))
        async with registry_at(platform, directory / "ours") as registry:
            for name in repositories:
                await registry.aws("CreateRepository", repositoryName=name)
            credentials = f"AWS:{registry.password}"
        async with registry_process(platform, directory / "ours") as (process, port):
            reading = asyncio.create_task(_read(process))
            yield Registry("ours", port, process.pid, credentials, platform)
            reading.cancel()
    finally:
        await platform.close()


async def _read(process: asyncio.subprocess.Process) -> None:
    """Its log, or it would wait for somebody who does."""
    assert process.stdout is not None
    while await process.stdout.read(65536):
        pass


@contextlib.asynccontextmanager
async def debians(directory: Path) -> AsyncIterator[Registry | None]:
    """docker-registry as Debian has it; None where it can't be had."""
    program = _program()
    if program is None:
        yield None
        return
    port, config = free_port(), directory / "docker-registry.yml"
    config.write_text(_CONFIG.format(root=directory / "docker-registry", port=port))
    process = await asyncio.create_subprocess_exec(
        str(program), "serve", str(config), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        async with aiohttp.ClientSession() as session, asyncio.timeout(30):
            await _answers(session, f"http://127.0.0.1:{port}/v2/")
        yield Registry("docker-registry", port, process.pid)
    finally:
        process.terminate()
        await process.wait()


async def _answers(session: aiohttp.ClientSession, url: str) -> None:
    while True:
        with contextlib.suppress(aiohttp.ClientError):
            async with session.get(url):
                return
        await asyncio.sleep(0.05)


def _program() -> Path | None:
    """Debian's package, unpacked beside the other peers: installed, it would begin to serve."""
    place = PEERS / "docker-registry"
    program = place / "usr/bin/docker-registry"
    if program.exists():
        return program
    print("fetching docker-registry (Debian) into .venv-bench", flush=True)
    place.mkdir(parents=True, exist_ok=True)
    fetch = ["apt-get", "download", "docker-registry"]
    try:
        if subprocess.run(fetch, cwd=place, capture_output=True).returncode and os.geteuid() == 0:
            subprocess.run(["apt-get", "update"], capture_output=True, check=True)
            subprocess.run(fetch, cwd=place, capture_output=True, check=True)
        (package,) = place.glob("*.deb")
        subprocess.run(["dpkg-deb", "--extract", package.name, "."], cwd=place, check=True)
        package.unlink()
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        print(f"  docker-registry can't be had: {error}", file=sys.stderr)
        return None
    return program
