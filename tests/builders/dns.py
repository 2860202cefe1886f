"""A small client of the DNS for tests: it knows as little of services.discovery as `dig` does."""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import NamedTuple

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "AAAA": 28, "SRV": 33, "ANY": 255, "AXFR": 252}
_NAMES = {number: name for name, number in TYPES.items()}


class Answer(NamedTuple):
    """What was answered: rcode, `flags` as `dig` writes them, records as (name, type, TTL, data)."""

    code: int
    flags: set[str]
    records: list[tuple[str, str, int, str]]
    authority: list[tuple[str, str, int, str]]

    def data(self, kind: str = "A") -> list[str]:
        """The data of the records of one type."""
        return [data for _, found, _, data in self.records if found == kind]


def question(name: str, kind: str = "A", *, number: int = 7, edns: int | None = None) -> bytes:
    """A question; with `edns`, a client that takes so many octets over UDP."""
    labels = b"".join(bytes((len(part),)) + part.encode() for part in name.split("."))
    opt = b"" if edns is None else b"\0" + struct.pack("!HHIH", 41, edns, 0, 0)
    head = struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 1 if opt else 0)
    return head + labels + b"\0" + struct.pack("!HH", TYPES[kind], 1) + opt


def parsed(message: bytes) -> Answer:
    """An answer, taken apart."""
    _, flags, questions, answers, authorities, _ = struct.unpack_from("!HHHHHH", message)
    at = 12
    for _ in range(questions):
        at = _name(message, at)[1] + 4
    sections = []
    for count in (answers, authorities):
        found = []
        for _ in range(count):
            name, at = _name(message, at)
            kind, _, ttl, length = struct.unpack_from("!HHIH", message, at)
            at += 10
            found.append((name, _NAMES[kind], ttl, _data(message, kind, at, length)))
            at += length
        sections.append(found)
    bits = {"qr": 0x8000, "aa": 0x400, "tc": 0x200, "rd": 0x100, "ra": 0x80}
    return Answer(flags & 15, {name for name, bit in bits.items() if flags & bit}, *sections)


def ask(port: int, name: str, kind: str = "A", *, tcp: bool = False, edns: int | None = None) -> Answer:
    """Ask 127.0.0.1:port."""
    return parsed(exchange(port, question(name, kind, edns=edns), tcp=tcp))


def exchange(port: int, message: bytes, *, tcp: bool = False) -> bytes:
    """Send octets, get octets. Raises TimeoutError when nothing comes within thirty seconds."""
    if tcp:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as stream:
            stream.sendall(len(message).to_bytes(2, "big") + message)
            file = stream.makefile("rb")
            return file.read(int.from_bytes(file.read(2), "big"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.settimeout(30)
        datagrams.connect(("127.0.0.1", port))
        datagrams.send(message)
        return datagrams.recv(65535)


def _name(message: bytes, at: int) -> tuple[str, int]:
    labels: list[str] = []
    end = 0
    while message[at]:
        if message[at] >= 192:
            end = end or at + 2
            at = int.from_bytes(message[at : at + 2], "big") & 0x3FFF
            continue
        labels.append(message[at + 1 : at + 1 + message[at]].decode())
        at += 1 + message[at]
    return ".".join(labels), end or at + 1


def _data(message: bytes, kind: int, at: int, length: int) -> str:
    if kind in (1, 28):
        return str(ipaddress.ip_address(message[at : at + length]))
    if kind == 33:
        numbers = struct.unpack_from("!HHH", message, at)
        return f"{' '.join(map(str, numbers))} {_name(message, at + 6)[0]}"
    return _name(message, at)[0]
