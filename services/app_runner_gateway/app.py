"""The gateway, put together: App Runner, and what carries requests to it and to ECS' Express services."""

from __future__ import annotations

import asyncio
import datetime
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import structlog
from aiohttp import web

from contracts.records.app_runner_gateway import INGRESS, Ingress
from contracts.records.registry import IMAGE_TAG
from services.app_runner_gateway.adapters.certificates import CA_FILE, Authority
from services.app_runner_gateway.adapters.checks import Checks
from services.app_runner_gateway.adapters.express import ExpressWorld
from services.app_runner_gateway.adapters.haproxy import MISSING, ProxyAway, connections, free_port, runs_in, taken
from services.app_runner_gateway.adapters.proxy import Proxy
from services.app_runner_gateway.adapters.world import World
from services.app_runner_gateway.api import AppRunner
from services.app_runner_gateway.controllers.cleaning import CleaningController
from services.app_runner_gateway.controllers.express import ExpressController
from services.app_runner_gateway.controllers.services import ServicesController
from services.app_runner_gateway.controllers.traffic import Traffic
from services.app_runner_gateway.decisions.names import TOP
from services.app_runner_gateway.decisions.proxy import CERTIFICATE, EXPRESS, MOST_TASKS, WEIGHTED, Frame
from services.app_runner_gateway.handlers.images import Images
from services.app_runner_gateway.routes import ROUTES, ExpressView, GatewayRoutes, GatewayView, ServedView
from services.app_runner_gateway.settings import AppRunnerGatewaySettings
from services.shared import http
from services.shared.aws.mount import AwsDoor
from services.shared.aws.service import AwsService
from services.shared.consumers import Consumer
from services.shared.errors import AwsError
from services.shared.keys import KeyRing
from services.shared.runner import App, Host
from services.shared.settings import SettingsError

log = structlog.get_logger()

MOST_THREADS = 4
USUAL_PORT = 8443
NOT_HERE = (
    "Services with a URL can't be served here: this set-up has no way from the gateway to the instances. "
    "`roadstead up` and docker-compose.yml have one"
)


class AppRunnerGatewayApp(App):
    """App Runner's API; HAProxy before the instances; what deploys, balances and scales them."""

    name = "app_runner_gateway"

    def __init__(self, host: Host, settings: AppRunnerGatewaySettings) -> None:
        super().__init__(host)
        self._settings = settings
        self._folder = host.data / "app_runner_gateway"
        self.aws_services: list[AwsService] = []
        self.https_port = 0

    @property
    def ca_file(self) -> Path:
        """The certificate that clients are to trust."""
        return self._folder / CA_FILE

    async def start(self) -> None:
        """Read the world, see to certificates and port, adopt HAProxy, open the door, follow everything.

        Raises SettingsError for a bad certificate authority, and for a port that is taken.
        """
        host, settings = self.host, self._settings
        self._authority = Authority.open(self._folder, self._now())
        self.world, self._keys = await asyncio.gather(World.open(host.bus, host.clock), KeyRing.open(host.bus))
        self.express = await ExpressWorld.open(self.world)
        made = self._certify(())
        threads = max(1, min(MOST_THREADS, len(os.sched_getaffinity(0))))
        self.https_port = self._port()
        frame = Frame(settings.https_host, self.https_port, threads, connections(), settings.queue_s)
        self.proxy = Proxy(self._folder, frame, settings.haproxy)
        await self._adopt()
        if made and self.proxy.running:
            await self.proxy.certify()
        await self._tell_where()
        self.aws_services = [AppRunner(self.world, self.https_port, self._prepare)]
        self._door = AwsDoor(host, self.aws_services, self._keys)
        self.aws_server = self._door.server
        self._checks = Checks()
        traffic = Traffic(self.world, self.proxy, settings, host.instance)
        services = ServicesController(self.world, self.proxy, self._checks, traffic, settings)
        traffic.mark = self._checks.changed = services.mark
        self.world.listen(services.heard)
        self._express_checks = Checks()
        express = ExpressController(
            self.express, self.proxy, self._express_checks, traffic, self._prepare, settings.express_start_s
        )
        self.express.mark = self._express_checks.changed = express.mark
        traffic.watchers.append(express)
        cleaning = CleaningController(self.world, settings.keep_deleted_s)
        self._consumer = Consumer(host.bus, "images", (IMAGE_TAG,), {"tag.moved.v1": Images(self.world).on_tag_moved})
        await self._consumer.start()
        work = (("services", services), ("traffic", traffic), ("cleaning", cleaning), ("express", express))
        self._working = [host.bus.spawn(controller.run(), name) for name, controller in work]
        self._working.append(host.bus.spawn(self._renew(), "certificate"))

    def _port(self) -> int:
        """The port: the given one; else that of last time; else USUAL_PORT unless any is wanted; else a free one.

        Raises SettingsError.
        """
        settings, remembered = self._settings, self._folder / "https.port"
        last = _remembered(remembered)
        running = runs_in(self._folder)
        if settings.https_port:
            if not running and (error := taken(settings.https_host, settings.https_port)):
                why = os.strerror(error.errno or 0)
                raise SettingsError(f"port {settings.https_port}: {why}; choose another with --https-port")
            port = settings.https_port
        elif last and (running or not taken(settings.https_host, last)):
            port = last
        elif settings.https_port is None and not taken(settings.https_host, USUAL_PORT):
            port = USUAL_PORT
        else:
            port = free_port(settings.https_host)
        remembered.write_text(f"{port}\n")
        return port

    async def _adopt(self) -> None:
        """HAProxy runs only while there are services."""
        alive = any(s.status not in ("DELETED", "CREATE_FAILED") for s in self.world.services.records())
        alive = alive or any(s.status != "INACTIVE" for s in self.express.services())
        if not self.proxy.haproxy.missing and (alive or runs_in(self._folder)):
            await self.proxy.start()

    async def _prepare(self, region: str) -> None:
        """Before a service is created: there is an HAProxy, and a certificate for its region. Raises AwsError."""
        if self.proxy.haproxy.missing:
            raise AwsError("InternalServiceErrorException", MISSING if self._settings.haproxy else NOT_HERE)
        made = self._certify((region,))
        if not self.proxy.running:
            await self.proxy.start()
        elif made:
            await self.proxy.certify()

    def _certify(self, regions: Iterable[str]) -> bool:
        """See to a certificate for these regions and those of all services; whether it had to be made."""
        known = {s.region for s in self.world.services.records()} | {s.region for s in self.express.services()}
        return self._authority.leaf(self._folder / CERTIFICATE, known | set(regions), self._now())

    async def _renew(self) -> None:
        """Have a certificate made anew before it ends, however long this process runs."""
        while True:
            await asyncio.sleep(self._settings.certificate_look_s)
            if self._certify(()) and self.proxy.running:
                try:
                    await self.proxy.certify()
                except ProxyAway as error:
                    log.warning("certificate.not_in_use", error=str(error))  # HAProxy reads it when it starts again

    def _now(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self.host.clock(), datetime.UTC)

    async def _tell_where(self) -> None:
        """Where requests are answered, for the scheduler."""
        missing = self.proxy.haproxy.missing
        told = Ingress(
            name="https",
            port=self.https_port,
            domain=TOP,
            most_tasks=MOST_TASKS,
            missing=(MISSING if self._settings.haproxy else NOT_HERE) if missing else "",
        )
        same = lambda old: old if old == told else told  # noqa: E731
        await self.world.store.update(INGRESS, INGRESS.key_of(told), same, "ingress.changed.v1")

    async def stop(self) -> None:
        """Let go; HAProxy ends last, so that what is asked until then is answered."""
        if hasattr(self, "_consumer"):
            await self._consumer.stop()
        for task in getattr(self, "_working", ()):
            task.cancel()
        await asyncio.gather(*getattr(self, "_working", ()), return_exceptions=True)
        checks = (("_checks", "stop"), ("_express_checks", "stop"))
        views = (("express", "close"), ("world", "close"), ("_keys", "close"))
        for part, method in (*checks, *views, ("proxy", "stop")):
            if hasattr(self, part):
                await getattr(getattr(self, part), method)()

    def not_ready(self) -> str | None:
        """Without HAProxy nothing can be served."""
        proxy = getattr(self, "proxy", None)
        missing = proxy is not None and proxy.haproxy.missing and self._settings.haproxy
        return MISSING if missing else None

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """What is served where, for a person; the AWS API on every other path."""
        return [*http.bind(ROUTES, GatewayRoutes(self._show)), *self._door.routes()]

    def _show(self) -> GatewayView:
        found = sorted(self.world.services.records(), key=lambda s: (s.name, s.id))
        shown = [
            ServedView(
                name=s.name,
                status=s.status,
                url=f"https://{s.host}:{self.https_port}",
                revision=s.active,
                instances={name[:12]: server.state for name, server in self.proxy.carried(s.host).items()},
            )
            for s in found
            if s.status != "DELETED"
        ]
        return GatewayView(
            port=self.https_port, haproxy=self.proxy.haproxy.pid, services=shown, express=self._show_express()
        )

    def _show_express(self) -> list[ExpressView]:
        shown = []
        for service in sorted(self.express.services(), key=lambda s: (s.cluster, s.name)):
            if service.status == "INACTIVE" or service.front is None:
                continue
            places = [self.proxy.carried(f"{kind}:{service.front.host}") for kind in (EXPRESS, WEIGHTED)]
            shown.append(
                ExpressView(
                    account=service.account,
                    region=service.region,
                    cluster=service.cluster,
                    name=service.name,
                    status=service.status,
                    url=f"https://{service.front.host}:{self.https_port}",
                    tasks={name[:12]: server.state for place in places for name, server in place.items()},
                )
            )
        return shown


def _remembered(path: Path) -> int:
    """The port in this file; 0 when there is none, or what is in it is none: a disk was full, say."""
    try:
        port = int(path.read_text())
    except (OSError, ValueError):
        return 0
    return port if 0 < port < 65536 else 0
