"""The oci runtime: containers by runc and conmon, images, networks and logs by this package; no daemon.

What blocks runs in threads of this runtime's own; the event loop only waits, on inotify and pidfds.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from services.agent.ports import (
    Command,
    Container,
    ContainerSpec,
    ExecResult,
    Exit,
    Image,
    LogLine,
    PacketRules,
    RegistryAuth,
    RuntimeFailure,
    Sandbox,
    SandboxSpec,
    Stats,
)
from services.agent.runtimes.oci import logs, machine
from services.agent.runtimes.oci.addresses import HostPorts, abandoned, choose_subnet
from services.agent.runtimes.oci.cgroups import Cgroups
from services.agent.runtimes.oci.containers import KILL_DEADLINE_S, Containers
from services.agent.runtimes.oci.holders import Holders
from services.agent.runtimes.oci.images.store import ImageStore
from services.agent.runtimes.oci.keeper import Keeper, Tools
from services.agent.runtimes.oci.network import Network
from services.agent.runtimes.oci.sandboxes import Sandboxes
from services.agent.runtimes.oci.settings import OciSettings
from services.agent.runtimes.oci.watching import Watching
from services.agent.runtimes.packets import Tables
from services.shared.waiting import within

Result = TypeVar("Result")


class OciRuntime:
    """One node's containers. `data_dir` is the node's own; `images_dir` may be shared by all nodes of a machine.

    subnet: an IPv4 network for the node's tasks; empty: the one it had, or a free /24 of 10.64.0.0/10.
    """

    name = "oci"

    def __init__(
        self,
        data_dir: Path,
        node: str,
        *,
        subnet: str = "",
        images_dir: Path | None = None,
        settings: OciSettings | None = None,
    ) -> None:
        self._settings = settings or OciSettings()
        self._directory = Path(data_dir).absolute()
        self._node = node
        self._subnet = subnet
        # The directory, not the name: two platforms on one machine may both have a node `local`.
        self._key = hashlib.sha256(str(self._directory).encode()).hexdigest()[:8]
        self._tables = Tables()
        self._images = ImageStore(Path(images_dir or self._directory / "images").absolute(), self._settings.endpoints)
        self._cgroups = Cgroups()
        self._threads = ThreadPoolExecutor(self._settings.threads, thread_name_prefix=f"oci-{node}")
        self._execs = ThreadPoolExecutor(self._settings.execs, thread_name_prefix=f"oci-exec-{node}")
        self._lock = -1
        self._watching: Watching | None = None
        self._ended: dict[str, asyncio.Event] = {}
        self._keepers: dict[int, str] = {}
        self._settling: set[asyncio.Task[None]] = set()

    @property
    def subnet(self) -> str:
        """See `Runtime.subnet`."""
        return str(self._network.subnet)

    async def start(self) -> None:
        """See `Runtime.start`. Also finds what stands, and removes what is half made."""
        if self._watching is not None:
            return
        await self._run(self._prepare)
        self._watching = Watching()
        self._watching.start()
        self._watching.on_file(self._containers.exits, self._exited)
        for record in self._containers.running():
            self._follow(record.id)

    async def aclose(self) -> None:
        """See `Runtime.aclose`. A node without sandboxes leaves nothing in the kernel."""
        if self._watching is not None:
            self._watching.close()
            self._watching = None
            if not await self.sandboxes():
                await self._run(self._network.destroy)
                await self._run(self._cgroups.remove, self._cgroup)
        for descriptor in list(self._keepers):
            self._drop_keeper(descriptor)
        for task in self._settling:
            task.cancel()
        self._tables.close()
        await self._images.aclose()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        self._threads.shutdown(wait=False)
        self._execs.shutdown(wait=False)

    async def destroy(self) -> None:
        """See `Runtime.destroy`."""
        await asyncio.gather(*(self.remove_sandbox(sandbox.id) for sandbox in await self.sandboxes()))
        await self._run(self._network.destroy)
        await self._run(self._cgroups.remove, self._cgroup)
        (self._settings.run_directory / "subnets" / self._key).unlink(missing_ok=True)
        await self._run(shutil.rmtree, self._settings.run_directory / self._key, True)

    async def pull(self, reference: str, auth: RegistryAuth | None = None, *, always: bool = True) -> Image:
        """See `Runtime.pull`."""
        return await self._images.pull(reference, auth, always)

    async def remove_image(self, digest: str) -> None:
        """See `Runtime.remove_image`. Raises RuntimeFailure while a container uses it."""
        await self._run(self._images.remove, digest)

    async def sweep_images(self, idle_s: float, most: int) -> list[str]:
        """See `Runtime.sweep_images`."""
        return await self._run(self._images.sweep, idle_s, most)

    async def create_sandbox(self, spec: SandboxSpec) -> Sandbox:
        """See `Runtime.create_sandbox`."""
        return await self._run(self._sandboxes.create, spec)

    async def remove_sandbox(self, sandbox_id: str) -> None:
        """See `Runtime.remove_sandbox`."""
        await asyncio.gather(*(self.remove_container(each.id) for each in self._containers.of(sandbox_id)))
        self._tables.forget(sandbox_id)
        await self._run(self._sandboxes.remove, sandbox_id)

    async def sandboxes(self) -> list[Sandbox]:
        """See `Runtime.sandboxes`."""
        return self._sandboxes.all()

    def listen(self, sandbox: Sandbox, address: str, port: int) -> list[socket.socket]:
        """See `Runtime.listen`."""
        return self._sandboxes.listen(sandbox, address, port)

    async def protect(self, sandbox: Sandbox, rules: PacketRules | None) -> None:
        """See `Runtime.protect`."""
        await self._run(self._sandboxes.protect, self._tables, sandbox, rules)

    async def create_container(self, sandbox: Sandbox, spec: ContainerSpec) -> None:
        """See `Runtime.create_container`."""
        await self._run(self._containers.create, sandbox.id, spec)

    async def start_container(self, container_id: str) -> float:
        """See `Runtime.start_container`."""
        started_at = await self._run(self._containers.launch, container_id)
        self._follow(container_id)
        return started_at

    async def run_container(self, sandbox: Sandbox, spec: ContainerSpec) -> float:
        """See `Runtime.run_container`."""

        def work() -> float:
            self._containers.create(sandbox.id, spec)
            return self._containers.launch(spec.id)

        started_at = await self._run(work)
        self._follow(spec.id)
        return started_at

    async def stop_container(self, container_id: str, timeout_s: float = 30.0) -> Exit:
        """See `Runtime.stop_container`."""
        state = self._containers.record(container_id).state
        if state == "created":
            ended = await self._run(self._containers.end_unstarted, container_id)
            self._exited(container_id)
            return ended
        if state == "running" and timeout_s > 0:
            await self._run(self._containers.signal, container_id)
        try:
            return await within(max(0.0, timeout_s), self.wait(container_id))
        except TimeoutError:
            await self._run(self._containers.signal, container_id, signal.SIGKILL)
        try:
            return await within(KILL_DEADLINE_S, self.wait(container_id))
        except TimeoutError:
            raise RuntimeFailure(f"container {container_id} does not end, not even by SIGKILL") from None

    async def wait(self, container_id: str) -> Exit:
        """See `Runtime.wait`."""
        while True:
            event = self._ended.setdefault(container_id, asyncio.Event())
            # Cleared before the look at the exit file, set again for the others who wait: nobody misses it.
            event.clear()
            ended = await self._run(self._containers.settle, container_id)
            if ended is not None:
                event.set()
                return ended
            await event.wait()

    async def remove_container(self, container_id: str) -> None:
        """See `Runtime.remove_container`. One that runs is ended first."""
        await self._run(self._containers.remove, container_id)
        event = self._ended.pop(container_id, None)
        if event is not None:
            event.set()

    async def containers(self, sandbox_id: str) -> list[Container]:
        """See `Runtime.containers`."""
        for record in self._containers.of(sandbox_id):
            await self._run(self._containers.settle, record.id)
        return [record.container() for record in self._containers.of(sandbox_id)]

    async def exec(
        self, container_id: str, argv: list[str], timeout_s: float = 60.0, environment: dict[str, str] | None = None
    ) -> ExecResult:
        """See `Runtime.exec`."""
        loop = asyncio.get_running_loop()
        work = self._containers.exec
        return await loop.run_in_executor(self._execs, work, container_id, argv, timeout_s, environment or {})

    async def open_exec(
        self, container_id: str, argv: list[str], *, tty: bool, environment: dict[str, str] | None = None
    ) -> Command:
        """See `Runtime.open_exec`."""
        command = await self._run(self._containers.open_exec, container_id, argv, tty, environment or {})
        command.follow()
        return command

    async def logs(self, container_id: str, after: str = "", *, follow: bool = False) -> AsyncIterator[LogLine]:
        """See `Runtime.logs`."""
        path = self._containers.log(container_id)
        ended = self._containers.record(container_id).exit is not None
        if not follow or self._watching is None:
            async for line in logs.read_all(path, after, ended):
                yield line
            return
        waiting = asyncio.ensure_future(self.wait(container_id))
        over = asyncio.Event()
        waiting.add_done_callback(lambda done: (over.set(), done.cancelled() or done.exception()))
        try:
            async for line in logs.follow(path, after, self._watching.changes, over):
                yield line
        finally:
            waiting.cancel()

    async def stats(self, container_id: str) -> Stats:
        """See `Runtime.stats`."""
        return await self._run(self._containers.stats, container_id)

    async def usage(self, container_ids: list[str]) -> dict[str, Stats]:
        """See `Runtime.usage`."""
        return await self._run(self._containers.usage, container_ids)

    def _prepare(self) -> None:
        if os.geteuid() != 0:
            raise RuntimeFailure("the oci runtime needs root: run the agent as root, or choose the docker runtime")
        tools = Tools.find(self._settings.runtime)
        shared, own = self._settings.run_directory, self._settings.run_directory / self._key
        for directory in (self._directory, own / "runc"):
            directory.mkdir(parents=True, exist_ok=True)
        self._lock = self._sole_agent()
        machine.raise_descriptor_limit()
        self._images.prepare()
        subnet = choose_subnet(shared / "subnets", self._key, self._directory, self._subnet)
        self._network = Network(self._key, subnet, own / "netns", self._settings.dns)
        self._cgroup = f"/{self._settings.cgroup}/{self._key}"
        keeper = Keeper(tools, own / "runc", self._cgroups, f"{self._cgroup}/keepers", self._settings.log_bytes)
        ports = HostPorts(shared / "ports", self._key)
        holders = Holders(keeper, cgroup_namespace=self._cgroups.unified, seccomp=self._settings.seccomp)
        directory = self._directory / "sandboxes"
        self._sandboxes = Sandboxes(directory, self._network, ports, self._cgroups, self._cgroup, holders)
        self._containers = Containers(
            self._directory,
            self._key,
            self._sandboxes,
            self._images,
            self._cgroups,
            keeper,
            tools,
            self._settings.seccomp,
        )
        self._sandboxes.start()
        self._containers.start()
        self._sandboxes.purge()
        self._bury()

    def _bury(self) -> None:
        """Remove what is left of nodes whose directory was deleted: tests do that, and people."""
        claims = self._settings.run_directory / "subnets"
        for key in abandoned(claims):
            own = self._settings.run_directory / key
            # Only the names of the node's things matter here, and these come from its key.
            network = Network(key, self._network.subnet, own / "netns")
            network.purge(set(), set())
            network.destroy()
            self._cgroups.end(f"/{self._settings.cgroup}/{key}")
            self._cgroups.remove(f"/{self._settings.cgroup}/{key}")
            shutil.rmtree(own, ignore_errors=True)
            (claims / key).unlink(missing_ok=True)

    def _sole_agent(self) -> int:
        """Two agents on one directory would remove each other's work. The lock goes with the process."""
        descriptor = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise RuntimeFailure(f"another agent runs the node in {self._directory}") from None
        return descriptor

    async def _run(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Run what blocks. It ends also when the caller is cancelled: no half-made thing is left by that."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def _exited(self, container_id: str) -> None:
        self._ended.setdefault(container_id, asyncio.Event()).set()

    def _follow(self, container_id: str) -> None:
        """Learn when a keeper ends without a word."""
        descriptor = self._containers.keeper(container_id)
        if descriptor < 0:
            self._settle_later(container_id)
            return
        self._keepers[descriptor] = container_id
        asyncio.get_running_loop().add_reader(descriptor, self._keeper_ended, descriptor)

    def _keeper_ended(self, descriptor: int) -> None:
        self._settle_later(self._drop_keeper(descriptor))

    def _drop_keeper(self, descriptor: int) -> str:
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
        return self._keepers.pop(descriptor)

    def _settle_later(self, container_id: str) -> None:
        async def settle() -> None:
            try:
                await self._run(self._containers.give_up, container_id)
            except RuntimeFailure:
                return  # removed meanwhile
            self._exited(container_id)

        task = asyncio.ensure_future(settle())
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)
