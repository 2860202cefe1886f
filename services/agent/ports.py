"""What the agent needs from outside: a container runtime, and somewhere to put logs.

Every runtime passes the one suite in tests/integration/runtime_suite.py. A runtime knows containers,
images and network sandboxes; it knows nothing of ECS: no task definition, no essential container, no
dependency order. All times are seconds since the epoch (float), memory is MiB, cpu is ECS units (1024 = one core).
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from typing import Protocol

from services.agent.values import (
    Container,
    ContainerSpec,
    ExecResult,
    Exit,
    HostPort,
    Image,
    LogLine,
    Mount,
    PacketRule,
    PacketRules,
    RegistryAuth,
    Sandbox,
    SandboxSpec,
    Stats,
    Ulimit,
)

__all__ = [
    "CannotCreateContainerError",
    "CannotPullContainerError",
    "CannotStartContainerError",
    "Command",
    "Container",
    "ContainerSpec",
    "ExecResult",
    "Exit",
    "HostPort",
    "Image",
    "LogLine",
    "Mount",
    "NoSuchContainer",
    "PacketRule",
    "PacketRules",
    "RegistryAuth",
    "RegistryAway",
    "Runtime",
    "RuntimeFailure",
    "Sandbox",
    "SandboxSpec",
    "Stats",
    "Ulimit",
]


class RuntimeFailure(Exception):
    """The runtime could not do it. `code` is what ECS calls the failure; `reason` is for a person."""

    code = "ContainerRuntimeError"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class CannotPullContainerError(RuntimeFailure):
    """The image does not exist, may not be read, is damaged, or its registry is away."""

    code = "CannotPullContainerError"


class RegistryAway(CannotPullContainerError):
    """The image's registry is not to be reached, or ended in the middle."""


class CannotCreateContainerError(RuntimeFailure):
    """The container could not be made: a bad mount, a bad user, no such command."""

    code = "CannotCreateContainerError"


class CannotStartContainerError(RuntimeFailure):
    """The container was made and its process could not be started."""

    code = "CannotStartContainerError"


class NoSuchContainer(RuntimeFailure):
    """The runtime does not know this container or sandbox (any more)."""

    code = "NoSuchContainer"


class Command(Protocol):
    """A command that runs in a container with somebody at it. Close it in any case."""

    async def read(self) -> tuple[int, bytes] | None:
        """(1, what it wrote), or (2, …) for its standard error where that is apart (never with a terminal); at most
        16 KiB. None when it has ended and there is no more."""

    async def write(self, data: bytes) -> None:
        """Give it input; returns when all of it is taken. Dropped without a terminal: its input is empty."""

    async def resize(self, columns: int, rows: int) -> None:
        """Change its terminal's size."""

    async def wait(self) -> int:
        """Its exit code; 128 + the signal's number when a signal ended it, 127 when there is no such program."""

    async def close(self) -> None:
        """Kill it if it still runs, and let go of it."""


class Runtime(Protocol):
    """Containers on this node. Calls are idempotent by id: what is already so is no error."""

    name: str
    subnet: str
    """The IPv4 network that sandboxes have their addresses of, known when it has started."""

    async def start(self) -> None:
        """Check that the runtime can work here; raise RuntimeFailure with what to install if it can't."""

    async def aclose(self) -> None:
        """Let go of what this process holds. Containers keep running."""

    async def destroy(self) -> None:
        """Give the node up: remove every sandbox, and what this runtime made for the node (bridge, rules, claims).
        Images and named volumes stay. To be closed afterwards."""

    async def pull(self, reference: str, auth: RegistryAuth | None = None, *, always: bool = True) -> Image:
        """Bring an image to this node. `always` asks the registry what the tag means now; layers that are
        here are not sent again, and concurrent pulls of one image share the work.
        Raises CannotPullContainerError."""

    async def remove_image(self, digest: str) -> None:
        """Drop an image that no container uses."""

    async def sweep_images(self, idle_s: float, most: int) -> list[str]:
        """Drop images that no container used and nobody pulled in so many seconds; the digests of those that went, at
        most `most`. None where images are not the platform's alone."""

    async def create_sandbox(self, spec: SandboxSpec) -> Sandbox:
        """Make the network of a task. Raises RuntimeFailure when no address or port is free."""

    async def remove_sandbox(self, sandbox_id: str) -> None:
        """Remove the network with whatever containers are left in it."""

    async def sandboxes(self) -> list[Sandbox]:
        """What stands on this node and was made by this runtime under this node's name: for adoption."""

    def listen(self, sandbox: Sandbox, address: str, port: int) -> list[socket.socket]:
        """Listening TCP sockets that only the containers of this sandbox reach at address:port
        (the task metadata and credentials endpoint). Empty where the runtime can't."""

    async def protect(self, sandbox: Sandbox, rules: PacketRules | None) -> None:
        """Let only this into and out of a sandbox with an address of its own, from now on and after the agent has
        ended; None: everything. Beside it pass answers and established connections, what the containers send each other
        and the endpoint that `listen` is for, and questions to the name resolver. Raises RuntimeFailure where the
        runtime can't."""

    async def create_container(self, sandbox: Sandbox, spec: ContainerSpec) -> None:
        """Make it, not started. Raises CannotCreateContainerError."""

    async def start_container(self, container_id: str) -> float:
        """Start it; the time it started. Raises CannotStartContainerError (a command that does not exist)."""

    async def run_container(self, sandbox: Sandbox, spec: ContainerSpec) -> float:
        """create_container and start_container in one step, which may be faster than the two."""

    async def stop_container(self, container_id: str, timeout_s: float = 30.0) -> Exit:
        """The stop signal, `timeout_s` seconds, SIGKILL. Returns how it ended."""

    async def wait(self, container_id: str) -> Exit:
        """Return when it has ended, also when it ended while no agent ran. Raises NoSuchContainer."""

    async def remove_container(self, container_id: str) -> None:
        """Remove an ended container with its writable layer and its log."""

    async def containers(self, sandbox_id: str) -> list[Container]:
        """The containers of a sandbox, as they are now."""

    async def exec(
        self, container_id: str, argv: list[str], timeout_s: float = 60.0, environment: dict[str, str] | None = None
    ) -> ExecResult:
        """Run a command inside (health checks). Output is bounded to 64 KiB."""

    async def open_exec(
        self, container_id: str, argv: list[str], *, tty: bool, environment: dict[str, str] | None = None
    ) -> Command:
        """Start a command inside as root, with a terminal or without, to be talked to. Raises NoSuchContainer when the
        container does not run, else RuntimeFailure."""

    def logs(self, container_id: str, after: str = "", *, follow: bool = False) -> AsyncIterator[LogLine]:
        """Its output from the beginning or behind a cursor. With follow, ends when the container has ended
        and everything it wrote was given."""

    async def stats(self, container_id: str) -> Stats:
        """What it uses now. Raises NoSuchContainer when it does not run."""

    async def usage(self, container_ids: list[str]) -> dict[str, Stats]:
        """`stats` of many at once, cheaply; those that do not run are left out."""
