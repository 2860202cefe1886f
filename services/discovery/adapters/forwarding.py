"""Asking other resolvers for names that are not ours."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.discovery.decisions import wire
from services.shared.waiting import within

AT_ONCE = 256
Address = tuple[str, int]


def resolvers(setting: str, own: Address, file: str = "/etc/resolv.conf") -> list[Address]:
    """Whom to ask: the setting's, or those of resolv.conf; never ourselves. Raises ValueError."""
    if setting == "none":
        return []
    texts = [part.strip() for part in setting.split(",") if part.strip()]
    if not texts:
        with contextlib.suppress(OSError):
            lines = [line.split() for line in Path(file).read_text(errors="replace").splitlines()]
            texts = [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]
    return [address for text in texts if (address := _address(text)) != own]


def _address(text: str) -> Address:
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        return host, int(port.removeprefix(":") or 53)
    host, colon, port = text.partition(":") if text.count(":") == 1 else (text, "", "")
    return host, int(port) if colon else 53


class Forwarder:
    """Passes questions on, each from a port and with an id of its own, to one resolver after the other."""

    def __init__(self, servers: Sequence[Address], timeout_s: float) -> None:
        self.servers = list(servers)
        self._timeout = timeout_s
        self._places = asyncio.Semaphore(AT_ONCE)

    async def ask(self, query: wire.Query, data: bytes, *, tcp: bool) -> bytes:
        """The answer with the asker's id: REFUSED when there is nobody to ask, SERVFAIL when nobody answers."""
        if not self.servers:
            return wire.reply(query, wire.REFUSED, authoritative=False)
        if self._places.locked():
            return wire.reply(query, wire.SERVFAIL, authoritative=False)
        number = secrets.token_bytes(2)
        async with self._places:
            for server in self.servers:
                with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                    ask = self._ask_tcp if tcp else self._ask_udp
                    answer = await within(self._timeout, ask(server, number + data[2:], query))
                    return data[:2] + answer[2:]
        return wire.reply(query, wire.SERVFAIL, authoritative=False)

    async def _ask_udp(self, server: Address, data: bytes, query: wire.Query) -> bytes:
        waiting = _Waiting(data[:2], query)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: waiting, remote_addr=server)
        try:
            transport.sendto(data)
            return await waiting.answer
        finally:
            transport.close()

    async def _ask_tcp(self, server: Address, data: bytes, query: wire.Query) -> bytes:
        reader, writer = await asyncio.open_connection(*server)
        try:
            writer.write(len(data).to_bytes(2, "big") + data)
            while True:
                answer = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
                if answers_to(answer, data[:2], query):
                    return answer
        finally:
            writer.close()


def answers_to(answer: bytes, number: bytes, query: wire.Query) -> bool:
    """Whether this is an answer to that question: the id, the bit that says so, and the question repeated."""
    if len(answer) < 12 or answer[:2] != number or not answer[2] & 0x80:
        return False
    repeated = answer[12 : 12 + len(query.asked)]
    return answer[4:6] == b"\0\0" or repeated.lower() == query.asked.lower()


class _Waiting(asyncio.DatagramProtocol):
    """Waits for the answer to one question; what is none is not heard."""

    def __init__(self, number: bytes, query: wire.Query) -> None:
        self._number = number
        self._query = query
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """An answer, or somebody who guesses."""
        if not self.answer.done() and answers_to(data, self._number, self._query):
            self.answer.set_result(data)

    def error_received(self, error: Exception) -> None:
        """Nobody is there."""
        if not self.answer.done():
            self.answer.set_exception(error)
