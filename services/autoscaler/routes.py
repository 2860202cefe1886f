"""Who scales what, for a person."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from aiohttp import web

from services.shared.http import Route, answer


class TargetView(msgspec.Struct, kw_only=True, frozen=True):
    """A scalable target and what is wanted of it now; `desired` is None when there is no such service."""

    resource: str
    region: str
    min: int
    max: int
    desired: int | None


class TargetsView(msgspec.Struct, kw_only=True, frozen=True):
    """All of them, and whether it is this copy of the service that scales."""

    leading: bool
    targets: list[TargetView]


class TargetRoutes:
    """GET /targets."""

    def __init__(self, look: Callable[[], TargetsView]) -> None:
        self._look = look

    async def targets(self, request: web.Request) -> web.Response:
        """`GET /targets`: a TargetsView."""
        return answer(self._look())


ROUTES = (Route("GET", "/targets", "targets", TargetsView, "Every scalable target, and what is wanted of it now."),)
