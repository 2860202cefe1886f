"""Names for the tasks of an engine: a resolver inside each task's network that asks discovery.

An engine takes resolvers on port 53 only, and discovery's port is not that, nor is it reached from the engine's
networks. So the agent answers at 169.254.170.2:53 inside the task, where the engine's own resolver (127.0.0.11) asks
for what it does not know, and hands questions and answers on as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable
from typing import Any

import structlog

from services.agent.ports import RuntimeFailure
from services.agent.runtimes.inside import listen_inside
from services.agent.runtimes.oci.syscalls import enter_network

log = structlog.get_logger()

ADDRESS = "169.254.170.2"
PORT = 53
PATIENCE_S = 5.0
MOST_AT_ONCE = 128
"""Questions of one task that may wait for their answers; more are dropped, and asked again by who asked."""


class Names:
    """The resolvers of one node's tasks. `upstream` is `host:port` of a DNS server."""

    def __init__(self, upstream: str) -> None:
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}

    def serve(self, sandbox_id: str, pid: int) -> bool:
        """Answer inside the network of this process; False where the agent can't enter it."""
        self.forget(sandbox_id)
        try:
            sockets = listen_inside(lambda: enter_network(f"/proc/{pid}/ns/net"), ADDRESS, PORT, ("udp", "tcp"))
        except RuntimeFailure as failure:
            log.warning("names.not_served", sandbox=sandbox_id, reason=failure.reason)
            return False
        udp, tcp = sockets
        self._tasks[sandbox_id] = [
            asyncio.create_task(_told(self._datagrams(udp), sandbox_id)),
            asyncio.create_task(_told(self._connections(tcp), sandbox_id)),
        ]
        return True

    def forget(self, sandbox_id: str) -> None:
        """Answer there no more."""
        for task in self._tasks.pop(sandbox_id, ()):
            task.cancel()

    def close(self) -> None:
        """Answer nowhere any more."""
        for sandbox_id in list(self._tasks):
            self.forget(sandbox_id)

    async def _datagrams(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: _Questions(self._upstream), sock=listening)
        try:
            await loop.create_future()  # until cancelled
        finally:
            transport.close()

    async def _connections(self, listening: socket.socket) -> None:
        server = await asyncio.start_server(self._connection, sock=listening)
        async with server:
            await server.serve_forever()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Questions over TCP, one after the other, each with its length before it (RFC 1035, 4.2.2)."""
        try:
            async with asyncio.timeout(PATIENCE_S * 2):
                upstream_reader, upstream_writer = await asyncio.open_connection(*self._upstream)
                try:
                    while True:
                        upstream_writer.write(await _framed(reader))
                        writer.write(await _framed(upstream_reader))
                        await writer.drain()
                finally:
                    upstream_writer.close()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


class _Questions(asyncio.DatagramProtocol):
    """Questions over UDP, each asked upstream from a port of its own, so that nobody can guess where an answer goes."""

    def __init__(self, upstream: tuple[str, int]) -> None:
        self._upstream = upstream
        self._waiting: set[asyncio.Task[None]] = set()
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: Any) -> None:
        """Remember where answers go out."""
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        """Nobody is there for the answers."""
        for task in self._waiting:
            task.cancel()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Ask, unless too many wait already."""
        if len(self._waiting) < MOST_AT_ONCE:
            task = asyncio.create_task(self._ask(data, addr))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)

    async def _ask(self, question: bytes, asker: Any) -> None:
        """A resolver that does not answer is nothing to tell of: the asker asks again."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes] = loop.create_future()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                transport, _ = await loop.create_datagram_endpoint(lambda: _Answer(answer), remote_addr=self._upstream)
                try:
                    transport.sendto(question)
                    received = await answer
                finally:
                    transport.close()
            if self._transport is not None and not self._transport.is_closing():
                self._transport.sendto(received, asker)


class _Answer(asyncio.DatagramProtocol):
    def __init__(self, answer: asyncio.Future[bytes]) -> None:
        self._answer = answer

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if not self._answer.done():
            self._answer.set_result(data)

    def error_received(self, error: Exception) -> None:
        if not self._answer.done():
            self._answer.set_exception(error)


async def _framed(reader: asyncio.StreamReader) -> bytes:
    length = await reader.readexactly(2)
    return length + await reader.readexactly(struct.unpack("!H", length)[0])


async def _told(work: Awaitable[None], sandbox_id: str) -> None:
    try:
        await work
    except Exception:
        log.exception("names.failed", sandbox=sandbox_id)
