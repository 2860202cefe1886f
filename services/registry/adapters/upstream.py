"""Other registries over HTTP: manifests and blobs, with a login or with the token that anybody gets."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import msgspec

from services.registry.decisions.manifests import MAX_MANIFEST
from services.registry.decisions.upstream import ACCEPT, Source, base_url, may_have_login
from services.registry.ports import LoginFailed, Logins, UpstreamFailed

_CHUNK = 256 * 1024
_TIMES = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=30.0)
_PART = re.compile(r'(\w+)="([^"]*)"')


class HttpUpstream:
    """See ports.Upstream. Nothing is open while nothing is asked for. Tokens are held until they are refused; a login
    is read whenever an upstream asks for it, and never held."""

    def __init__(self, logins: Logins) -> None:
        self._logins = logins
        self._session: aiohttp.ClientSession | None = None
        self._tokens: dict[tuple[Source, str], str] = {}

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def login(self, source: Source) -> None:
        """See ports.Upstream."""
        if source.credential_arn:
            await self._logins.of(source.credential_arn)

    async def check(self, source: Source) -> None:
        """See ports.Upstream."""
        await self.login(source)
        self._tokens.pop((source, ""), None)
        async with self._get(source, "", ""):
            return

    async def manifest(self, source: Source, name: str, reference: str) -> tuple[str, bytes]:
        """See ports.Upstream."""
        async with self._get(source, name, f"manifests/{reference}") as response:
            data = bytearray()
            async for chunk in response.content.iter_chunked(_CHUNK):
                data += chunk
                if len(data) > MAX_MANIFEST:
                    raise UpstreamFailed(f"{source.host} sent a manifest of more than {MAX_MANIFEST} bytes")
            return response.content_type, bytes(data)

    @asynccontextmanager
    async def blob(self, source: Source, name: str, digest: str) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """See ports.Upstream."""
        async with self._get(source, name, f"blobs/{digest}") as response:
            size = response.content_length
            yield -1 if size is None else size, response.content.iter_chunked(_CHUNK)

    @asynccontextmanager
    async def _get(self, source: Source, name: str, path: str) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=_TIMES, auto_decompress=False)
        host = source.host
        url = f"{base_url(host)}/v2/{name}/{path}" if name else f"{base_url(host)}/v2/"
        token = self._tokens.get((source, name))
        authorization = f"Bearer {token}" if token else ""
        try:
            for again in (True, False):
                headers = {"Accept": ACCEPT} | ({"Authorization": authorization} if authorization else {})
                async with self._session.get(url, headers=headers) as response:
                    if response.status == 401 and again:
                        authorization = await self._authorization(response, source, name)
                        continue
                    if response.status == 401 and source.credential_arn:
                        raise _refused(source, host, response.status)
                    if response.status != 200:
                        raise UpstreamFailed(f"{host} answered {response.status}", unknown=response.status == 404)
                    yield response
                    return
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UpstreamFailed(f"{host} can't be reached: {error or type(error).__name__}") from error

    async def _authorization(self, refused: aiohttp.ClientResponse, source: Source, name: str) -> str:
        """The header that the challenge of a refusal leads to (RFC 9110, 11.6.1)."""
        challenge = refused.headers.get("WWW-Authenticate", "")
        scheme = challenge.partition(" ")[0].lower()
        if scheme == "basic" and source.credential_arn:
            return (await self._logins.of(source.credential_arn)).basic
        said = dict(_PART.findall(challenge))
        if scheme != "bearer" or not said.get("realm", "").startswith(("https://", "http://")):
            raise LoginFailed(f"{source.host} wants a login")
        token = self._tokens[source, name] = await self._token(said, source, name)
        return f"Bearer {token}"

    async def _token(self, said: dict[str, str], source: Source, name: str) -> str:
        """What a token service gives. https://distribution.github.io/distribution/spec/auth/token/"""
        query = {"scope": f"repository:{name}:pull"} if name else {}
        if said.get("service"):
            query["service"] = said["service"]
        headers = {}
        if source.credential_arn:
            if not may_have_login(source, said["realm"]):
                raise LoginFailed(f"{source.host} wants its login sent in clear, to {said['realm']}")
            headers["Authorization"] = (await self._logins.of(source.credential_arn)).basic
        assert self._session is not None
        async with self._session.get(said["realm"], params=query, headers=headers) as response:
            if response.status != 200 and source.credential_arn:
                raise _refused(source, f"the token service of {source.host}", response.status)
            if response.status != 200:
                raise LoginFailed(f"{source.host} gives no token without a login")
            try:
                body = msgspec.json.decode(await response.content.read(65536), type=dict[str, msgspec.Raw])
                return msgspec.json.decode(body.get("token") or body["access_token"], type=str)
            except (msgspec.DecodeError, KeyError) as error:
                raise UpstreamFailed(f"{source.host} gives no token that can be read") from error


def _refused(source: Source, who: str, status: int) -> LoginFailed:
    return LoginFailed(f"{who} answered {status} to the login in {source.credential_arn}")
