"""A service's own HTTP routes as a table: what is served, and what the OpenAPI document says of it, are one thing.

ROUTES = (Route("GET", "/state", "state", State, "Nodes and services"),)
routes = bind(ROUTES, overview)          # aiohttp's; the handler is the method `state` of `overview`
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import msgspec
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Query(msgspec.Struct, frozen=True):
    """A parameter behind the `?`. `type` is JSON Schema's."""

    name: str
    text: str
    type: str = "string"
    default: Any = None


class Route(msgspec.Struct, frozen=True):
    """One route. `handler` names the method that answers it; `response` is the Struct of the answer, None when it is
    not JSON (then `media` says what it is). `errors`: status -> when; their body is `Problem`, unless `problem` says
    another. `body` is the Struct that the request brings. `locked`: it takes a key; the handlers' owner has a method
    `locked` that puts the lock before one."""

    method: str
    path: str
    handler: str
    response: type | None
    text: str
    query: tuple[Query, ...] = ()
    errors: Mapping[int, str] = {}
    status: int = 200
    media: str = "application/json"
    problem: type | None = None
    body: type | None = None
    locked: bool = False


class Problem(msgspec.Struct, frozen=True):
    """Why a request was not answered."""

    message: str


class Alive(msgspec.Struct, frozen=True):
    """The process answers."""

    alive: bool


class Readiness(msgspec.Struct, frozen=True):
    """Whether the service can do its work now; `why` not, in words."""

    ready: bool
    why: str | None


COMMON = (
    Route("GET", "/healthz", "", Alive, "Whether the process answers at all."),
    Route(
        "GET",
        "/readyz",
        "",
        Readiness,
        "Whether it can do its work now.",
        errors={503: "it can't now; `why` says what is missing"},
        problem=Readiness,
    ),
    Route("GET", "/metrics", "", None, "Its metrics, in Prometheus' text form.", media="text/plain"),
)
"""What every service serves (services.shared.runner)."""


def bind(routes: Iterable[Route], owner: object) -> list[web.RouteDef]:
    """The table as aiohttp takes it. AttributeError when `owner` lacks a handler."""
    return [web.route(route.method, route.path, _handler(route, owner)) for route in routes]


def _handler(route: Route, owner: Any) -> Handler:
    handler: Handler = getattr(owner, route.handler)
    return owner.locked(handler) if route.locked else handler


def answer(body: object, status: int = 200) -> web.Response:
    """A Struct (or a plain value) as JSON."""
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")


def problem(message: str, status: int) -> web.Response:
    """Why not."""
    return answer(Problem(message), status)
