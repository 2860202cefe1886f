"""What HAProxy carries: which hosts, which instances. Changed through its runtime socket, so that nothing is dropped.

Each host has a backend out of those made in advance; a line of a map leads there. The map also remembers the backend of
a host that has no line (yet, or any more), under a name that no request can have, so a gateway that starts anew finds
everything in HAProxy itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path

import msgspec
import structlog

from services.app_runner_gateway.adapters.haproxy import Haproxy, ProxyAway
from services.app_runner_gateway.decisions.proxy import (
    CERTIFICATE,
    MAP,
    Frame,
    Seen,
    Server,
    free,
    read_map,
    read_servers,
    read_stats,
)

log = structlog.get_logger()

AGAIN_S = 0.3
_KEPT = "/kept/"


class Proxy:
    """Make it with a folder and a frame; `start` adopts the HAProxy that runs there, or starts one."""

    def __init__(self, folder: Path, frame: Frame, program: str) -> None:
        self.frame = frame
        self.haproxy = Haproxy(folder, program, self._ended)
        self.running = False
        self.servers: dict[str, dict[str, Server]] = {}
        """By backend, then by name."""
        self._map: dict[str, str] = {}
        self._leaving: set[tuple[str, str]] = set()
        self._lock = asyncio.Lock()
        self._again: asyncio.Task[None] | None = None
        self._sweeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises ProxyAway."""
        async with self._lock:
            if self.running:
                return
            self.haproxy.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if await self.haproxy.adopt(self.frame):
                await self._learn()
                log.info("haproxy.adopted", pid=self.haproxy.pid, hosts=len(self._map))
            else:
                if self.haproxy.pid:
                    with contextlib.suppress(ProxyAway):
                        await self._learn()
                await self._begin()
            self.running = True

    async def _begin(self) -> None:
        ready = {b: {n: s for n, s in all_.items() if s.state == "ready"} for b, all_ in self.servers.items()}
        await self.haproxy.start(self.frame, self._map, ready)
        self.servers = ready
        self._leaving.clear()

    async def _learn(self) -> None:
        self._map = read_map(await self.haproxy.ask(f"show map {MAP}"))
        self.servers = {}
        for backend, name, server in read_servers(await self.haproxy.ask("show servers state")):
            if server.state == "maint":
                self._leaving.add((backend, name))
            else:
                self.servers.setdefault(backend, {})[name] = server
        if self._leaving:
            self._sweep()

    def _ended(self) -> None:
        if self.running and self._again is None:
            self._again = asyncio.ensure_future(self._start_again())

    async def _start_again(self) -> None:
        while self.running:
            try:
                async with self._lock:
                    await self._begin()
                break
            except ProxyAway as error:
                log.error("haproxy.not_started", error=error.message)
                await asyncio.sleep(AGAIN_S)  # its port may be taken for a moment: there is no event for that
        self._again = None

    async def stop(self, *, leave: bool = False) -> None:
        """End HAProxy, or leave it to the next gateway."""
        self.running = False
        for task in (self._again, self._sweeping):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if leave:
            self.haproxy.leave()
        else:
            await self.haproxy.stop()

    def backend(self, host: str) -> str | None:
        """The backend that a host has."""
        return self._map.get(_KEPT + host)

    def carried(self, host: str) -> Mapping[str, Server]:
        """The instances of a host, by name."""
        return self.servers.get(self.backend(host) or "", {})

    def hosts(self) -> list[str]:
        """All hosts that have a backend."""
        return [h.removeprefix(_KEPT) for h in self._map if h.startswith(_KEPT)]

    def answers(self, host: str) -> bool:
        """Whether requests to a host are led to its instances."""
        return host in self._map

    async def carry(self, host: str, servers: Mapping[str, Server], *, answers: bool) -> None:
        """Have just these instances for a host. What comes is there before what goes is gone. Raises ProxyAway."""
        async with self._lock:
            backend = self.backend(host)
            if backend is None:
                if not servers:
                    return
                backend = await self._take(host)
            for name, server in servers.items():
                if server.state == "ready":
                    await self._have(backend, name, server)
            await self._lead(host, backend if answers else None)
            for name, server in servers.items():
                if server.state != "ready" and name in self.servers.get(backend, {}):
                    await self._have(backend, name, server)
            for name in [n for n in self.servers.get(backend, {}) if n not in servers]:
                await self._remove(backend, name)
            if not servers and not answers and not any(b == backend for b, _ in self._leaving):
                await self._lead(_KEPT + host, None)
                self.servers.pop(backend, None)

    async def _take(self, host: str) -> str:
        used = [b for h, b in self._map.items() if h.startswith(_KEPT)]
        backend = free(self.frame.backends, used)
        if backend is None:
            self.frame = msgspec.structs.replace(self.frame, backends=2 * self.frame.backends)
            await self._begin()
            backend = free(self.frame.backends, used)
            assert backend is not None
        await self._lead(_KEPT + host, backend)
        return backend

    async def _lead(self, host: str, backend: str | None) -> None:
        if self._map.get(host) == backend:
            return
        if backend is None:
            await self._tell(f"del map {MAP} {host}")
            del self._map[host]
        else:
            await self._tell(f"{'set' if host in self._map else 'add'} map {MAP} {host} {backend}")
            self._map[host] = backend

    async def _have(self, backend: str, name: str, server: Server) -> None:
        known = self.servers.setdefault(backend, {}).get(name)
        at = f"{backend}/{name}"
        if known is None:
            await self._tell(f"add server {at} {server.address}:{server.port} maxconn {server.most}", "New server")
            await self._tell(f"enable server {at}")
        else:
            if known.most != server.most:
                await self._tell(f"set maxconn server {at} {server.most}")
            if known.state != server.state:
                await self._tell(f"set server {at} state {server.state}")
        self.servers[backend][name] = server

    async def _remove(self, backend: str, name: str) -> None:
        """A server that still has connections can't be deleted: that is tried again."""
        await self._tell(f"set server {backend}/{name} state maint")
        del self.servers[backend][name]
        self._leaving.add((backend, name))
        await self._delete(backend, name)
        if self._leaving:
            self._sweep()

    async def _delete(self, backend: str, name: str) -> None:
        said = await self.haproxy.ask(f"del server {backend}/{name}")
        if "deleted" in said or "No such" in said:
            self._leaving.discard((backend, name))

    def _sweep(self) -> None:
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.ensure_future(self._swept())

    async def _swept(self) -> None:
        while self._leaving and self.running:
            await asyncio.sleep(AGAIN_S)  # HAProxy tells nobody that a connection has ended
            with contextlib.suppress(ProxyAway):
                async with self._lock:
                    for backend, name in list(self._leaving):
                        await self._delete(backend, name)

    async def _tell(self, command: str, good: str = "") -> None:
        said = (await self.haproxy.ask(command)).strip()
        if said and not (good and good in said):
            raise ProxyAway(f"HAProxy refused `{command}`: {said}")

    async def look(self) -> list[Seen]:
        """What is in flight and has been. Raises ProxyAway."""
        return read_stats(await self.haproxy.ask("show stat -1 6 -1"))

    async def certify(self) -> None:
        """Use the certificate that lies in the directory now. Raises ProxyAway."""
        async with self._lock:
            text = (self.haproxy.folder / CERTIFICATE).read_text().strip().replace("\n\n", "\n")
            await self._tell(f"set ssl cert {CERTIFICATE} <<\n{text}\n", "Transaction")
            await self._tell(f"commit ssl cert {CERTIFICATE}", "Success")
