"""A registry of images on a loopback port: what a pull needs of the OCI distribution API, and faults on demand."""

from __future__ import annotations

import base64
from collections import Counter

from aiohttp import web

from tests.builders.images import BuiltImage, digest_of


class ImageRegistry:
    """`async with ImageRegistry() as registry: name = registry.push("app", "1", image)` gives a name to pull.

    With `login` it wants Basic credentials, with `tokens` it sends clients to its token server first. `broken` maps a
    blob's digest to bytes sent instead; `cut` holds blobs whose first answer ends in the middle. `requests` counts.
    """

    def __init__(self, login: tuple[str, str] | None = None, *, tokens: bool = False) -> None:
        self._login = login
        self._tokens = tokens
        self._manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self._blobs: dict[str, bytes] = {}
        self.broken: dict[str, bytes] = {}
        self.cut: set[str] = set()
        self.requests: Counter[str] = Counter()
        self.host = ""

    async def __aenter__(self) -> ImageRegistry:
        application = web.Application()
        application.router.add_get("/token", self._token)
        application.router.add_get("/v2/", self._version)
        application.router.add_get("/v2/{name:.+}/manifests/{version}", self._manifest)
        application.router.add_get("/v2/{name:.+}/blobs/{digest}", self._blob)
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.host = f"127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def push(self, name: str, tag: str, image: BuiltImage) -> str:
        """Put an image under a tag; its reference."""
        self._blobs |= image.blobs
        self.push_manifest(name, tag, image.media_type, image.manifest)
        return f"{self.host}/{name}:{tag}"

    def push_manifest(self, name: str, tag: str, media_type: str, manifest: bytes) -> str:
        """Put a manifest or an index under a tag and its digest; its reference."""
        self._manifests[name, tag] = self._manifests[name, digest_of(manifest)] = (media_type, manifest)
        return f"{self.host}/{name}:{tag}"

    def _authorized(self, request: web.Request) -> bool:
        if self._login is None:
            return True
        expected = "Bearer let-me-in" if self._tokens else _basic(self._login)
        return request.headers.get("Authorization") == expected

    def _challenge(self) -> web.Response:
        bearer = f'Bearer realm="http://{self.host}/token",service="fake",scope="repository:x:pull"'
        return web.Response(status=401, headers={"WWW-Authenticate": bearer if self._tokens else 'Basic realm="fake"'})

    async def _version(self, request: web.Request) -> web.Response:
        """Where Docker learns how it must log in."""
        return web.json_response({}) if self._authorized(request) else self._challenge()

    async def _token(self, request: web.Request) -> web.Response:
        self.requests["token"] += 1
        if request.headers.get("Authorization") != _basic(self._login or ("", "")):
            return web.Response(status=401)
        return web.json_response({"token": "let-me-in"})

    async def _manifest(self, request: web.Request) -> web.Response:
        self.requests["manifest"] += 1
        if not self._authorized(request):
            return self._challenge()
        found = self._manifests.get((request.match_info["name"], request.match_info["version"]))
        if found is None:
            return web.json_response({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "unknown"}]}, status=404)
        return web.Response(body=found[1], content_type=found[0])

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        digest = request.match_info["digest"]
        self.requests[digest] += 1
        self.requests["blob"] += 1
        if not self._authorized(request):
            return self._challenge()
        data = self.broken.get(digest) or self._blobs.get(digest)
        if data is None:
            return web.Response(status=404)
        start = request.http_range.start or 0
        if digest in self.cut:
            self.cut.discard(digest)
            return await self._half(request, data)
        headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        return web.Response(status=206 if start else 200, body=data[start:], headers=headers)

    async def _half(self, request: web.Request, data: bytes) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = len(data)
        await response.prepare(request)
        await response.write(data[: len(data) // 2])
        if request.transport is not None:
            request.transport.close()
        return response


def _basic(login: tuple[str, str]) -> str:
    return "Basic " + base64.b64encode(":".join(login).encode()).decode()
