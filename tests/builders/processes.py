"""The platform with each service as a process of its own, without Docker: each can be killed alone.

with process_platform() as platform:
    platform["scheduler"].kill()
    platform["scheduler"].start()
    platform.ready("scheduler")
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats
from nats.js.api import AckPolicy, ConsumerConfig

from contracts.grants import OPERATOR, USERS
from services.cli.parts import MINIMUM_CPU_UNITS, purge
from services.shared.bus import Bus
from services.shared.nats_server import configuration, find_program
from services.shared.provision import provision
from services.testing.endpoint import Endpoint, until
from services.testing.platform import HOME

SERVICES = tuple(user for user in USERS if user not in ("agent", "edge"))
"""Those that answer APIs or act on events."""

NODES = {"agent-a": "us-east-1a", "agent-b": "us-east-1b"}
EVERYTHING = ("nats", *SERVICES, "edge", *NODES)
NOT_HANDED_ON = ("ROADSTEAD_", "PYTHONDONTWRITEBYTECODE")
"""Eleven processes that compile every module anew take twice as long to start."""

LAST_WORDS = 12
OWN_PORTS = range(20000, 32000)
"""Below ip_local_port_range as Linux has it."""


class Program:
    """One process: started, killed, stalled, started again on its port with its data. Ends with the thread that
    started it, should that not end it."""

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str], log: Path, ready: str) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._environment = dict(environment)
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    def another(self, instance: str, port: int, log: Path) -> Program:
        """The same service once more, under another name and port."""
        environment = {**self._environment, "ROADSTEAD_INSTANCE": instance, "ROADSTEAD_PORT": str(port)}
        return Program(instance, self._command, environment, log, f"http://127.0.0.1:{port}/readyz")

    @property
    def pid(self) -> int:
        """Its process id; 0 when it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else 0

    def start(self) -> None:
        """Start it, and do not wait until it is ready."""
        assert not self.pid, f"{self.name} runs already"
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, cwd=HOME, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=_end_with_parent,
            )  # fmt: skip

    def kill(self) -> None:
        """kill -9; returns when it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stall(self) -> None:
        """It does nothing more until `go_on`, and keeps its connections."""
        stall(self.pid)

    def go_on(self) -> None:
        """It does not know that it was away."""
        os.kill(self.pid, signal.SIGCONT)

    def is_ready(self) -> bool:
        """Whether it says so. AssertionError with its last words when it has ended."""
        if self._process is not None and self._process.poll() is not None:
            raise AssertionError(f"{self.name} ended with {self._process.returncode}{self.last_words()}")
        try:
            with urllib.request.urlopen(self._ready, timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def last_words(self) -> str:
        """The end of its log."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return f"\n--- {self.name}\n" + "\n".join(lines[-LAST_WORDS:])


@dataclass
class ProcessPlatform(Endpoint):
    """Programs by name, and the ports that their clients use."""

    data: Path = field(default_factory=Path)
    programs: dict[str, Program] = field(default_factory=dict)
    passwords: dict[str, str] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    services: tuple[str, ...] = EVERYTHING[1:]

    def __getitem__(self, name: str) -> Program:
        return self.programs[name]

    @property
    def registry(self) -> str:
        """`host:port` of the registry."""
        return f"localhost:{self.ports['registry']}"

    @property
    def dns_port(self) -> int:
        """Where discovery answers the DNS."""
        return self.ports["dns"]

    @property
    def nats_url(self) -> str:
        """For those who know a password."""
        return f"nats://127.0.0.1:{self.ports['nats']}"

    def start(self) -> None:
        """NATS, its streams, then all that it has at once. Raises AssertionError with what did not come up said."""
        self["nats"].start()
        self.ready("nats")
        asyncio.run(self._provision())
        for name in self.services:
            self[name].start()
        self.ready(*self.services)

    def restart(self, *names: str) -> None:
        """Start again what was killed; returns when all are ready."""
        for name in names:
            self[name].start()
        self.ready(*names)

    def ready(self, *names: str) -> None:
        """Return when these are ready. Raises AssertionError with the last words of those that are not."""
        for name in names:
            try:
                until(self[name].is_ready, 60, every=0.02)
            except AssertionError as error:
                raise AssertionError(f"{name} is not ready: {error}{self[name].last_words()}") from None

    def copy(self, name: str, instance: str) -> Program:
        """A second one of a service, not started yet."""
        (self.ports[instance],) = free_ports(1)
        self.programs[instance] = self[name].another(instance, self.ports[instance], self.data / f"{instance}.log")
        return self[instance]

    def at(self, name: str) -> Endpoint:
        """The AWS API of one service at its own door, past the edge."""
        return Endpoint(port=self.ports[name], access_key_id=self.access_key_id, secret=self.secret)

    def stop(self) -> None:
        """End all, and everything that its nodes run. Never fails half-way."""
        for program in self.programs.values():
            program.kill()
        with contextlib.suppress(OSError):
            asyncio.run(purge(self.data))

    def events(self) -> list[tuple[str, tuple[str, ...]]]:
        """Every event so far, in order: its name and the entity's subject tokens (`state.` cut off)."""
        return asyncio.run(_read_events(self.nats_url, self.passwords[OPERATOR]))

    async def _provision(self) -> None:
        password = self.passwords[OPERATOR]
        bus = await Bus.connect(self.nats_url, OPERATOR, user=OPERATOR, password=password, wait_s=20)
        try:
            await provision(bus)
        finally:
            await bus.close()


@contextlib.contextmanager
def process_platform(*only: str, **settings: str) -> Iterator[ProcessPlatform]:
    """A platform of processes, two nodes in two zones, gone afterwards with all its tasks. `only`: no others than
    these, besides NATS. `settings` go into the environment of every process (`ROADSTEAD_SCHEDULER_LEASE_TTL_S="2"`)."""
    data = Path(tempfile.mkdtemp(prefix="roadstead-"))
    platform = _made(data, settings)
    platform.services = only or platform.services
    try:
        platform.start()
        yield platform
    finally:
        platform.stop()
        shutil.rmtree(data, ignore_errors=True)


def _made(data: Path, settings: Mapping[str, str]) -> ProcessPlatform:
    names = [*EVERYTHING, "nats-monitor", "dns", "https"]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    passwords = {user: secrets.token_hex(16) for user in (OPERATOR, *USERS)}
    platform = ProcessPlatform(
        port=ports["edge"],
        access_key_id="AKIAPROCESSES0000000",
        secret=secrets.token_hex(20),
        data=data,
        passwords=passwords,
        ports=ports,
    )
    platform.programs["nats"] = _nats(platform)
    common = {
        **{name: value for name, value in os.environ.items() if not name.startswith(NOT_HANDED_ON)},
        "ROADSTEAD_NATS_URL": platform.nats_url,
        "ROADSTEAD_DATA": str(data),
        **settings,
    }
    for name in EVERYTHING[1:]:
        service = "agent" if name in NODES else name
        own = {
            "ROADSTEAD_INSTANCE": name,
            "ROADSTEAD_PORT": str(ports[name]),
            "ROADSTEAD_NATS_PASSWORD": passwords[service],
            **_own(platform, name),
        }
        command = [sys.executable, "-m", f"services.{service}"]
        ready = f"http://127.0.0.1:{ports[name]}/readyz"
        platform.programs[name] = Program(name, command, {**common, **own}, data / f"{name}.log", ready)
    return platform


def _nats(platform: ProcessPlatform) -> Program:
    store, config = str(platform.data / "store"), platform.data / "nats.conf"
    port, monitor = platform.ports["nats"], platform.ports["nats-monitor"]
    text = configuration(platform.passwords, port=port, host="127.0.0.1", store=store, sync_always=True)
    config.touch(mode=0o600)
    config.write_text(f"{text}http: '127.0.0.1:{monitor}'\n")
    ready = f"http://127.0.0.1:{monitor}/healthz"
    return Program("nats", [find_program(), "-c", str(config)], os.environ, platform.data / "nats.log", ready)


def _own(platform: ProcessPlatform, name: str) -> dict[str, str]:
    """What only this process is told."""
    ports = platform.ports
    if name in NODES:
        return {
            "ROADSTEAD_AGENT_RUNTIME": "oci",
            "ROADSTEAD_AGENT_NODE": name.replace("agent", "node"),
            "ROADSTEAD_AGENT_ZONE": NODES[name],
            "ROADSTEAD_AGENT_SHARES": str(len(NODES)),
            "ROADSTEAD_AGENT_CPU_UNITS": str(MINIMUM_CPU_UNITS),
            "ROADSTEAD_AGENT_DNS": f"127.0.0.1:{ports['dns']}",
        }
    upstreams = ",".join(f"{service}=http://127.0.0.1:{ports[service]}" for service in SERVICES)
    told: dict[str, dict[str, str]] = {
        "app_runner_gateway": {"ROADSTEAD_APP_RUNNER_GATEWAY_HTTPS_PORT": str(ports["https"])},
        "discovery": {"ROADSTEAD_DISCOVERY_DNS_PORT": str(ports["dns"])},
        "edge": {"ROADSTEAD_EDGE_UPSTREAMS": upstreams},
        "identity": {
            "ROADSTEAD_IDENTITY_ACCESS_KEY_ID": platform.access_key_id,
            "ROADSTEAD_IDENTITY_SECRET": platform.secret,
        },
    }
    return told.get(name, {})


def stall(pid: int) -> None:
    """SIGSTOP, and return when no thread of it runs any more: on another core one goes on for a moment."""
    os.kill(pid, signal.SIGSTOP)
    until(lambda: all(_state(path) in "Tt" for path in Path(f"/proc/{pid}/task").iterdir()), every=0.001)


def _state(thread: Path) -> str:
    return (thread / "stat").read_text().rpartition(") ")[2][0]


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, TCP and UDP; none of those that the kernel hands out, or whoever asks it for a
    port would have one of these before the process that is to listen there runs, or while it is killed."""
    with contextlib.ExitStack() as held:
        found: list[int] = []
        while len(found) < count:
            port = secrets.choice(OWN_PORTS)
            with contextlib.suppress(OSError):
                held.enter_context(socket.create_server(("127.0.0.1", port)))
                held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)).bind(("127.0.0.1", port))
                found.append(port)
        return found


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


async def _read_events(url: str, password: str) -> list[tuple[str, tuple[str, ...]]]:
    client = await nats.connect(url, user=OPERATOR, password=password)
    try:
        found: list[tuple[str, tuple[str, ...]]] = []
        stream = client.jetstream()
        if (await stream.stream_info("EVENTS")).state.messages == 0:
            return found
        config = ConsumerConfig(ack_policy=AckPolicy.NONE)
        subscription: Any = await stream.subscribe("events.>", stream="EVENTS", config=config)
        while True:
            message = await subscription.next_msg(timeout=30)
            found.append(((message.headers or {}).get("Event", ""), tuple(message.subject.split(".")[1:])))
            if message.metadata.num_pending == 0:
                return found
    finally:
        await client.close()
