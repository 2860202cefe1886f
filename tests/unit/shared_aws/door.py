"""A server on a loopback port, the keys it knows, and boto3 clients that talk to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import boto3
from aiohttp import web
from botocore.config import Config

from services.shared.aws.context import Identity
from services.shared.aws.ports import AccessKey

ROLE = "arn:aws:sts::123456789012:assumed-role/ci/run"
KEY = AccessKey("AKIAROADSTEAD0000001", "secret-1", "123456789012", "arn:aws:iam::123456789012:user/ada", "AIDA1")
SESSION_KEY = AccessKey("ASIAROADSTEAD0000002", "secret-2", "123456789012", ROLE, "AROA1:run", "token-2", 4e9)
IDENTITY = Identity(KEY.account, KEY.principal_arn, KEY.user_id, KEY.access_key_id, False, "eu-west-1", "ecs")


class Keys:
    """A KeyLookup over the keys it is given."""

    def __init__(self, *keys: AccessKey) -> None:
        self.by_id = {key.access_key_id: key for key in keys}

    def find(self, access_key_id: str) -> AccessKey | None:
        return self.by_id.get(access_key_id)


class Door:
    """A running server, as boto3 sees it."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def client(self, api: str, key: AccessKey = KEY) -> Any:
        """A client that retries nothing, keeps the host as it is, and signs with the key."""
        return boto3.client(
            api,
            endpoint_url=self.url,
            region_name="eu-west-1",
            aws_access_key_id=key.access_key_id,
            aws_secret_access_key=key.secret,
            aws_session_token=key.session_token,
            config=Config(retries={"total_max_attempts": 1}, inject_host_prefix=False),
        )

    async def ask(self, api: str, method: str, key: AccessKey = KEY, **parameters: Any) -> dict[str, Any]:
        """Call an operation in a thread, because boto3 blocks; the answer without its metadata."""
        client = await asyncio.to_thread(self.client, api, key)
        answer = await asyncio.to_thread(getattr(client, method), **parameters)
        answer.pop("ResponseMetadata")
        return answer


@asynccontextmanager
async def open_door(handler: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[Door]:
    """Serve a handler on a free port."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, auto_decompress=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield Door(runner.addresses[0][1])
    finally:
        await runner.cleanup()
