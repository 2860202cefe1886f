"""A node's HTTP for people, and the table of what its endpoint inside tasks answers (`endpoint.TaskEndpoint`)."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from aiohttp import web

from services.shared.http import Route, answer


class NodeView(msgspec.Struct, kw_only=True, frozen=True):
    """The node, what runs its containers, and how many tasks it looks after now."""

    node: str
    runtime: str
    tasks: int


class EndpointProblem(msgspec.Struct, rename="pascal", frozen=True):
    """Why the endpoint inside tasks did not answer, as ECS' own agent tells it."""

    code: str = msgspec.field(name="code")
    message: str = msgspec.field(name="message")
    http_error_code: int = msgspec.field(name="HTTPErrorCode")


class NodeRoutes:
    """What the node does now."""

    def __init__(self, look: Callable[[], NodeView]) -> None:
        self._look = look

    async def node(self, request: web.Request) -> web.Response:
        """`GET /node`: a NodeView."""
        return answer(self._look())


ROUTES = (Route("GET", "/node", "node", NodeView, "The node, and how many tasks it looks after now."),)

_GONE = {404: "there is no such thing in this task", 405: "only GET is answered"}


def _inside(path: str, text: str, **errors: str) -> Route:
    more = {int(code.removeprefix("e")): when for code, when in errors.items()}
    return Route("GET", path, "", dict, text, errors={**_GONE, **more}, problem=EndpointProblem)


INSIDE_TASKS = (
    _inside("/v4/{container_id}", "ECS' metadata (version 4) of a container: ECS_CONTAINER_METADATA_URI_V4."),
    _inside("/v4/{container_id}/task", "The metadata of its task."),
    _inside("/v4/{container_id}/taskWithTags", "The same with tags."),
    _inside("/v4/{container_id}/stats", "What the container uses, as Docker tells it."),
    _inside("/v4/{container_id}/task/stats", "What each of the task's running containers uses."),
    _inside(
        "/v2/credentials/{credentials_id}",
        "Credentials of the task's role; AWS_CONTAINER_CREDENTIALS_RELATIVE_URI has the path.",
        e503="identity does not answer",
    ),
)
"""Answered at 169.254.170.2, which only the task's own containers reach."""
