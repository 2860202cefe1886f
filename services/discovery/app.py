"""Discovery, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiohttp import web

from contracts.rpc.discovery import PROVIDE_NAME, REMOVE_NAME
from services.discovery.adapters.dns import DnsServer, bind
from services.discovery.adapters.forwarding import Forwarder, resolvers
from services.discovery.adapters.world import World
from services.discovery.api import CloudMap
from services.discovery.controllers.registries import RegistriesController
from services.discovery.handlers import Names
from services.discovery.routes import ROUTES, DnsRoutes, DnsView
from services.discovery.settings import DiscoverySettings
from services.shared import http
from services.shared.aws.mount import AwsDoor
from services.shared.aws.service import AwsService
from services.shared.keys import KeyRing
from services.shared.runner import App, Host
from services.shared.settings import SettingsError


class DiscoveryApp(App):
    """Cloud Map's API, the DNS of its private namespaces, and the registration of ECS tasks."""

    name = "discovery"

    def __init__(self, host: Host, settings: DiscoverySettings) -> None:
        super().__init__(host)
        self._settings = settings
        self.aws_services: list[AwsService] = []
        self.dns_port = 0

    async def start(self) -> None:
        """Read the world, answer the DNS, open the door, follow ECS. Raises OSError when the DNS port is taken."""
        host, settings = self.host, self._settings
        tcp, udp = bind(settings.dns_host, settings.dns_port, host.data / "discovery" / "dns.port")
        self.dns_port = tcp.getsockname()[1]
        try:
            others = resolvers(settings.resolvers, (settings.dns_host, self.dns_port))
        except ValueError as error:
            raise SettingsError(f"ROADSTEAD_DISCOVERY_RESOLVERS={settings.resolvers!r}: {error}") from error
        self.world, self._keys = await asyncio.gather(World.open(host.bus, host.clock), KeyRing.open(host.bus))
        self.dns = DnsServer(self.world.answers, Forwarder(others, settings.resolver_timeout_s))
        await self.dns.start(tcp, udp)
        self.aws_services = [CloudMap(self.world)]
        self._door = AwsDoor(host, self.aws_services, self._keys)
        self.aws_server = self._door.server
        provided = Names(self.world)
        await host.bus.serve(PROVIDE_NAME, provided.provide)
        await host.bus.serve(REMOVE_NAME, provided.remove)
        registries = RegistriesController(self.world)
        self.world.listen(registries.heard)
        self._following = host.bus.spawn(registries.run(), "registries")

    async def stop(self) -> None:
        """Let go, the DNS last."""
        if hasattr(self, "_following"):
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        for part in ("world", "_keys"):
            if hasattr(self, part):
                await getattr(self, part).close()
        if hasattr(self, "dns"):
            await self.dns.stop()

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """What the DNS does, for a person; the AWS API on every other path."""
        return [*http.bind(ROUTES, DnsRoutes(self._show)), *self._door.routes()]

    def _show(self) -> DnsView:
        zones = sorted(n.name for n in self.world.namespaces.records() if n.type == "DNS_PRIVATE")
        return DnsView(
            address=f"{self._settings.dns_host}:{self.dns_port}",
            zones=zones,
            answered=self.dns.answered,
            forwarded=self.dns.forwarded,
        )
