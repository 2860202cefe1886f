"""The edge's HTTP beside the AWS APIs: what it says to somebody who only looks. `app.Edge.handle` answers it."""

from __future__ import annotations

import msgspec

from services.shared.http import Route


class Greeting(msgspec.Struct, kw_only=True, frozen=True):
    """Who is here, and which AWS APIs are answered (False: no service of this platform owns it)."""

    service: str = "roadstead edge"
    about: str = "The AWS container APIs. Point an AWS client here: --endpoint-url, or AWS_ENDPOINT_URL."
    apis: dict[str, bool]


ROUTES = (Route("GET", "/", "", Greeting, "Which AWS APIs are answered here. Only for requests that nobody signed."),)
