"""The two ways to a service: through its own HTTP port, or in the same process."""

from __future__ import annotations

import aiohttp
import structlog
from multidict import CIMultiDict
from yarl import URL

from services.shared.aws.context import Identity
from services.shared.aws.http import AwsHttpRequest, AwsHttpResponse
from services.shared.aws.routing import Route
from services.shared.aws.server import AwsServer
from services.shared.errors import ServiceUnavailable

log = structlog.get_logger(__name__)

#: Between two neighbours only (RFC 9110, section 7.6.1), or set anew by the client.
_HOP_BY_HOP = frozenset(
    ("connection", "content-length", "expect", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade")
)
_NOT_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class LocalUpstream:
    """A service in this process: no second HTTP hop, no second verification."""

    def __init__(self, server: AwsServer) -> None:
        self._server = server

    async def send(self, request: AwsHttpRequest, identity: Identity, route: Route) -> AwsHttpResponse:
        """The server's answer."""
        return await self._server.dispatch(request, identity, route)

    async def close(self) -> None:
        """There is nothing to let go of."""


class HttpUpstream:
    """A service in a process of its own. The request goes on as it came, Host included: its door verifies it again."""

    def __init__(self, base_url: str, *, timeout_s: float = 60.0, connections: int = 100) -> None:
        self._base_url = base_url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=5.0)
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def send(self, request: AwsHttpRequest, identity: Identity, route: Route) -> AwsHttpResponse:
        """The service's answer. Raises ServiceUnavailable when it cannot be reached or does not answer in time."""
        headers = CIMultiDict(
            (name, value) for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP
        )
        url = URL(self._base_url + request.target, encoded=True)
        try:
            async with self._client().request(
                request.method, url, headers=headers, data=request.body or None, allow_redirects=False
            ) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("edge.upstream_away", upstream=self._base_url, api=route.api.name, error=repr(error))
            raise ServiceUnavailable(f"The service that owns {route.api.name} is not reachable; try again") from error
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
        return AwsHttpResponse(answer.status, kept, body)

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=self._timeout,
                connector=aiohttp.TCPConnector(limit=self._connections),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=_NOT_ADDED,
            )
        return self._session

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None
