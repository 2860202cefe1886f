"""How a service runs: alone as a process, or beside the others in one.

A service is an `App`: what it builds in `start` it lets go of in `stop`, in reverse. The runner gives it a `Host`
(its bus, its clock, its metrics, where its data may lie), an HTTP server with `/healthz`, `/readyz` and `/metrics`,
and a name in every span and log line.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import structlog
from aiohttp import web

from services.shared import logs, telemetry
from services.shared.bus import Bus
from services.shared.clock import Clock, system_clock
from services.shared.errors import AwsError
from services.shared.http import Alive, Readiness, answer
from services.shared.metrics import CONTENT_TYPE, Metrics
from services.shared.settings import SettingsError, load

if TYPE_CHECKING:
    from services.shared.aws.server import AwsServer

log = structlog.get_logger()

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class HostSettings(msgspec.Struct, kw_only=True, frozen=True):
    """What every service process is told by its environment (`ROADSTEAD_…`)."""

    nats_url: str = "nats://127.0.0.1:4222"
    nats_user: str = ""
    nats_password: str = ""
    host: str = "127.0.0.1"
    data: str = ".roadstead"
    instance: str = ""
    log_level: str = "info"


class Host:
    """What a service gets from whoever runs it. `instance` names this copy of it, also after a restart."""

    def __init__(
        self,
        bus: Bus,
        data: Path,
        *,
        instance: str,
        clock: Clock = system_clock,
        metrics: Metrics | None = None,
    ) -> None:
        self.bus = bus
        self.data = data
        self.instance = instance
        self.clock = clock
        self.metrics = metrics or Metrics(bus.service)
        if metrics is None:
            self._tell_of_the_bus()
        self.http_port = 0
        """The port of the service's HTTP server: bound, so known, before the service starts."""

    def _tell_of_the_bus(self) -> None:
        bus = self.bus
        self.metrics.observed(
            "nats_connected", "Whether NATS is there (1 or 0)", (), lambda: {(): float(bus.connected.is_set())}
        )
        self.metrics.observed(
            "nats_waiting_messages",
            "Messages NATS still had for a follower when it gave out the last one",
            ("followed",),
            lambda: {(name,): count for name, count in bus.waiting.items()},
        )


class Tls(NamedTuple):
    """A port that serves over TLS what the service's own port serves; 0 chooses a free one."""

    port: int
    context: ssl.SSLContext


class App:
    """A service. Subclasses set `name` and say what is done at start and stop, and what is served."""

    name = ""
    aws_server: AwsServer | None = None
    """What answers its AWS APIs, for an edge in the same process; set in `start` (AwsDoor.server)."""
    tls: Tls | None = None
    """Where it is served over TLS too, if anywhere; set in `start`."""

    def __init__(self, host: Host) -> None:
        self.host = host

    async def start(self) -> None:
        """Build everything, in order; when it returns the service is ready."""

    async def stop(self) -> None:
        """Let go of everything, in reverse order. Called also when start failed half-way."""

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The service's own HTTP routes, its AWS API among them."""
        return ()

    def handler(self) -> Handler | None:
        """For a service that answers every path by itself: what does so. A router that finds one route for all costs a
        tenth of what the edge has to do for a request. `routes` is not asked then."""
        return None

    def not_ready(self) -> str | None:
        """Why the service can't do its work now, or None."""
        return None


START_S = 20.0
COLLECT_AFTER = 20_000
"""How long NATS may take for one answer while a service starts."""
_RUNNER: dict[str, Any] = {"handle_signals": False, "shutdown_timeout": 3}
_PROTOCOL: dict[str, Any] = {"access_log": None, "keepalive_timeout": 75, "auto_decompress": False}


class HttpServer:
    """The HTTP server of one service."""

    def __init__(self, app: App, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._app = app
        self._host = host
        self._port = port
        self._runner: web.BaseRunner[Any] | None = None
        self._socket: socket.socket | None = None
        self.port = 0
        self.tls_port = 0

    def bind(self) -> int:
        """Take the port, without listening yet. Raises OSError when it is taken."""
        self._socket = socket.create_server((self._host, self._port), backlog=1024, reuse_port=False)
        self.port = self._app.host.http_port = self._socket.getsockname()[1]
        return self.port

    async def start(self) -> int:
        """Listen; the port. Raises OSError when it is taken."""
        if self._socket is None:
            self.bind()
        assert self._socket is not None
        own: dict[str, Handler] = {"/healthz": _healthz, "/readyz": self._readyz, "/metrics": self._metrics}
        handler = self._app.handler()
        self._runner = _routed(self._app, own) if handler is None else _unrouted(self._app.name, handler, own)
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket).start()
        tls = self._app.tls
        if tls is not None:
            listening = socket.create_server((self._host, tls.port), backlog=1024, reuse_port=False)
            self.tls_port = listening.getsockname()[1]
            await web.SockSite(self._runner, listening, ssl_context=tls.context).start()
        return self.port

    async def stop(self) -> None:
        """Stop listening and let running requests end."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._socket is not None:
            self._socket.close()

    async def _readyz(self, request: web.BaseRequest) -> web.Response:
        why = "NATS is away" if not self._app.host.bus.connected.is_set() else self._app.not_ready()
        return answer(Readiness(why is None, why), 200 if why is None else 503)

    async def _metrics(self, request: web.BaseRequest) -> web.Response:
        return web.Response(body=self._app.host.metrics.expose(), headers={"Content-Type": CONTENT_TYPE})


async def _healthz(request: web.BaseRequest) -> web.Response:
    return answer(Alive(True))


def _routed(app: App, own: dict[str, Handler]) -> web.AppRunner:
    http = web.Application(client_max_size=64 * 1024 * 1024, middlewares=[_in_the_name_of(app.name)])
    http.add_routes([*(web.get(path, handle) for path, handle in own.items()), *app.routes()])
    return web.AppRunner(http, **_RUNNER, **_PROTOCOL)


def _unrouted(service: str, handler: Handler, own: dict[str, Handler]) -> web.ServerRunner:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        telemetry.become(service)
        return await own.get(request.raw_path, handler)(request)

    return web.ServerRunner(web.Server(answer, **_PROTOCOL), **_RUNNER)


def _in_the_name_of(service: str) -> Any:
    @web.middleware
    async def named(request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        telemetry.become(service)
        return await handler(request)

    return named


async def start_app(app: App) -> None:
    """Start an app in its own name, its spans going through its own bus."""
    with telemetry.as_service(app.name):
        telemetry.ship_through(app.name, app.host.bus)
        with app.host.bus.patient(START_S):
            await app.start()
        log.info("service.started")


async def stop_app(app: App) -> None:
    """Stop an app; what goes wrong is logged, so that the others can stop too."""
    with telemetry.as_service(app.name):
        try:
            await app.stop()
        except Exception:
            log.exception("service.stop_failed")
        await telemetry.flush(app.name)
        log.info("service.stopped")


def calm_collector() -> None:
    """Let the garbage collector look less often. What a service holds are records by the ten thousand, which live long
    and make no cycles: looking through them for each few hundred new objects took a third of a scheduler's time."""
    gc.set_threshold(COLLECT_AFTER, 20, 50)
    gc.freeze()


def main(name: str, port: int, make: Callable[[Host], App]) -> None:
    """The main program of a service that is a process of its own."""
    import uvloop

    try:
        settings = load(HostSettings, "ROADSTEAD_")
        port = int(os.environ.get("ROADSTEAD_PORT", port))
    except (SettingsError, ValueError) as error:
        sys.exit(f"{name}: {error}")
    logs.configure(logs.StreamSink(), settings.log_level)
    telemetry.become(name)
    calm_collector()
    try:
        uvloop.run(_run(name, port, make, settings))
    except (AwsError, OSError, SettingsError) as error:
        sys.exit(f"{name}: {error}")


async def _run(name: str, port: int, make: Callable[[Host], App], settings: HostSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    bus = await Bus.connect(
        settings.nats_url, name, user=settings.nats_user or name, password=settings.nats_password, wait_s=60
    )
    host = Host(bus, Path(settings.data), instance=settings.instance or socket.gethostname())
    app = make(host)
    server = HttpServer(app, host=settings.host, port=port)
    try:
        server.bind()
        await start_app(app)
        await server.start()
        log.info("service.listening", host=settings.host, port=server.port)
        await stop.wait()
    finally:
        await server.stop()
        await stop_app(app)
        await bus.close()
