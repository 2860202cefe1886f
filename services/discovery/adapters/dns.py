"""The DNS server: UDP and TCP on one address (RFC 1035, RFC 7766)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import Any

import structlog

from services.discovery.adapters.forwarding import Forwarder
from services.discovery.decisions import wire
from services.discovery.decisions.answers import Answers
from services.shared.waiting import within

log = structlog.get_logger()

IDLE_S = 10.0
CONNECTIONS = 128


class DnsServer:
    """Answers what is ours, passes the rest on. `answered` and `forwarded` count."""

    def __init__(self, answers: Answers, forwarder: Forwarder) -> None:
        self._answers = answers
        self._forwarder = forwarder
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections = 0
        self._server: asyncio.Server | None = None
        self._udp: asyncio.DatagramTransport | None = None
        self.answered = 0
        self.forwarded = 0

    async def start(self, tcp: socket.socket, udp: socket.socket) -> None:
        """Answer on these sockets."""
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=udp)
        self._server = await asyncio.start_server(self._connected, sock=tcp)

    async def stop(self) -> None:
        """Fall silent."""
        if self._udp is not None:
            self._udp.close()
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def datagram(self, data: bytes, sender: Any) -> None:
        """Answer one datagram."""
        try:
            found = self._answers.udp(data)
        except Exception:  # whatever a packet holds, the next one is answered
            log.exception("dns.answer_failed", packet=data[:64].hex())
            return
        if isinstance(found, bytes):
            self.answered += 1
            self._send(found, sender)
        elif found is not None:
            task = asyncio.ensure_future(self._forward(found, data, sender))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _send(self, answer: bytes, sender: Any) -> None:
        if self._udp is not None and not self._udp.is_closing():
            self._udp.sendto(answer, sender)

    async def _forward(self, query: wire.Query, data: bytes, sender: Any) -> None:
        self.forwarded += 1
        self._send(await self._forwarder.ask(query, data, tcp=False), sender)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._connections += 1
        try:
            while self._connections <= CONNECTIONS:
                head = await within(IDLE_S, reader.readexactly(2))
                data = await within(IDLE_S, reader.readexactly(int.from_bytes(head, "big")))
                found = self._answers.tcp(data)
                if isinstance(found, wire.Query):
                    self.forwarded += 1
                    found = await self._forwarder.ask(found, data, tcp=True)
                if found is None:
                    return
                self.answered += 1
                writer.write(len(found).to_bytes(2, "big") + found)
                await within(IDLE_S, writer.drain())
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # they left, fell silent, or we end
        except Exception:
            log.exception("dns.connection_failed")
        finally:
            self._connections -= 1
            self._tasks.discard(task)
            writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self.datagram_received = server.datagram  # type: ignore[method-assign]


def bind(host: str, port: int, remembered: Path) -> tuple[socket.socket, socket.socket]:
    """A TCP and a UDP socket on one port: the given one; for 0 the one of last time, or any. Raises OSError."""
    if port:
        return _pair(host, port)
    with contextlib.suppress(OSError, ValueError):
        return _pair(host, int(remembered.read_text()))
    for attempt in range(20):
        try:
            tcp, udp = _pair(host, 0)
        except OSError:
            if attempt == 19:
                raise
            continue
        remembered.parent.mkdir(parents=True, exist_ok=True)
        remembered.write_text(f"{tcp.getsockname()[1]}\n")
        return tcp, udp
    raise AssertionError("the last attempt raises")


def _pair(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    tcp = socket.create_server((host, port), backlog=128)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        with contextlib.suppress(OSError):
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        udp.setblocking(False)
        udp.bind((host, tcp.getsockname()[1]))
    except OSError:
        tcp.close()
        udp.close()
        raise
    return tcp, udp
