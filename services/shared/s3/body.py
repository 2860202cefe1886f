"""An object's content as it comes, gone on with where a connection broke off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack
from email.utils import parsedate_to_datetime

import aiohttp

from services.shared.s3.errors import S3Away, S3Error, S3Refused
from services.shared.s3.transport import Request, Transport, pause_s

CHUNK = 256 * 1024


class Body:
    """What was asked for: `size` bytes from `first` of an object that has `total` in all and was last written at
    `modified` (epoch seconds). Iterate over it once.

    Whoever iterates has bytes of one version of the object: when a connection breaks, the rest is asked for under the
    condition that it is the same one.
    """

    def __init__(self, transport: Transport, bucket: str, key: str, first: int, last: int | None, attempts: int):
        self._transport, self._bucket, self._key = transport, bucket, key
        self._attempts = attempts
        self._stack = AsyncExitStack()
        self._response: aiohttp.ClientResponse
        self._last = last
        self.first = first
        self.size = self.total = 0
        self.etag = ""
        self.modified = 0.0

    async def __aenter__(self) -> Body:
        for attempt in range(self._attempts):
            if attempt:
                await asyncio.sleep(pause_s(attempt))
            try:
                await self._open(self.first)
                break
            except S3Away:
                if attempt + 1 >= self._attempts:
                    raise
        headers = self._response.headers
        self.etag = headers.get("ETag", "")
        if "Last-Modified" in headers:
            self.modified = parsedate_to_datetime(headers["Last-Modified"]).timestamp()
        self.size = int(headers.get("Content-Length", 0))
        self.total = int(headers.get("Content-Range", f"/{self.size}").rpartition("/")[2])
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stack.aclose()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks()

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        came, failed = 0, 0
        while True:
            try:
                async for chunk in self._response.content.iter_chunked(CHUNK):
                    came, failed = came + len(chunk), 0
                    yield chunk
                if came < self.size:
                    raise aiohttp.ClientPayloadError(f"{self.size - came} bytes are missing")
                return
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                away = S3Away(f"GET {self._bucket}/{self._key}: the content broke off: {error or type(error).__name__}")
            while True:
                failed += 1
                if failed >= self._attempts:
                    raise away
                await asyncio.sleep(pause_s(failed))
                try:
                    await self._open(self.first + came)
                    break
                except S3Away as error:
                    away = error

    async def _open(self, first: int) -> None:
        await self._stack.aclose()
        last = self._last if self._last is not None or not self.size else self.first + self.size - 1
        headers = {}
        if first or last is not None:
            headers["Range"] = f"bytes={first}-{'' if last is None else last}"
        if self.etag:
            headers["If-Match"] = self.etag
        self._response = await self._stack.enter_async_context(
            self._transport.open(Request("GET", self._bucket, self._key, headers=headers))
        )
        if "Range" in headers and self._response.status != 206:
            await self._stack.aclose()
            raise S3Refused(f"GET {self._bucket}/{self._key}: the server does not know ranges", "NotRanged", 200)


async def read_all(body: Body, limit: int | None = None) -> bytes:
    """The content whole. Raises S3Error, also when there are more than `limit` bytes of it."""
    if limit is not None and body.size > limit:
        raise S3Error(f"the object has {body.size} bytes, and no more than {limit} are taken", "TooLong", 200)
    return b"".join([chunk async for chunk in body])
