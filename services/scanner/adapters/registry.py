"""Layers out of the registry, as an agent would pull them: with a token, over /v2/."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator

import aiohttp

from contracts.records.registry import Image
from contracts.rpc.registry import ISSUE_PULL_TOKEN, IssuePullToken
from services.scanner.ports import ImageGone, NotNow
from services.shared import telemetry
from services.shared.bus import Bus, CommandRefused
from services.shared.errors import StateUnavailable

CHUNK = 1 << 18


class RegistryLayers:
    """The layers of one image. Made by `open_layers`."""

    def __init__(self, session: aiohttp.ClientSession, base: str, authorization: str) -> None:
        self._session = session
        self._base = base
        self._authorization = authorization

    async def read(self, digest: str) -> AsyncIterator[bytes]:
        """See ports.Layers."""
        headers = telemetry.inject({"Authorization": self._authorization})
        try:
            url = f"{self._base}/blobs/{digest}"
            async with self._session.get(url, headers=headers) as response:
                if response.status == 404:
                    raise ImageGone(f"the registry has no {digest}")
                if response.status != 200:
                    raise NotNow(f"the registry answers {response.status}")
                async for chunk in response.content.iter_chunked(CHUNK):
                    yield chunk
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise NotNow(f"the registry can't be read: {error or type(error).__name__}") from error


async def open_layers(bus: Bus, session: aiohttp.ClientSession, image: Image, url: str = "") -> RegistryLayers:
    """Ask for leave to read an image, from where the answer says or from `url`. Raises ImageGone, NotNow."""
    reference = f"{image.account}.dkr.ecr.{image.region}.amazonaws.com/{image.repository}@{image.digest}"
    request = IssuePullToken(image=reference, account=image.account, region=image.region, to_run=False)
    try:
        token = await bus.call(ISSUE_PULL_TOKEN, request)
    except StateUnavailable as error:
        raise NotNow("the registry does not answer") from error
    except CommandRefused as refused:
        raise NotNow(f"{refused.code}: {refused.message}") from refused
    if not token.pinned:
        raise ImageGone(f"the registry has no {image.repository}@{image.digest}")
    host, _, path = token.image.partition("@")[0].partition("/")
    scheme = "http" if token.insecure else "https"
    login = b64encode(f"{token.username}:{token.password}".encode())
    base = url.rstrip("/") or f"{scheme}://{host}"
    return RegistryLayers(session, f"{base}/v2/{path}", "Basic " + login.decode())
