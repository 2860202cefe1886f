"""What the edge needs from outside: somewhere to send a request."""

from __future__ import annotations

from typing import Protocol

from services.shared.aws.context import Identity
from services.shared.aws.http import AwsHttpRequest, AwsHttpResponse
from services.shared.aws.routing import Route


class Upstream(Protocol):
    """A service that owns APIs."""

    async def send(self, request: AwsHttpRequest, identity: Identity, route: Route) -> AwsHttpResponse:
        """Its answer to a request whose signature is good. Raises ServiceUnavailable when it is away."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
