"""A registry on a real NATS and a real file system, with the clients that tests need.

async with registry_at(nats_platform, tmp_path) as registry:
    await registry.ecr.create_repository("shop")
    digest = await registry.push_blob("shop", b"layer")
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from contracts.records.identity import ACCESS_KEY, AccessKey
from services.registry.app import RegistryApp
from services.registry.settings import RegistrySettings
from services.shared.aws.context import RequestContext
from services.shared.runner import Host, HttpServer, start_app, stop_app
from services.shared.settings import load
from services.shared.state import Store
from tests.builders.images import BuiltImage, digest_of

ACCOUNT, REGION = "000000000000", "us-east-1"
KEY, SECRET = "AKIAREGISTRYTEST0001", "secret"


class RunningRegistry:
    """One registry process, so to speak: `base` is its URL, `password` a token for its /v2/, `https` its port for TLS
    (0: none)."""

    def __init__(self, app: RegistryApp, port: int, session: aiohttp.ClientSession, https: int = 0) -> None:
        self.app = app
        self.port = port
        self.https = https
        self.session = session
        self.base = f"http://127.0.0.1:{port}"
        self.parts = app.parts
        self.password = self.parts.access.issue(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root")[0]

    def auth(self, password: str | None = None) -> str:
        """An Authorization header."""
        return "Basic " + base64.b64encode(f"AWS:{password or self.password}".encode()).decode()

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """A request to /v2/<path>; header names with `_` for `-`."""
        named = {"Authorization": self.auth()} | {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(
            method, f"{self.base}/v2/{path}", data=body, headers=named, allow_redirects=False
        ) as answer:
            return Answer(answer.status, await answer.read(), answer.headers)

    async def aws(self, operation: str, account: str = ACCOUNT, region: str = REGION, **members: Any) -> Any:
        """An ECR operation, its members by wire name; without the door, so without a signature."""
        server = self.app.aws_server
        (service,) = self.app.aws_services
        found = service.api.operations[operation]
        context = RequestContext(
            account, region, f"arn:aws:iam::{account}:root", account, KEY, False, "r", "", "ecr", operation, ""
        )
        assert operation in server.operations("ecr")
        return await getattr(service, found.method)(context, msgspec.convert(members, found.input))

    async def push_blob(self, name: str, data: bytes) -> str:
        """Push a blob whole; its digest."""
        digest = digest_of(data)
        answer = await self.ask("POST", f"{name}/blobs/uploads/?digest={digest}", data)
        assert answer.status == 201, answer
        return digest

    async def push_blob_status(self, name: str, data: bytes) -> tuple[int, str]:
        """Push a blob whole; how that was answered: the status, and the code of an error."""
        answer = await self.ask("POST", f"{name}/blobs/uploads/?digest={digest_of(data)}", data)
        return (answer.status, "") if answer.status == 201 else answer.said

    async def push_image(self, name: str, image: BuiltImage, tag: str) -> Answer:
        """Push an image with its blobs; the answer to the manifest."""
        for data in image.blobs.values():
            await self.push_blob(name, data)
        return await self.ask("PUT", f"{name}/manifests/{tag}", image.manifest, Content_Type=image.media_type)


class Answer(msgspec.Struct, frozen=True):
    """What the registry answered."""

    status: int
    body: bytes
    headers: Any

    @property
    def code(self) -> str:
        """The OCI code of an error."""
        return str(msgspec.json.decode(self.body)["errors"][0]["code"])

    @property
    def said(self) -> tuple[int, str]:
        """Status and code of an error."""
        return self.status, self.code

    @property
    def json(self) -> Any:
        """The body."""
        return msgspec.json.decode(self.body)


@contextlib.asynccontextmanager
async def registry_at(
    nats_platform: Any, data: Path, *, clock: Callable[[], float] | None = None, **settings: Any
) -> AsyncIterator[RunningRegistry]:
    """A registry over this directory, with an access key (KEY, SECRET) that is known at its door."""
    keys = await Store.open(await nats_platform.bus("identity"), (ACCESS_KEY,))
    principal = f"arn:aws:iam::{ACCOUNT}:root"
    key = AccessKey(
        access_key_id=KEY, secret=SECRET, account=ACCOUNT, principal_arn=principal, user_id=ACCOUNT, created_at=0.0
    )
    await keys.put(ACCESS_KEY, key, "access_key.created.v1")
    options = {"clock": clock} if clock else {}
    host = Host(await nats_platform.bus("registry"), data, instance="t", **options)
    app = RegistryApp(host, load(RegistrySettings, "ROADSTEAD_REGISTRY_", **settings))
    server = HttpServer(app)
    server.bind()
    await start_app(app)
    port = await server.start()
    try:
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            yield RunningRegistry(app, port, session, server.tls_port)
    finally:
        await server.stop()
        await stop_app(app)
        await host.bus.close()  # or it would go on to be asked
        await keys.close()


async def listening(process: asyncio.subprocess.Process) -> int:
    """The port that a registry process says it listens on."""
    assert process.stdout is not None
    async with asyncio.timeout(30):
        while line := await process.stdout.readline():
            event = json.loads(line)
            if event["event"] == "service.listening":
                return int(event["port"])
    raise AssertionError("the registry did not start")


@contextlib.asynccontextmanager
async def registry_process(nats_platform: Any, data: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """A registry as a process of its own; yields (process, port). It is killed at the end."""
    environment = os.environ | {
        "ROADSTEAD_NATS_URL": nats_platform.server.url,
        "ROADSTEAD_NATS_PASSWORD": nats_platform.passwords["registry"],
        "ROADSTEAD_DATA": str(data),
        "ROADSTEAD_PORT": "0",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.registry", stdout=asyncio.subprocess.PIPE, env=environment
    )
    try:
        yield process, await listening(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def small_image(layers: tuple[bytes, ...] = (b"layer",), media_type: str = "", **members: Any) -> BuiltImage:
    """An image of these layers that nobody could run, quickly made. `members` go into the manifest."""
    media_type = media_type or "application/vnd.oci.image.manifest.v1+json"
    config = b'{"architecture":"amd64","os":"linux"}'
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": descriptor(config, "application/vnd.oci.image.config.v1+json"),
        "layers": [descriptor(layer, "application/vnd.oci.image.layer.v1.tar") for layer in layers],
        **members,
    }
    blobs = {digest_of(blob): blob for blob in (config, *layers)}
    return BuiltImage(msgspec.json.encode(manifest), media_type, config, layers, blobs)


def descriptor(data: bytes, media_type: str) -> dict[str, Any]:
    """A descriptor of content."""
    return {"mediaType": media_type, "digest": "sha256:" + sha256(data).hexdigest(), "size": len(data)}
