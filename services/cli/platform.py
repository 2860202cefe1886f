"""The whole platform in one process: an embedded NATS, every service, an agent a zone.

Read this file first: it is everything there is, in the order in which it starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import socket
import string
import time
from typing import Any

import msgspec
import structlog

from contracts.grants import OPERATOR, USERS
from services.cli.layout import Layout, PlatformInfo, ServiceInfo
from services.shared.bus import Bus
from services.shared.nats_server import NatsServer
from services.shared.provision import provision
from services.shared.runner import App, Host, HttpServer, start_app, stop_app
from services.shared.settings import SettingsError

log = structlog.get_logger()

LOCAL = "127.0.0.1"
STORAGE_LOOK_S = 2.0
STORAGE_ROOM = 8 * 1024 * 1024
"""Bytes that must be free for NATS to be started again after the disk was full."""


class PlatformSettings(msgspec.Struct, kw_only=True, frozen=True):
    """What `roadstead up` was told. Ports of 0 choose free ones; no `https_port`: 8443 if it is free."""

    port: int = 4566
    registry_port: int = 5000
    https_port: int | None = None
    registry_https_port: int | None = None
    host: str = "127.0.0.1"
    zones: int = 3
    runtime: str = "auto"
    region: str = "us-east-1"
    insecure_test_keys: bool = False


class Platform:
    """Everything, started and stopped as one."""

    def __init__(self, layout: Layout, settings: PlatformSettings) -> None:
        self._layout = layout
        self._settings = settings
        self._running: list[tuple[App, HttpServer]] = []
        self._since: dict[int, float] = {}
        self._buses: list[Bus] = []
        self._supervisor: asyncio.Future[Any] | None = None
        self.edge_port = 0
        self.registry_port = 0
        self.registry_https_port = 0
        self.registry_ca_file = ""
        self.dns_port = 0
        self.https_port = 0
        self.ca_file = ""

    async def start(self) -> PlatformInfo:
        """Start all; when it returns every API answers. Raises SettingsError for a taken port, before all else."""
        self._check_port("--port", self._settings.port)
        self._check_port("--registry-port", self._settings.registry_port)
        self._passwords = passwords(self._layout)
        self._nats = NatsServer(self._layout.root / "nats", self._passwords)
        starting = asyncio.ensure_future(self._nats.start())
        await asyncio.sleep(0)
        import services.cli.parts as parts  # imported while NATS starts: it is what takes longest

        await starting
        await self._provision()
        self._supervisor = asyncio.gather(self._keep_nats(), self._revive_storage())
        await self._start(parts.identity(await self._host("identity"), self._settings))
        registry = parts.registry(await self._host("registry"), self._settings)
        await self._start(registry, self._settings.registry_port)
        self.registry_port = self._port_of(registry)
        self.registry_https_port, self.registry_ca_file = self._tls_port_of(registry), str(registry.ca_file or "")
        discovery = parts.discovery(await self._host("discovery"), self._settings)
        await self._start(discovery)
        self.dns_port = discovery.dns_port
        runtime = await parts.choose_runtime(self._settings.runtime)
        (self._layout.root / "runtime").write_text(runtime + "\n")  # for `down --tasks` on a platform that is gone
        await asyncio.gather(
            self._start(parts.monitor(await self._host("monitor"), self._settings)),
            self._start(parts.scanner(await self._host("scanner"), self._settings)),
            self._start(parts.scheduler(await self._host("scheduler"), self._settings)),
            self._start(parts.autoscaler(await self._host("autoscaler"), self._settings)),
            self._start(parts.events(await self._host("events"), self._settings)),
            self._start(parts.network(await self._host("network"), self._settings)),
            *[self._start_agent(parts, zone, runtime) for zone in range(self._settings.zones)],
        )
        gateway = parts.app_runner_gateway(await self._host("app_runner_gateway"), self._settings)
        await self._start(gateway)
        self.https_port, self.ca_file = gateway.https_port, str(gateway.ca_file)
        edge = parts.edge(await self._host("edge"), self._settings, [app for app, _ in self._running])
        await self._start(edge, self._settings.port)
        self.edge_port = self._port_of(edge)
        return self._info(runtime)

    async def stop(self) -> None:
        """Stop all, in reverse. Tasks keep running, to be adopted by the next `up`."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        for app, server in reversed(self._running):
            await server.stop()
            await stop_app(app)
        for bus in reversed(self._buses):
            await bus.close()
        if hasattr(self, "_nats"):
            await self._nats.stop()

    def _check_port(self, option: str, port: int) -> None:
        try:
            socket.create_server((self._settings.host, port)).close()
        except OSError as error:
            raise SettingsError(f"port {port}: {os.strerror(error.errno or 0)}; choose another with {option}") from None

    async def _provision(self) -> None:
        operator = await Bus.connect(
            self._nats.url, OPERATOR, user=OPERATOR, password=self._passwords[OPERATOR], wait_s=20
        )
        try:
            await provision(operator)
        finally:
            await operator.close()

    async def _keep_nats(self) -> None:
        """A NATS that ended is started again on its port; the services reconnect by themselves."""
        while True:
            code = await self._nats.wait()
            log.error("nats.ended", exit_code=code)
            while True:
                with contextlib.suppress(Exception):
                    await self._nats.start()
                    break
                await asyncio.sleep(0.5)
            log.info("nats.started_again", pid=self._nats.pid)

    async def _revive_storage(self) -> None:
        """A stream that met a full disk stores nothing more until NATS starts anew, whatever room there is by then:
        end NATS, once there is room, so that it is started again. One that hangs is left alone: it may come back."""
        while True:
            await asyncio.sleep(STORAGE_LOOK_S)
            stuck = [bus for bus in self._buses if bus.unstored >= 2 and bus.connected.is_set()]
            if not stuck or shutil.disk_usage(self._layout.root).free < STORAGE_ROOM:
                continue
            if not await self._nats.answers():
                continue
            log.warning("nats.stores_nothing", action="starting it again", services=[b.service for b in stuck])
            for bus in stuck:
                bus.unstored = 0
            with contextlib.suppress(OSError):
                await self._nats.stop()

    async def _host(self, service: str, instance: str = "") -> Host:
        bus = await Bus.connect(self._nats.url, service, user=service, password=self._passwords[service], wait_s=20)
        self._buses.append(bus)
        return Host(bus, self._layout.root, instance=instance or service)

    async def _start(self, app: App, port: int | None = None) -> None:
        # What answers no stranger (metrics, state, the other services' doors) listens on this machine alone.
        server = HttpServer(app, host=LOCAL if port is None else self._settings.host, port=port or 0)
        server.bind()
        self._running.append((app, server))
        await start_app(app)
        await server.start()
        self._since[id(app)] = time.time()

    async def _start_agent(self, parts: Any, index: int, runtime: str) -> None:
        letter = string.ascii_lowercase[index]
        zone = f"{self._settings.region}{letter}"
        host = await self._host("agent", f"agent-{letter}")
        dns = f"127.0.0.1:{self.dns_port}"
        await self._start(parts.agent(host, self._settings, zone=zone, runtime=runtime, dns=dns))

    def _port_of(self, app: App) -> int:
        return next(server.port for running, server in self._running if running is app)

    def _tls_port_of(self, app: App) -> int:
        return next(server.tls_port for running, server in self._running if running is app)

    def _info(self, runtime: str) -> PlatformInfo:
        return PlatformInfo(
            pid=os.getpid(),
            port=self.edge_port,
            registry_port=self.registry_port,
            registry_https_port=self.registry_https_port,
            registry_ca_file=self.registry_ca_file,
            dns_port=self.dns_port,
            https_port=self.https_port,
            ca_file=self.ca_file,
            region=self._settings.region,
            nats_url=self._nats.url,
            nats_pid=self._nats.pid,
            runtime=runtime,
            zones=self._settings.zones,
            started_at=time.time(),
            services=[
                ServiceInfo(name=a.name, instance=a.host.instance, port=s.port, started_at=self._since[id(a)])
                for a, s in self._running
            ],
        )


def passwords(layout: Layout) -> dict[str, str]:
    """The NATS password of each user of this data directory's platform."""
    secret = layout.secret("nats.secret", secrets.token_hex(24))
    return {user: _derive(secret, user) for user in (OPERATOR, *USERS)}


def _derive(secret: str, user: str) -> str:
    import hashlib
    import hmac

    return hmac.new(secret.encode(), user.encode(), hashlib.sha256).hexdigest()[:40]
