"""Signed requests over HTTP, tried again where that helps."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from hashlib import sha256
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec
from yarl import URL

from services.shared.aws.signer import EMPTY_HASH, UNSIGNED, canonical, presigned_query, signed_headers
from services.shared.s3.errors import S3Away, S3Error, error_of
from services.shared.s3.settings import S3Settings
from services.shared.settings import SettingsError

Source = bytes | memoryview | Callable[[], AsyncIterable[bytes]]
"""What is sent: bytes, or what gives them anew for each attempt."""

LONGEST_ANSWER = 16 * 1024 * 1024
LONGEST_ERROR = 65536
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_INLINE = 65536
_NEVER_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class Request(msgspec.Struct, frozen=True):
    """What is asked. `size` is that of a body that comes in chunks."""

    method: str
    bucket: str
    key: str = ""
    query: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    body: Source = b""
    size: int | None = None


class Transport:
    """Connections to one S3. Nothing is open while nothing is asked for."""

    def __init__(self, settings: S3Settings, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._credentials = settings.credentials
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        parts = urlsplit(settings.base)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query:
            raise SettingsError(f"{settings.base!r} is no endpoint of S3: http(s)://HOST[:PORT] is")
        self._scheme, self._host = parts.scheme, parts.netloc
        if parts.port == {"http": 80, "https": 443}[parts.scheme]:
            self._host = parts.hostname

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(self, request: Request) -> tuple[Mapping[str, str], bytes]:
        """Headers and body of the answer, with attempts as the settings say. Raises S3Error."""
        payload = await self._hash(request.body)
        for attempt in range(self._settings.attempts):
            if attempt:
                await asyncio.sleep(pause_s(attempt))
            try:
                async with self.open(request, payload) as response:
                    return response.headers, await _read(response, LONGEST_ANSWER)
            except S3Away:
                if attempt + 1 >= self._settings.attempts:
                    raise
        raise AssertionError("S3Settings.attempts must be at least one")

    @asynccontextmanager
    async def open(self, request: Request, payload: str = EMPTY_HASH) -> AsyncIterator[aiohttp.ClientResponse]:
        """One attempt: an answer that is none of the errors, its body yet to be read. Raises S3Error."""
        what = f"{request.method} {request.bucket}/{request.key}".rstrip("/")
        host, path = self._place(request.bucket, request.key)
        text = canonical(request.query)
        named = {"Host": host, "X-Amz-Content-Sha256": payload, **request.headers}
        region, now = self._settings.region, self._clock()
        headers = signed_headers(self._credentials, "s3", region, now, request.method, path, text, named, payload)
        if request.size is not None:  # some servers forget the header before they verify, so it is not signed
            headers["Content-Length"] = str(request.size)
        url = URL(f"{self._scheme}://{host}{path}{'?' if text else ''}{text}", encoded=True)
        data = request.body() if callable(request.body) else request.body or None
        asked = self._client().request(request.method, url, headers=headers, data=data, allow_redirects=False)
        try:
            async with asked as answer:
                if answer.status >= 300:
                    raise error_of(answer.status, await _read(answer, LONGEST_ERROR), what, _hint(answer))
                yield answer
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise S3Away(f"{what}: {self._scheme}://{self._host} can't be reached: {_text(error)}") from error

    def url(self, bucket: str, key: str, seconds: int, method: str = "GET") -> str:
        """A presigned URL."""
        host, path = self._place(bucket, key)
        region, now = self._settings.region, self._clock()
        query = presigned_query(self._credentials, "s3", region, now, method, host, path, {}, seconds)
        return f"{self._scheme}://{host}{path}?{query}"

    def _place(self, bucket: str, key: str) -> tuple[str, str]:
        path = quote(key, safe="/-_.~")
        if self._settings.addressing == "virtual":
            return f"{bucket}.{self._host}", f"/{path}"
        return self._host, f"/{bucket}/{path}" if path else f"/{bucket}"

    async def _hash(self, body: Source) -> str:
        """What is signed of a body: its hash, unless TLS already keeps much of it whole, or it comes in chunks."""
        if callable(body) or (self._scheme == "https" and len(body) > _INLINE):
            return UNSIGNED
        if len(body) <= _INLINE:
            return sha256(body).hexdigest() if body else EMPTY_HASH
        return await asyncio.to_thread(lambda: sha256(body).hexdigest())

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            settings = self._settings
            trust = ssl.create_default_context(cafile=settings.ca_file) if settings.ca_file else True
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=settings.timeout_s),
                connector=aiohttp.TCPConnector(limit=settings.connections, ssl=trust),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=_NEVER_ADDED,
            )
        return self._session


def pause_s(attempt: int) -> float:
    """How long to wait before another attempt: twice as long each time, anywhere in that, so that many don't meet."""
    return random.uniform(0.5, 1.0) * min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** (attempt - 1))


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > limit:
            raise S3Error(f"S3 sent an answer of more than {limit} bytes", "TooLong", response.status)
    return bytes(data)


def _hint(answer: aiohttp.ClientResponse) -> str:
    """What a HEAD's answer, which has no body, says of its reason."""
    if answer.status in (301, 307, 400) and "x-amz-bucket-region" in answer.headers:
        return f"WrongRegion (the bucket's is {answer.headers['x-amz-bucket-region']})"
    return ""


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
