"""The edge's HTTP beside the AWS APIs: what it says to somebody who only looks. `app.Edge.handle` answers it."""

from __future__ import annotations

import msgspec

from contracts.rpc.identity import NodeRegistered, RegisterNode
from services.shared.http import Route


class Greeting(msgspec.Struct, kw_only=True, frozen=True):
    """Who is here, and which AWS APIs are answered (False: no service of this platform owns it)."""

    service: str = "roadstead edge"
    about: str = "The AWS container APIs. Point an AWS client here: --endpoint-url, or AWS_ENDPOINT_URL."
    apis: dict[str, bool]


ROUTES = (
    Route("GET", "/", "", Greeting, "Which AWS APIs are answered here. Only for requests that nobody signed."),
    Route(
        "POST",
        "/v1/nodes",
        "",
        NodeRegistered,
        "A machine joins with an activation, as an external node of a cluster.",
        errors={
            400: "a member is wrong; says which",
            403: "the activation is not valid",
            503: "identity is away",
        },
        body=RegisterNode,
    ),
    Route(
        "GET",
        "/v1/nodes/connection",
        "",
        None,
        "The WebSocket of an external node (Authorization: Bearer NODE:SECRET): NATS' protocol, in binary messages.",
        errors={403: "it is no node, or was deregistered", 503: "NATS is away"},
        status=101,
        media="application/octet-stream",
    ),
)
