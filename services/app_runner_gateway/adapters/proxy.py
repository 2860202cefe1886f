"""What HAProxy carries: which hosts, which instances. Changed through its runtime socket, so that nothing is dropped.

Each host has a backend out of those made in advance, each instance one of the backend's slots; a line of a map leads to
the backend. (Servers that HAProxy 2.6 is given at run time would never use a connection again: a third of the requests
a second.) The host of an Express service may have two, one of them with weights: its place in the proxy is then
`<kind>:<host>`; of App Runner's it is the host alone. The map also remembers, under names that no request can have, the
backend of a place that has no line (yet, or any more), and whose a slot is; so a gateway that starts anew finds
everything in HAProxy itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec
import structlog

from services.app_runner_gateway.adapters.haproxy import Haproxy, ProxyAway
from services.app_runner_gateway.decisions.proxy import (
    CERTIFICATE,
    MAP,
    OWN,
    WEIGHTED,
    Frame,
    Seen,
    Server,
    Slots,
    free,
    less,
    read_map,
    read_servers,
    read_stats,
)

log = structlog.get_logger()

AGAIN_S = 0.3
_KEPT, _SLOT, _LEAVING = "/KEPT/", "/SLOT/", "-"
"""In capitals: a request's host is looked up in small letters, whatever its header says."""


def _is_note(line: str) -> bool:
    return line.startswith((_KEPT, _SLOT))


class Proxy:
    """Make it with a folder and a frame; `start` adopts the HAProxy that runs there, or starts one."""

    def __init__(self, folder: Path, frame: Frame, program: str) -> None:
        self.frame = frame
        self.haproxy = Haproxy(folder, program, self._ended)
        self.running = False
        self.servers: dict[str, dict[str, Server]] = {}
        """By backend, then by name."""
        self._map: dict[str, str] = {}
        self._before: dict[tuple[str, str], Seen] = {}
        self._lock = asyncio.Lock()
        self._again: asyncio.Task[None] | None = None
        self._sweeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises ProxyAway."""
        async with self._lock:
            if self.running:
                return
            self.haproxy.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if (before := self.haproxy.frame_before()) is not None:
                self.frame = self.frame.widened(before)
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
        names = {host: backend for host, backend in self._map.items() if not host.startswith(_SLOT)}
        slots: Slots = {}
        for backend, servers in ready.items():
            for number, (name, server) in enumerate(sorted(servers.items())):
                slots.setdefault(backend, {})[number] = server
                names[f"{_SLOT}{backend}/s{number}"] = name
        await self.haproxy.start(self.frame, names, slots)
        self.servers, self._map = ready, names
        self._before.clear()

    async def _learn(self) -> None:
        self._map = read_map(await self.haproxy.ask(f"show map {MAP}"))
        self.servers = {}
        for backend, slot, server in read_servers(await self.haproxy.ask("show servers state")):
            name = self._map.get(f"{_SLOT}{backend}/{slot}")
            if name is not None and server.state == "maint":
                self._map[f"{_SLOT}{backend}/{slot}"] = _LEAVING
            elif name is not None and name != _LEAVING:
                self.servers.setdefault(backend, {})[name] = server
        if self._leaving():
            self._sweep()

    def _leaving(self) -> list[tuple[str, str]]:
        """(backend, slot) of those that are out of use and may still have requests."""
        slots = (host.removeprefix(_SLOT) for host, name in self._map.items() if name == _LEAVING)
        return [(slot.split("/")[0], slot.split("/")[1]) for slot in slots]

    def _slot(self, backend: str, name: str) -> str | None:
        taken = (host for host, value in self._map.items() if value == name and host.startswith(f"{_SLOT}{backend}/"))
        return next((host.rsplit("/", 1)[1] for host in taken), None)

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

    def backend(self, place: str) -> str | None:
        """The backend of a place."""
        return self._map.get(_KEPT + place)

    def carried(self, place: str) -> Mapping[str, Server]:
        """The instances of a place, by name."""
        return self.servers.get(self.backend(place) or "", {})

    def settled(self, place: str) -> bool:
        """Whether nothing is in flight at a place on instances that it has no more, as far as is known."""
        backend = self.backend(place)
        return not any(left == backend for left, _ in self._leaving())

    def hosts(self) -> list[str]:
        """All places that have a backend."""
        return [h.removeprefix(_KEPT) for h in self._map if h.startswith(_KEPT)]

    def answers(self, host: str) -> bool:
        """Whether requests to a host are led to its instances."""
        return host in self._map

    async def know(self, headers: Collection[str]) -> None:
        """Let lines of the map be by these headers, too. Raises ProxyAway."""
        async with self._lock:
            wanted = tuple(sorted({*self.frame.headers, *headers}))
            if wanted != self.frame.headers:
                self.frame = msgspec.structs.replace(self.frame, headers=wanted)
                await self._begin()

    async def carry(
        self, place: str, servers: Mapping[str, Server], *, answers: bool, lines: Collection[str] | None = None
    ) -> None:
        """Have just these instances at a place, and with `answers` lead its host there, or what `lines` of the map say.
        What comes is there before what goes is gone. Raises ProxyAway."""
        kind, _, host = place.rpartition(":")
        lines = (host,) if lines is None else lines
        async with self._lock:
            backend = self.backend(place)
            if backend is None:
                if not servers:
                    return
                backend = await self._take(place, kind or OWN)
            # Who gets more comes first: there is no moment in which nobody has a weight.
            for name, server in sorted(servers.items(), key=lambda each: -each[1].weight):
                if server.state == "ready":
                    await self._have(backend, name, server)
            for line in lines if answers else ():
                await self._lead(line, backend)
            for line in [one for one, led in self._map.items() if led == backend and not _is_note(one)]:
                if not answers or line not in lines:
                    await self._lead(line, None)
            for name, server in servers.items():
                if server.state != "ready" and name in self.servers.get(backend, {}):
                    await self._have(backend, name, server)
            for name in [n for n in self.servers.get(backend, {}) if n not in servers]:
                await self._remove(backend, name)
            await self._free_slots()
            if not servers and not answers and not any(b == backend for b, _ in self._leaving()):
                await self._lead(_KEPT + place, None)
                self.servers.pop(backend, None)

    async def _take(self, place: str, kind: str) -> str:
        used = [b for h, b in self._map.items() if h.startswith(_KEPT)]
        backend = free(kind, self.frame.count(kind), used)
        if backend is None:
            self.frame = self.frame.grown(kind)
            await self._begin()
            backend = free(kind, self.frame.count(kind), used)
            assert backend is not None
        await self._lead(_KEPT + place, backend)
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
        if known is None:
            await self._enter(backend, name, server)
        elif known != server:
            at = f"{backend}/{self._slot(backend, name)}"
            if known.most != server.most:
                await self._tell(f"set maxconn server {at} {server.most}")
            if known.weight != server.weight and backend.startswith(WEIGHTED):
                await self._tell(f"set server {at} weight {server.weight}")
            if known.state != server.state:
                await self._tell(f"set server {at} state {server.state}")
        self.servers[backend][name] = server

    async def _enter(self, backend: str, name: str, server: Server) -> None:
        """Give an instance a slot that nobody has."""
        slot = self._free_slot(backend)
        if slot is None:
            self.frame = self.frame.deepened(backend)
            await self._begin()
            slot = self._free_slot(backend)
            assert slot is not None
        at = f"{backend}/{slot}"
        for seen in read_stats(await self.haproxy.ask(f"show stat {backend} 4 -1"), {slot}):
            self._before[backend, slot] = seen
        await self._lead(f"{_SLOT}{at}", name)
        await self._tell(f"set server {at} addr {server.address} port {server.port}", "chang")
        await self._tell(f"set maxconn server {at} {server.most}")
        if backend.startswith(WEIGHTED):
            await self._tell(f"set server {at} weight {server.weight}")
        await self._tell(f"set server {at} state ready")

    def _free_slot(self, backend: str) -> str | None:
        slots = (f"s{number}" for number in range(self.frame.depth(backend)))
        return next((s for s in slots if f"{_SLOT}{backend}/{s}" not in self._map), None)

    async def _remove(self, backend: str, name: str) -> None:
        """Its slot is free when its last request has ended."""
        slot = self._slot(backend, name)
        await self._tell(f"set server {backend}/{slot} state maint")
        del self.servers[backend][name]
        await self._lead(f"{_SLOT}{backend}/{slot}", _LEAVING)
        self._sweep()

    async def _free_slots(self) -> None:
        leaving = self._leaving()
        for backend in {b for b, _ in leaving}:
            slots = {slot for b, slot in leaving if b == backend}
            for seen in read_stats(await self.haproxy.ask(f"show stat {backend} 4 -1"), slots):
                if not seen.in_flight:
                    await self._lead(f"{_SLOT}{backend}/{seen.server}", None)

    def _sweep(self) -> None:
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.ensure_future(self._swept())

    async def _swept(self) -> None:
        while self._leaving() and self.running:
            await asyncio.sleep(AGAIN_S)  # HAProxy tells nobody that a request has ended
            with contextlib.suppress(ProxyAway):
                async with self._lock:
                    await self._free_slots()

    async def _tell(self, command: str, good: str = "") -> None:
        said = (await self.haproxy.ask(command)).strip()
        if said and not (good and good in said):
            raise ProxyAway(f"HAProxy refused `{command}`: {said}")

    async def look(self) -> list[Seen]:
        """What is in flight and has been, by backend, and by instance since it came. Raises ProxyAway."""
        backends = sorted({b for host, b in self._map.items() if host.startswith(_KEPT)})
        if not backends:
            return []
        said = await self.haproxy.ask("; ".join(f"show stat {backend} 6 -1" for backend in backends))
        found = []
        for seen in read_stats(said):
            if not seen.server:
                found.append(seen)
                continue
            name = self._map.get(f"{_SLOT}{seen.backend}/{seen.server}", _LEAVING)
            if name != _LEAVING:
                since = less(seen, self._before.get((seen.backend, seen.server)))
                found.append(msgspec.structs.replace(since, server=name))
        return found

    async def certify(self) -> None:
        """Use the certificate that lies in the directory now. Raises ProxyAway."""
        async with self._lock:
            text = (self.haproxy.folder / CERTIFICATE).read_text().strip().replace("\n\n", "\n")
            await self._tell(f"set ssl cert {CERTIFICATE} <<\n{text}\n", "Transaction")
            await self._tell(f"commit ssl cert {CERTIFICATE}", "Success")
