"""A service's own door: its AWS APIs on its HTTP port, signatures verified, sessions judged, operations
observed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from services.shared.authorization import Resolve
from services.shared.aws.context import RequestContext
from services.shared.aws.observe import ServiceObserver
from services.shared.aws.ports import Guard
from services.shared.aws.server import AwsServer
from services.shared.aws.service import AwsService
from services.shared.aws.sigv4 import SigV4Authenticator
from services.shared.errors import StateUnavailable
from services.shared.keys import KeyRing
from services.shared.runner import Host


class AwsDoor:
    """The AwsServer of one service, with what every service has: the door's rules, spans and metrics. `may` judges
    callers where more than their own policies counts."""

    def __init__(
        self,
        host: Host,
        services: Sequence[AwsService],
        keys: KeyRing,
        resolve: Resolve | None = None,
        may: Guard | None = None,
    ) -> None:
        self._host = host
        self._authorization = keys.authorization
        self._resolve = resolve
        self.server = AwsServer(
            services,
            SigV4Authenticator(keys, host.clock),
            observe=ServiceObserver(host.bus.service, host.metrics),
            guards=(self._state_is_there, may or self._caller_may),
        )

    def routes(self) -> list[web.AbstractRouteDef]:
        """Every path that no route before took."""
        return [web.route("*", "/{path:.*}", self.server.handle)]

    async def _state_is_there(self, context: RequestContext, request: Any) -> None:
        """Without NATS a read could be stale and a write is lost: both are refused (503)."""
        if not self._host.bus.connected.is_set():
            raise StateUnavailable()

    async def _caller_may(self, context: RequestContext, request: Any) -> None:
        """A session may do what its role's policies allow; the account itself may do everything."""
        await self._authorization.check(context, request, self._resolve)
