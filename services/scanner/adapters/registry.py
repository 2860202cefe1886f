"""The registry over /v2/, with a token: layers are pulled as an agent would, and documents put beside an image."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Mapping

import aiohttp

from contracts.records.registry import Image
from contracts.rpc.registry import (
    ISSUE_ATTACH_TOKEN,
    ISSUE_PULL_TOKEN,
    IssueAttachToken,
    IssuePullToken,
    PullToken,
)
from services.scanner.decisions.attachments import MANIFEST, digest_of
from services.scanner.ports import ImageGone, NotNow, Refused
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


class RegistryAttachments:
    """What refers to one image. Made by `open_attachments`."""

    def __init__(self, session: aiohttp.ClientSession, base: str, authorization: str) -> None:
        self._session = session
        self._base = base
        self._authorization = authorization

    async def put(self, manifest: bytes, blobs: Mapping[str, bytes]) -> None:
        """See ports.Attachments."""
        for digest, data in blobs.items():
            await self._ask("POST", f"/blobs/uploads/?digest={digest}", data, "application/octet-stream")
        if await self._ask("PUT", f"/manifests/{digest_of(manifest)}", manifest, MANIFEST) == 404:
            raise ImageGone("the registry does not have the image any more")

    async def remove(self, digest: str) -> None:
        """See ports.Attachments."""
        await self._ask("DELETE", f"/manifests/{digest}")

    async def _ask(self, method: str, path: str, data: bytes = b"", content_type: str = "") -> int:
        """The status, of success or 404."""
        headers = telemetry.inject({"Authorization": self._authorization})
        if content_type:
            headers["Content-Type"] = content_type
        try:
            async with self._session.request(method, self._base + path, data=data, headers=headers) as response:
                if response.status >= 500:
                    raise NotNow(f"the registry answers {response.status}")
                if response.status >= 400 and response.status != 404:
                    raise Refused(f"the registry answers {response.status}: {(await response.text())[:300]}")
                return response.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise NotNow(f"the registry can't be asked: {error or type(error).__name__}") from error


async def open_layers(bus: Bus, session: aiohttp.ClientSession, image: Image, url: str = "") -> RegistryLayers:
    """Ask for leave to read an image, from where the answer says or from `url`. Raises ImageGone, NotNow."""
    reference = f"{image.account}.dkr.ecr.{image.region}.amazonaws.com/{image.repository}@{image.digest}"
    request = IssuePullToken(image=reference, account=image.account, region=image.region, to_run=False)
    return RegistryLayers(session, *await _leave(bus.call(ISSUE_PULL_TOKEN, request), image, url))


async def tagged(bus: Bus, account: str, region: str, repository: str, tag: str) -> str:
    """The digest that a tag names; empty for none. Raises NotNow."""
    reference = f"{account}.dkr.ecr.{region}.amazonaws.com/{repository}:{tag}"
    request = IssuePullToken(image=reference, account=account, region=region, to_run=False)
    token = await _asked(bus.call(ISSUE_PULL_TOKEN, request))
    return token.pinned.partition("@")[2]


async def open_attachments(
    bus: Bus, session: aiohttp.ClientSession, image: Image, url: str = ""
) -> RegistryAttachments:
    """Ask for leave to put documents beside an image. Raises ImageGone, NotNow."""
    request = IssueAttachToken(
        account=image.account, region=image.region, repository=image.repository, digest=image.digest
    )
    return RegistryAttachments(session, *await _leave(bus.call(ISSUE_ATTACH_TOKEN, request), image, url))


async def _leave(asked: Awaitable[PullToken], image: Image, url: str) -> tuple[str, str]:
    """(the URL of the repository, what to show there)."""
    token = await _asked(asked)
    if not token.pinned:
        raise ImageGone(f"the registry has no {image.repository}@{image.digest}")
    host, _, path = token.image.partition("@")[0].partition("/")
    scheme = "http" if token.insecure else "https"
    login = b64encode(f"{token.username}:{token.password}".encode())
    base = url.rstrip("/") or f"{scheme}://{host}"
    return f"{base}/v2/{path}", "Basic " + login.decode()


async def _asked(asked: Awaitable[PullToken]) -> PullToken:
    try:
        return await asked
    except StateUnavailable as error:
        raise NotNow("the registry does not answer") from error
    except CommandRefused as refused:
        raise NotNow(f"{refused.code}: {refused.message}") from refused
