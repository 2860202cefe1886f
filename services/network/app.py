"""The network service, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiohttp import web
from msgspec.structs import replace

from services.network.adapters import World
from services.network.api import Ec2
from services.network.settings import NetworkSettings
from services.shared.aws.context import RequestContext
from services.shared.aws.mount import AwsDoor
from services.shared.aws.service import AwsService
from services.shared.keys import KeyRing
from services.shared.policies.demands import Demand
from services.shared.runner import App, Host

ANY_GROUP = "security-group/*"


class NetworkApp(App):
    """Owns security groups; answers the part of EC2's API that tells of the tasks' network."""

    name = "network"

    def __init__(self, host: Host, settings: NetworkSettings) -> None:
        super().__init__(host)
        self._settings = settings
        self.aws_services: list[AwsService] = []

    async def start(self) -> None:
        """Read the groups, open the door."""
        host = self.host
        self.world, self._keys = await asyncio.gather(
            World.open(host.bus, host.clock, self._settings), KeyRing.open(host.bus)
        )
        self.aws_services = [Ec2(self.world)]
        self._door = AwsDoor(host, self.aws_services, self._keys, resolve=self._resolve)
        self.aws_server = self._door.server

    async def stop(self) -> None:
        """Let go."""
        for part in ("world", "_keys"):
            if hasattr(self, part):
                await getattr(self, part).close()

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The AWS API on every path."""
        return self._door.routes()

    def _resolve(self, context: RequestContext, request: Any, wanted: list[Demand]) -> list[Demand]:
        """A group that is named by its name is judged by its id."""
        name = getattr(request, "group_name", None)
        if context.operation == "CreateSecurityGroup" or not name:
            return wanted
        for group in self.world.groups(context.account, context.region):
            if group.name == name:
                return [
                    replace(each, resource=each.resource.removesuffix("*") + group.id)
                    if each.resource.endswith(ANY_GROUP)
                    else each
                    for each in wanted
                ]
        return wanted
