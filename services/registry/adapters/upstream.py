"""Other registries over HTTP: manifests and blobs, with the token that anybody gets."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import msgspec

from services.registry.decisions.manifests import MAX_MANIFEST
from services.registry.decisions.upstream import base_url
from services.registry.ports import UpstreamFailed

ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_CHUNK = 256 * 1024
_TIMES = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=30.0)
_PART = re.compile(r'(\w+)="([^"]*)"')


class HttpUpstream:
    """See ports.Upstream. Nothing is open while nothing is asked for."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._tokens: dict[tuple[str, str], str] = {}

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def check(self, host: str) -> None:
        """See ports.Upstream."""
        async with self._get(host, "", ""):
            return

    async def manifest(self, host: str, name: str, reference: str) -> tuple[str, bytes]:
        """See ports.Upstream."""
        async with self._get(host, name, f"manifests/{reference}") as response:
            data = bytearray()
            async for chunk in response.content.iter_chunked(_CHUNK):
                data += chunk
                if len(data) > MAX_MANIFEST:
                    raise UpstreamFailed(f"{host} sent a manifest of more than {MAX_MANIFEST} bytes")
            return response.content_type, bytes(data)

    @asynccontextmanager
    async def blob(self, host: str, name: str, digest: str) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """See ports.Upstream."""
        async with self._get(host, name, f"blobs/{digest}") as response:
            size = response.content_length
            yield -1 if size is None else size, response.content.iter_chunked(_CHUNK)

    @asynccontextmanager
    async def _get(self, host: str, name: str, path: str) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=_TIMES, auto_decompress=False)
        url = f"{base_url(host)}/v2/{name}/{path}" if name else f"{base_url(host)}/v2/"
        try:
            for again in (True, False):
                headers = {"Accept": ACCEPT}
                token = self._tokens.get((host, name))
                if token:
                    headers["Authorization"] = f"Bearer {token}"
                async with self._session.get(url, headers=headers) as response:
                    if response.status == 401 and again:
                        self._tokens[host, name] = await self._token(response, name)
                        continue
                    if response.status != 200:
                        raise UpstreamFailed(f"{host} answered {response.status}", unknown=response.status == 404)
                    yield response
                    return
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UpstreamFailed(f"{host} can't be reached: {error or type(error).__name__}") from error

    async def _token(self, refused: aiohttp.ClientResponse, name: str) -> str:
        """What the challenge of a refusal leads to, without a login."""
        challenge = refused.headers.get("WWW-Authenticate", "")
        said = dict(_PART.findall(challenge))
        if not challenge.lower().startswith("bearer ") or not said.get("realm", "").startswith(("https://", "http://")):
            raise UpstreamFailed(f"{refused.url.host} wants a login")
        query = {"scope": f"repository:{name}:pull"} if name else {}
        if said.get("service"):
            query["service"] = said["service"]
        assert self._session is not None
        async with self._session.get(said["realm"], params=query) as response:
            if response.status != 200:
                raise UpstreamFailed(f"{refused.url.host} gives no token without a login")
            try:
                body = msgspec.json.decode(await response.content.read(65536), type=dict[str, msgspec.Raw])
                return msgspec.json.decode(body.get("token") or body["access_token"], type=str)
            except (msgspec.DecodeError, KeyError) as error:
                raise UpstreamFailed(f"{refused.url.host} gives no token that can be read") from error
