"""A container runtime in memory, as faithful as the port asks: exit codes, delays, output, failures on demand.

Containers belong to the object, not to the agent that made them: hand one FakeRuntime to two agents, one after the
other, and the second finds what the first left running.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable

import msgspec

from services.agent.ports import (
    CannotPullContainerError,
    Container,
    ContainerSpec,
    ExecResult,
    Exit,
    HostPort,
    Image,
    LogLine,
    NoSuchContainer,
    PacketRules,
    RegistryAuth,
    Sandbox,
    SandboxSpec,
    Stats,
)


class FakeCommand:
    """A command that writes its arguments, then repeats what it is told until that is `exit`."""

    def __init__(self, argv: list[str], container: _Running) -> None:
        self.size = (80, 24)
        self.closed = False
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._said: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._said.put_nowait(" ".join(argv).encode())
        self._container = container
        self._watching = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        await self._container.ended.wait()
        self._end(137)

    def _end(self, code: int) -> None:
        if not self._code.done():
            self._code.set_result(code)
            self._said.put_nowait(None)

    async def read(self) -> tuple[int, bytes] | None:
        """What it says."""
        data = await self._said.get()
        return None if data is None else (1, data)

    async def write(self, data: bytes) -> None:
        """Repeat it, or exit with 7."""
        if data == b"exit":
            self._end(7)
        else:
            self._said.put_nowait(data)

    async def resize(self, columns: int, rows: int) -> None:
        """Say it."""
        self._said.put_nowait(f"{columns}x{rows}".encode())

    async def wait(self) -> int:
        """7, or 137 when its container ended."""
        return await self._code

    async def close(self) -> None:
        """Note it."""
        self.closed = True
        self._watching.cancel()


class Behaviour(msgspec.Struct):
    """What containers of this name do. exit_after None: they run until stopped. `on_exec` answers health checks."""

    exit_after: float | None = None
    exit_code: int = 0
    ignores_sigterm: bool = False
    output: list[str] = []
    pull_error: str = ""
    create_error: Exception | None = None
    start_error: Exception | None = None
    start_delay: float = 0.0
    on_exec: Callable[[list[str]], ExecResult] | None = None


class _Running:
    def __init__(self, sandbox_id: str, spec: ContainerSpec, behaviour: Behaviour) -> None:
        self.sandbox_id = sandbox_id
        self.spec = spec
        self.behaviour = behaviour
        self.state = "created"
        self.started_at = 0.0
        self.exit: Exit | None = None
        self.ended = asyncio.Event()
        self.lines: list[LogLine] = []
        self.wrote = asyncio.Event()
        self.timer: asyncio.TimerHandle | None = None

    def write(self, text: str) -> None:
        self.lines.append(LogLine(time.time(), "stdout", text, str(len(self.lines) + 1)))
        self.wrote.set()

    def end(self, code: int, oom: bool = False) -> None:
        if self.state == "running":
            self.state = "exited"
            self.exit = Exit(code, oom, time.time(), self.started_at)
            if self.timer:
                self.timer.cancel()
            self.ended.set()
            self.wrote.set()


class FakeRuntime:
    """Containers that only seem to run. `behaviours` are by container name, `pull_errors` and `pull_delay` for images;
    `calls` is what was asked, in order."""

    name = "fake"
    subnet = "10.0.0.0/24"

    def __init__(self) -> None:
        self.behaviours: dict[str, Behaviour] = {}
        self.pull_errors: dict[str, str] = {}
        self.pull_delay = 0.0
        self.sandbox_error: Exception | None = None
        self.commands: list[FakeCommand] = []
        self.calls: list[tuple[str, str]] = []
        self.pulled: list[tuple[str, RegistryAuth | None]] = []
        self.sockets: dict[str, socket.socket] = {}
        self.packets: dict[str, PacketRules | None] = {}
        self.packets_error: Exception | None = None
        self._sandboxes: dict[str, Sandbox] = {}
        self._containers: dict[str, _Running] = {}
        self._addresses = 2
        self._ports = 32768

    def container(self, container_id: str) -> _Running:
        """For tests: one container's inside."""
        if container_id not in self._containers:
            raise NoSuchContainer(f"no container {container_id}")
        return self._containers[container_id]

    def spec(self, name: str) -> ContainerSpec:
        """For tests: what the container of this name was made of."""
        return next(c.spec for c in self._containers.values() if c.spec.name == name)

    def running(self) -> list[str]:
        """For tests: the names of what runs."""
        return [c.spec.name for c in self._containers.values() if c.state == "running"]

    def finish(self, container_id: str, code: int = 0, oom: bool = False) -> None:
        """For tests: the container's process ends by itself."""
        self.container(container_id).end(code, oom)

    async def start(self) -> None:
        """It always works here."""

    async def aclose(self) -> None:
        """Containers go on."""

    async def destroy(self) -> None:
        """Without sandboxes there is nothing."""
        for sandbox_id in list(self._sandboxes):
            await self.remove_sandbox(sandbox_id)

    async def pull(self, reference: str, auth: RegistryAuth | None = None, *, always: bool = True) -> Image:
        """Every image exists, but for those with an error."""
        self.calls.append(("pull", reference))
        if self.pull_delay:
            await asyncio.sleep(self.pull_delay)
        if reference in self.pull_errors:
            raise CannotPullContainerError(self.pull_errors[reference])
        self.pulled.append((reference, auth))
        return Image(reference, f"sha256:{abs(hash(reference)):064x}"[:71], 1024, command=["sh"])

    async def remove_image(self, digest: str) -> None:
        """Nothing is kept."""

    async def sweep_images(self, idle_s: float, most: int) -> list[str]:
        """Nothing is kept; that it was asked is."""
        self.calls.append(("sweep_images", f"{idle_s:g}"))
        return []

    async def create_sandbox(self, spec: SandboxSpec) -> Sandbox:
        """An address and ports out of counters."""
        self.calls.append(("create_sandbox", spec.id))
        if self.sandbox_error is not None:
            raise self.sandbox_error
        if spec.id not in self._sandboxes:
            address, self._addresses = f"10.0.0.{self._addresses}", self._addresses + 1
            ports = [HostPort(p.container_port, p.host_port or self._port(), p.protocol) for p in spec.ports]
            self._sandboxes[spec.id] = Sandbox(
                spec.id, address, "02:00:00:00:00:01", "10.0.0.1", "10.0.0.0/24", spec.network_mode, ports, spec.labels
            )
        return self._sandboxes[spec.id]

    def _port(self) -> int:
        self._ports += 1
        return self._ports

    async def remove_sandbox(self, sandbox_id: str) -> None:
        """With what is left in it."""
        self.calls.append(("remove_sandbox", sandbox_id))
        self._sandboxes.pop(sandbox_id, None)
        for container_id in [i for i, c in self._containers.items() if c.sandbox_id == sandbox_id]:
            self._containers[container_id].end(137)
            del self._containers[container_id]

    async def sandboxes(self) -> list[Sandbox]:
        """All."""
        return list(self._sandboxes.values())

    def listen(self, sandbox: Sandbox, address: str, port: int) -> list[socket.socket]:
        """A loopback socket; `sockets[sandbox.id]` says where."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.sockets[sandbox.id] = listener
        return [listener]

    async def protect(self, sandbox: Sandbox, rules: PacketRules | None) -> None:
        """Note it in `packets`."""
        self.calls.append(("protect", sandbox.id))
        if self.packets_error is not None:
            raise self.packets_error
        self.packets[sandbox.id] = rules

    async def create_container(self, sandbox: Sandbox, spec: ContainerSpec) -> None:
        """Make it."""
        self.calls.append(("create", spec.name))
        behaviour = self.behaviours.get(spec.name, Behaviour())
        if behaviour.create_error is not None:
            raise behaviour.create_error
        if spec.id not in self._containers:
            self._containers[spec.id] = _Running(sandbox.id, spec, behaviour)

    async def start_container(self, container_id: str) -> float:
        """Start it, say what it has to say, end when it is time."""
        c = self.container(container_id)
        self.calls.append(("start", c.spec.name))
        if c.state != "created":
            return c.started_at
        await asyncio.sleep(c.behaviour.start_delay)
        if c.behaviour.start_error is not None:
            raise c.behaviour.start_error
        c.state, c.started_at = "running", time.time()
        for text in c.behaviour.output:
            c.write(text)
        if c.behaviour.exit_after is not None:
            c.timer = asyncio.get_running_loop().call_later(c.behaviour.exit_after, c.end, c.behaviour.exit_code)
        return c.started_at

    async def run_container(self, sandbox: Sandbox, spec: ContainerSpec) -> float:
        """Both."""
        await self.create_container(sandbox, spec)
        return await self.start_container(spec.id)

    async def stop_container(self, container_id: str, timeout_s: float = 30.0) -> Exit:
        """143, or 137 after the time when it ignores SIGTERM."""
        c = self.container(container_id)
        self.calls.append(("stop", c.spec.name))
        if c.behaviour.ignores_sigterm and c.state == "running":
            await asyncio.wait([asyncio.ensure_future(c.ended.wait())], timeout=timeout_s)
            c.end(137)
        c.end(143)
        assert c.exit is not None
        return c.exit

    async def wait(self, container_id: str) -> Exit:
        """Its end."""
        c = self.container(container_id)
        await c.ended.wait()
        assert c.exit is not None
        return c.exit

    async def remove_container(self, container_id: str) -> None:
        """Forget it."""
        if container_id in self._containers:
            self.calls.append(("remove", self._containers[container_id].spec.name))
            del self._containers[container_id]

    async def containers(self, sandbox_id: str) -> list[Container]:
        """As they are."""
        return [
            Container(i, c.spec.name, sandbox_id, c.state, c.started_at, c.exit, c.spec.labels)
            for i, c in self._containers.items()
            if c.sandbox_id == sandbox_id
        ]

    async def exec(
        self, container_id: str, argv: list[str], timeout_s: float = 60.0, environment: dict[str, str] | None = None
    ) -> ExecResult:
        """What `on_exec` says; success without it."""
        c = self.container(container_id)
        self.calls.append(("exec", c.spec.name))
        return c.behaviour.on_exec(argv) if c.behaviour.on_exec else ExecResult(0, b"")

    async def open_exec(
        self, container_id: str, argv: list[str], *, tty: bool, environment: dict[str, str] | None = None
    ) -> FakeCommand:
        """A FakeCommand."""
        c = self.container(container_id)
        if c.state != "running":
            raise NoSuchContainer(f"{container_id} does not run")
        self.commands.append(FakeCommand(argv, c))
        return self.commands[-1]

    async def logs(self, container_id: str, after: str = "", *, follow: bool = False) -> AsyncIterator[LogLine]:
        """Its lines; the cursor is the line's number."""
        c = self.container(container_id)
        position = int(after or 0)
        while True:
            c.wrote.clear()
            while position < len(c.lines):
                position += 1
                yield c.lines[position - 1]
            if not follow or c.ended.is_set():
                return
            await c.wrote.wait()

    async def stats(self, container_id: str) -> Stats:
        """Some numbers."""
        c = self.container(container_id)
        if c.state != "running":
            raise NoSuchContainer(f"{container_id} does not run")
        return Stats(time.time(), 1_000_000, 2_097_152, 64 * 2**20, 10, 20)

    async def usage(self, container_ids: list[str]) -> dict[str, Stats]:
        """The same numbers, of those that run."""
        known = [i for i in container_ids if i in self._containers and self._containers[i].state == "running"]
        return {i: await self.stats(i) for i in known}
