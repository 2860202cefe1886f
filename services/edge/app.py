"""The edge: verifies a request once, finds the service that owns its API, and gives back what that one says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import structlog
from aiohttp import web

from contracts.aws.index import INDEX
from services.edge.adapters import HttpUpstream
from services.edge.data_channel import PREFIX, DataChannels
from services.edge.decisions import OWNERS, served
from services.edge.nodes import PATH, NodeDoor
from services.edge.ports import Upstream
from services.edge.routes import Greeting
from services.edge.settings import EdgeSettings
from services.shared.aws.http import AwsHttpRequest, AwsHttpResponse
from services.shared.aws.ports import KeyLookup
from services.shared.aws.routing import Route, Router, guess_protocol
from services.shared.aws.server import authenticate_route, new_request_id, not_served
from services.shared.aws.sigv4 import SigV4Authenticator
from services.shared.aws.transport import read_request, to_web_response
from services.shared.aws.wire_errors import error_response
from services.shared.errors import AwsError, InternalFailure, UnknownOperation
from services.shared.http import answer
from services.shared.keys import KeyRing
from services.shared.managed_nodes import ManagedNodes
from services.shared.runner import App, Handler, Host

log = structlog.get_logger(__name__)


def http_upstreams(settings: EdgeSettings) -> dict[str, Upstream]:
    """The upstreams of services that are processes of their own. Raises ValueError when the settings are wrong."""
    urls = settings.upstream_urls()
    return {name: HttpUpstream(url, timeout_s=settings.upstream_timeout_s) for name, url in urls.items()}


class Edge:
    """One endpoint for every API. `upstreams` are by service name; `clock` gives seconds since the epoch."""

    def __init__(
        self,
        settings: EdgeSettings,
        upstreams: Mapping[str, Upstream],
        keys: KeyLookup,
        clock: Callable[[], float],
    ) -> None:
        self.settings = settings
        self._upstreams = dict(upstreams)
        self._authenticator = SigV4Authenticator(keys, clock)
        self._router = Router(INDEX.values())

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Every path: which API is meant is not told by the path alone."""
        return [web.route("*", "/{path:.*}", self.handle)]

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Answer an aiohttp request."""
        if request.method in ("GET", "HEAD") and request.raw_path == "/" and "Authorization" not in request.headers:
            return self._greeting()
        try:
            given = await read_request(request)
        except AwsError as error:
            return to_web_response(error_response(error, new_request_id(), "json"))
        return to_web_response(await self.dispatch(given))

    async def dispatch(self, request: AwsHttpRequest) -> AwsHttpResponse:
        """Answer a request."""
        route = self._router.find(request)
        try:
            return await self._forward(request, route)
        except AwsError as error:
            return _refusal(error, new_request_id(), request, route)
        except Exception:
            request_id = new_request_id()
            log.exception("edge.failed", request_id=request_id, method=request.method, path=request.path)
            return _refusal(InternalFailure(), request_id, request, route)

    async def _forward(self, request: AwsHttpRequest, route: Route | None) -> AwsHttpResponse:
        identity = authenticate_route(self._authenticator, request, route)
        if route is None:
            raise UnknownOperation("No API that Roadstead knows has this request.")
        upstream = self._upstreams.get(OWNERS.get(route.api.name, ""))
        if upstream is not None:
            return await upstream.send(request, identity, route)
        raise not_served(route)

    async def close(self) -> None:
        """Let go of the upstreams."""
        for upstream in self._upstreams.values():
            await upstream.close()

    def _greeting(self) -> web.Response:
        return answer(Greeting(apis=served(INDEX, set(self._upstreams))))


def _refusal(error: AwsError, request_id: str, request: AwsHttpRequest, route: Route | None) -> AwsHttpResponse:
    if route is None:
        return error_response(error, request_id, guess_protocol(request))
    return error_response(error, request_id, route.protocol, route.api.name)


class EdgeApp(App):
    """The edge as a service. In one process with the others it is handed their servers as `local` upstreams."""

    name = "edge"

    def __init__(self, host: Host, settings: EdgeSettings, local: Callable[[], Mapping[str, Upstream]] = dict) -> None:
        super().__init__(host)
        self._settings = settings
        self._local = local

    async def start(self) -> None:
        """Open the keys and the ways to the services."""
        self._keys = await KeyRing.open(self.host.bus)
        upstreams = {**http_upstreams(self._settings), **self._local()}
        self._edge = Edge(self._settings, upstreams, self._keys, self.host.clock)
        self._channels = DataChannels(self.host.bus)
        self._members = await ManagedNodes.open(self.host.bus)
        self._nodes = NodeDoor(self.host.bus, self._members)

    def handler(self) -> Handler:
        """Answers every path."""
        return self._handle

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.raw_path.startswith(PREFIX):
            return await self._channels.handle(request)
        if request.raw_path.startswith(PATH):
            return await self._nodes.handle(request)
        return await self._edge.handle(request)

    async def stop(self) -> None:
        """Let go."""
        if hasattr(self, "_nodes"):
            await self._nodes.close()
            await self._members.close()
        if hasattr(self, "_channels"):
            await self._channels.close()
        if hasattr(self, "_edge"):
            await self._edge.close()
        if hasattr(self, "_keys"):
            await self._keys.close()
