"""The docker runtime: sandboxes are pause containers, containers join their network. Keeps nothing that the engine
does not keep: names and labels tell a new agent what stands."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from services.agent.ports import (
    CannotCreateContainerError,
    CannotStartContainerError,
    Command,
    Container,
    ContainerSpec,
    ExecResult,
    Exit,
    Image,
    LogLine,
    NoSuchContainer,
    PacketRules,
    RegistryAuth,
    RuntimeFailure,
    Sandbox,
    SandboxSpec,
    Stats,
)
from services.agent.runtimes.docker import bodies, execs, logs, namespaces
from services.agent.runtimes.docker.engine import Engine, EngineError, failing_as
from services.agent.runtimes.docker.images import Images
from services.agent.runtimes.docker.joining import Joining
from services.agent.runtimes.docker.names import ADDRESS, Names
from services.agent.runtimes.docker.networks import Network
from services.agent.runtimes.packets import Tables

NETWORK = "roadstead-tasks"
RETRY_S = 0.5
USAGE_AT_ONCE = 8
OUT_OF_REACH = (
    "security groups are not to be had on this node: its agent does not see the engine's processes. Give it "
    "`pid: host` and the capabilities SYS_ADMIN and NET_ADMIN, or use the oci runtime, or the default group, unchanged"
)
_FOR_EVER = aiohttp.ClientTimeout(sock_connect=5)


class DockerRuntime:
    """Containers of one node through the Engine API (Docker, Podman). A Runtime.

    `url` empty: the engine that the docker command would use. `network` is the bridge network of awsvpc and bridge
    tasks, made if it is missing. The nodes of one engine (the zones of a laptop) share it, so that their tasks reach
    each other: the engine lets nothing through between two networks. `home` is the platform's data directory, so that
    the nodes of two platforms that use one engine are not taken for each other.
    """

    name = "docker"

    def __init__(
        self,
        node: str,
        *,
        url: str = "",
        network: str = NETWORK,
        subnet: str = "",
        home: Path | None = None,
        dns: str = "",
    ) -> None:
        self.node = f"{node}.{_short(home)}" if home else node
        self._engine = Engine(url)
        self._images = Images(self._engine)
        self._network = Network(self._engine, network, subnet)
        self._joining = Joining(self._engine, self._network)
        self._sandboxes: dict[str, _Known] = {}
        self._names = Names(dns) if dns else None
        self._tables = Tables()

    @property
    def subnet(self) -> str:
        """As the port says."""
        return self._network.subnet

    async def start(self) -> None:
        """As the port says."""
        try:
            await self._engine.call("GET", "_ping", timeout_s=10)
            await self._provide()
        except EngineError as error:
            hint = "; start one (dockerd, or podman system service) or choose the oci runtime" if error.away else ""
            raise RuntimeFailure(f"{error.message}{hint}") from error
        self._joining.start()

    async def _provide(self) -> None:
        await self._images.provide_pause()
        await self._network.provide()

    async def aclose(self) -> None:
        """As the port says."""
        await self._joining.stop()
        self._tables.close()
        if self._names is not None:
            self._names.close()
        await self._engine.close()

    async def destroy(self) -> None:
        """As the port says. The network goes with the last node of the engine that has a task on it."""
        await asyncio.gather(*(self.remove_sandbox(sandbox.id) for sandbox in await self.sandboxes()))
        with failing_as(RuntimeFailure):
            await self._network.remove()

    async def pull(self, reference: str, auth: RegistryAuth | None = None, *, always: bool = True) -> Image:
        """As the port says. `insecure` is the engine's own setting: it allows plain HTTP for localhost by itself."""
        return await self._images.pull(reference, auth, always)

    async def remove_image(self, digest: str) -> None:
        """As the port says. Raises RuntimeFailure while a container uses it."""
        await self._images.remove(digest)

    async def sweep_images(self, idle_s: float, most: int) -> list[str]:
        """As the port says: nothing. Which of an engine's images are somebody else's can't be told."""
        return []

    # Sandboxes

    async def create_sandbox(self, spec: SandboxSpec) -> Sandbox:
        """As the port says."""
        with failing_as(RuntimeFailure):
            sandbox = await self._stand(spec)
            if not self._resolves(spec) or self._serve_names(sandbox):
                return sandbox
            self._names = None  # it would ask a resolver that is not there, and so would all others
            await self._remove(bodies.pause_name(self.node, spec.id))
            return await self._stand(spec)

    async def _stand(self, spec: SandboxSpec) -> Sandbox:
        name = bodies.pause_name(self.node, spec.id)
        resolver = ADDRESS if self._resolves(spec) else ""
        try:
            await self._stand_up(name, bodies.pause_body(spec, self.node, self._network.id, resolver))
        except EngineError as error:
            if error.status != 404:
                raise
            await self._provide()  # somebody pruned the image or the network
            await self._joining.join()
            await self._stand_up(name, bodies.pause_body(spec, self.node, self._network.id, resolver))
        return self._know(await self._show(name))

    def _resolves(self, spec: SandboxSpec) -> bool:
        return self._names is not None and not spec.dns_servers and spec.network_mode in ("awsvpc", "bridge")

    def _serve_names(self, sandbox: Sandbox) -> bool:
        pid = self._sandboxes[sandbox.id].pid
        return self._names is not None and namespaces.is_pause(pid, sandbox.id) and self._names.serve(sandbox.id, pid)

    async def _stand_up(self, name: str, body: dict[str, Any]) -> None:
        await self._create(name, body)
        try:
            await self._engine.call("POST", f"containers/{name}/start")
        except EngineError:
            await self._remove(name)
            raise

    def _know(self, shown: dict[str, Any]) -> Sandbox:
        sandbox = bodies.sandbox_from(shown, self._network.subnet)
        labels = shown["Config"]["Labels"]
        self._sandboxes[sandbox.id] = _Known(
            shown["State"].get("Pid", 0),
            int(labels[bodies.CPU]),
            int(labels[bodies.MEMORY]),
            bodies.namespaces(shown),
        )
        return sandbox

    async def remove_sandbox(self, sandbox_id: str) -> None:
        """As the port says."""
        with failing_as(RuntimeFailure):
            found = await self._list(f"{bodies.SANDBOX}={sandbox_id}")
            kinds = {each["Id"]: each["Labels"].get(bodies.KIND) for each in found}
            await _all(self._remove(each) for each, kind in kinds.items() if kind != "sandbox")
            await _all(self._remove(each) for each, kind in kinds.items() if kind == "sandbox")
        self._sandboxes.pop(sandbox_id, None)
        self._tables.forget(sandbox_id)
        if self._names is not None:
            self._names.forget(sandbox_id)

    async def sandboxes(self) -> list[Sandbox]:
        """As the port says."""
        with failing_as(RuntimeFailure):
            found = await self._list(f"{bodies.KIND}=sandbox")
            known = [(self._know(shown), shown) for shown in await self._show_all(found)]
        for sandbox, shown in known:
            if ADDRESS in (shown["HostConfig"].get("Dns") or ()):
                self._serve_names(sandbox)
        return [sandbox for sandbox, _ in known]

    def listen(self, sandbox: Sandbox, address: str, port: int) -> list[socket.socket]:
        """As the port says. Works where the agent is root in the engine's own process and network namespaces."""
        known = self._sandboxes.get(sandbox.id)
        if known is None or sandbox.network_mode == "host":
            return []
        return namespaces.listen(known.pid, sandbox.id, address, port)

    async def protect(self, sandbox: Sandbox, rules: PacketRules | None) -> None:
        """As the port says. Works where `listen` does."""
        known = self._sandboxes.get(sandbox.id)
        if known is None:
            raise NoSuchContainer(f"there is no sandbox {sandbox.id}")
        if not namespaces.is_pause(known.pid, sandbox.id):
            if rules is None:
                return
            raise RuntimeFailure(OUT_OF_REACH)
        # With a resolver of the task's own, names are asked over its loopback; else the engine asks whom it knows.
        resolvers: tuple[str, ...] | None = () if self._names is not None else None
        await asyncio.to_thread(namespaces.protect, self._tables, known.pid, sandbox.id, rules, resolvers)

    # Containers

    async def create_container(self, sandbox: Sandbox, spec: ContainerSpec) -> None:
        """As the port says."""
        with failing_as(CannotCreateContainerError, spec.id):
            known = self._sandboxes.get(sandbox.id)
            if known is None:
                self._know(await self._show(bodies.pause_name(self.node, sandbox.id)))
                known = self._sandboxes[sandbox.id]
            image = await self._images.name_of(spec.image)
            limits = known.cpu_units, known.memory_mib
            body = bodies.container_body(spec, image, self.node, sandbox.id, *limits, known.namespaces)
            await self._create(self._name(spec.id), body)

    async def start_container(self, container_id: str) -> float:
        """As the port says."""
        name = self._name(container_id)
        with failing_as(CannotStartContainerError, container_id):
            await self._engine.call("POST", f"containers/{name}/start")
            return bodies.seconds((await self._show(name))["State"]["StartedAt"])

    async def run_container(self, sandbox: Sandbox, spec: ContainerSpec) -> float:
        """As the port says."""
        await self.create_container(sandbox, spec)
        return await self.start_container(spec.id)

    async def stop_container(self, container_id: str, timeout_s: float = 30.0) -> Exit:
        """As the port says; the engine counts whole seconds."""
        name = self._name(container_id)
        whole = max(0, math.ceil(timeout_s))
        with failing_as(RuntimeFailure, container_id):
            await self._engine.call("POST", f"containers/{name}/stop", params={"t": whole}, timeout_s=whole + 60)
            return bodies.exit_from(await self._show(name))

    async def wait(self, container_id: str) -> Exit:
        """As the port says. Goes on while the engine itself is restarted."""
        name = self._name(container_id)
        while True:
            try:
                return await self._wait(name)
            except EngineError as error:
                if error.missing:
                    raise NoSuchContainer(f"there is no container {container_id}") from error
                if not error.away:
                    raise RuntimeFailure(error.message) from error
            await asyncio.sleep(RETRY_S)

    async def _wait(self, name: str) -> Exit:
        # The engine answers with headers once it listens for the next exit, so an exit between that and the look at
        # the state is seen by one of the two.
        params = {"condition": "next-exit"}
        async with self._engine.open("POST", f"containers/{name}/wait", params=params, timeout=_FOR_EVER) as response:
            shown = await self._show(name)
            if bodies.container_from(shown).state != "exited":
                await response.read()
                shown = await self._show(name)
        return bodies.exit_from(shown)

    async def remove_container(self, container_id: str) -> None:
        """As the port says."""
        with failing_as(RuntimeFailure, container_id):
            await self._remove(self._name(container_id))

    async def containers(self, sandbox_id: str) -> list[Container]:
        """As the port says."""
        with failing_as(RuntimeFailure):
            found = await self._list(f"{bodies.SANDBOX}={sandbox_id}", f"{bodies.KIND}=container")
            return [bodies.container_from(shown) for shown in await self._show_all(found)]

    async def exec(
        self, container_id: str, argv: list[str], timeout_s: float = 60.0, environment: dict[str, str] | None = None
    ) -> ExecResult:
        """As the port says."""
        with failing_as(RuntimeFailure, container_id):
            try:
                return await execs.run(self._engine, self._name(container_id), argv, timeout_s, environment or {})
            except EngineError as error:
                if error.status == 409:
                    raise NoSuchContainer(f"the container {container_id} does not run") from error
                raise

    async def open_exec(
        self, container_id: str, argv: list[str], *, tty: bool, environment: dict[str, str] | None = None
    ) -> Command:
        """As the port says."""
        with failing_as(RuntimeFailure, container_id):
            try:
                return await execs.DockerCommand.start(
                    self._engine, self._name(container_id), argv, tty=tty, environment=environment or {}
                )
            except EngineError as error:
                if error.status == 409 or "is not running" in error.message:  # it ended between the two requests
                    raise NoSuchContainer(f"the container {container_id} does not run") from error
                raise

    async def logs(self, container_id: str, after: str = "", *, follow: bool = False) -> AsyncIterator[LogLine]:
        """As the port says."""
        position = logs.Position(after)
        name = self._name(container_id)
        while True:
            with failing_as(RuntimeFailure, container_id):
                shown = await self._show(name)
                params = {"stdout": True, "stderr": True, "timestamps": True, "follow": follow}
                if position.time:
                    params["since"] = position.since
                path = f"containers/{name}/logs"
                async with self._engine.open("GET", path, params=params, timeout=_FOR_EVER) as response:
                    async for line in logs.lines(response, position, tty=shown["Config"]["Tty"]):
                        yield line
            # The engine also ends a stream when the container had not started yet, and when it is restarted itself.
            if not follow or bodies.container_from(shown).state == "exited":
                return
            await self._changed(name)

    async def _changed(self, name: str) -> None:
        """Return when a container that had not started yet has, or at once."""
        delay = 0.02
        while bodies.container_from(await self._show(name)).state == "created":
            await asyncio.sleep(delay)
            delay = min(1.0, delay * 2)

    async def stats(self, container_id: str) -> Stats:
        """As the port says. The network's figures are the sandbox's: its containers share it."""
        name = self._name(container_id)
        with failing_as(RuntimeFailure, container_id):
            shown = await self._show(name)
            if not shown["State"]["Running"]:
                raise NoSuchContainer(f"the container {container_id} does not run")
            sandbox = bodies.pause_name(self.node, shown["Config"]["Labels"][bodies.SANDBOX])
            own, shared = await asyncio.gather(self._stats(name), self._stats(sandbox))
        return bodies.stats_from(own, shared)

    async def usage(self, container_ids: list[str]) -> dict[str, Stats]:
        """As the port says. The engine is asked for a few at a time: each answer costs it a reading of its own."""
        wanted = set(container_ids)
        shown = await self._list(f"{bodies.KIND}=container") if wanted else []
        running = [c for c in shown if c["State"] == "running" and c["Labels"][bodies.ID] in wanted]
        turn, networks, found = asyncio.Semaphore(USAGE_AT_ONCE), dict[str, Any](), dict[str, Stats]()

        async def read(labels: dict[str, str]) -> None:
            pause = bodies.pause_name(self.node, labels[bodies.SANDBOX])
            with contextlib.suppress(EngineError):  # gone since it was listed
                async with turn:
                    if pause not in networks:
                        networks[pause] = await self._stats(pause)
                    own = await self._stats(self._name(labels[bodies.ID]))
                if own["memory_stats"]:  # empty for one that ended meanwhile
                    found[labels[bodies.ID]] = bodies.stats_from(own, networks[pause])

        await _all(read(each["Labels"]) for each in running)
        return found

    # The engine

    def _name(self, container_id: str) -> str:
        return bodies.container_name(self.node, container_id)

    async def _create(self, name: str, body: dict[str, Any]) -> None:
        try:
            await self._engine.call("POST", "containers/create", params={"name": name}, body=body)
        except EngineError as error:
            if not (error.status == 409 or "already in use" in error.message):  # it is there: calls are idempotent
                raise

    async def _remove(self, name: str) -> None:
        try:
            await self._engine.call("DELETE", f"containers/{name}", params={"force": True, "v": True})
        except EngineError as error:
            if not error.missing and error.status != 409:  # 409: its removal is under way
                raise

    async def _show(self, name: str) -> dict[str, Any]:
        return await self._engine.call("GET", f"containers/{name}/json")

    async def _show_all(self, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        async def show(identifier: str) -> dict[str, Any] | None:
            with contextlib.suppress(EngineError):  # removed since it was listed
                return await self._show(identifier)
            return None

        return [shown for shown in await asyncio.gather(*(show(each["Id"]) for each in found)) if shown]

    async def _list(self, *labels: str) -> list[dict[str, Any]]:
        filters = {"label": [f"{bodies.NODE}={self.node}", *labels]}
        return await self._engine.call("GET", "containers/json", params={"all": True, "filters": filters}) or []

    async def _stats(self, name: str) -> dict[str, Any]:
        return await self._engine.call("GET", f"containers/{name}/stats", params={"stream": False, "one-shot": True})


class _Known:
    """What is remembered of a sandbox: its process, what its task may use in all, what its containers join."""

    def __init__(self, pid: int, cpu_units: int, memory_mib: int, namespaces: dict[str, str]) -> None:
        self.pid = pid
        self.cpu_units = cpu_units
        self.memory_mib = memory_mib
        self.namespaces = namespaces


def _short(path: Path) -> str:
    return hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]


async def _all(work: Any) -> None:
    await asyncio.gather(*work)
