"""What the DNS does, for a person."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from aiohttp import web

from services.shared.http import Route, answer


class DnsView(msgspec.Struct, kw_only=True, frozen=True):
    """Where the DNS listens, the zones it answers for, and how many questions it answered and passed on."""

    address: str
    zones: list[str]
    answered: int
    forwarded: int


class DnsRoutes:
    """GET /dns."""

    def __init__(self, look: Callable[[], DnsView]) -> None:
        self._look = look

    async def dns(self, request: web.Request) -> web.Response:
        """`GET /dns`: a DnsView."""
        return answer(self._look())


ROUTES = (Route("GET", "/dns", "dns", DnsView, "Where the DNS listens, its zones, and what it was asked."),)
