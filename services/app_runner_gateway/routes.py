"""What is served where, for a person."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from aiohttp import web

from services.shared.http import Route, answer


class ServedView(msgspec.Struct, kw_only=True, frozen=True):
    """One service: its revision in use, and its instances in the proxy (task -> ready | drain)."""

    name: str
    status: str
    url: str
    revision: int
    instances: dict[str, str]


class ExpressView(msgspec.Struct, kw_only=True, frozen=True):
    """One Express service, and its tasks in the proxy: task -> ready | drain."""

    account: str
    region: str
    cluster: str
    name: str
    status: str
    url: str
    tasks: dict[str, str]


class GatewayView(msgspec.Struct, kw_only=True, frozen=True):
    """The HTTPS port, the process that listens there (0: none), and every service that is not deleted: App Runner's,
    and ECS' Express services."""

    port: int
    haproxy: int
    services: list[ServedView]
    express: list[ExpressView] = []


class GatewayRoutes:
    """GET /services."""

    def __init__(self, look: Callable[[], GatewayView]) -> None:
        self._look = look

    async def services(self, request: web.Request) -> web.Response:
        """`GET /services`: a GatewayView."""
        return answer(self._look())


ROUTES = (Route("GET", "/services", "services", GatewayView, "URLs, revisions and instances of all services."),)
