"""Messages of the DNS: just as much of RFC 1035 (and EDNS, RFC 6891) as a server of few names needs.

Names are kept as they lie on the wire (labels with their lengths, the root's zero at the end), in lower case.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import NamedTuple

A, NS, CNAME, SOA, AAAA, SRV, OPT, AXFR, ANY = 1, 2, 5, 6, 28, 33, 41, 252, 255
IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
TYPES = {"A": A, "AAAA": AAAA, "SRV": SRV, "CNAME": CNAME}

QR, AA, TC, RD, RA = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
UDP_PLAIN, UDP_EDNS = 512, 1232
_header = struct.Struct("!HHHHHH")
_record = struct.Struct("!HHIH")
_pair = struct.Struct("!HH")


class BadName(ValueError):
    """A label of no or more than 63 octets, or a name of more than 255."""


class Query(NamedTuple):
    """A question. `name` is in lower case, `asked` the question's octets as they came, `udp_size` None without EDNS."""

    id: int
    flags: int
    name: bytes
    type: int
    cls: int
    asked: bytes
    udp_size: int | None
    edns_version: int

    @property
    def limit(self) -> int:
        """How long an answer over UDP may be."""
        return UDP_PLAIN if self.udp_size is None else min(max(self.udp_size, UDP_PLAIN), UDP_EDNS)


class Refusal(NamedTuple):
    """A message that is no question one could answer: what to say instead, None for nothing at all."""

    answer: bytes | None


def name_of(text: str) -> bytes:
    """`backend.local` as it lies on the wire. Raises BadName."""
    wire = b""
    for label in text.rstrip(".").lower().encode("idna" if not text.isascii() else "ascii").split(b"."):
        if not 0 < len(label) < 64:
            raise BadName(f"{text!r} is no name of the DNS: labels have 1 to 63 octets")
        wire += bytes((len(label),)) + label
    if len(wire) > 254:
        raise BadName(f"{text!r} is no name of the DNS: it is longer than 255 octets")
    return wire + b"\0"


def parents(name: bytes) -> list[tuple[int, bytes]]:
    """The name and those above it, without the root, each with its offset in the name."""
    found, at = [], 0
    while name[at]:
        found.append((at, name[at:]))
        at += 1 + name[at]
    return found


def read(data: bytes) -> Query | Refusal:
    """Take a message apart. Nothing that can be sent makes this raise."""
    if len(data) < 12:
        return Refusal(None)
    number, flags, questions, answers, authorities, additional = _header.unpack_from(data)
    if flags & QR:
        return Refusal(None)  # an answer: to answer it would be to play ping-pong
    if flags & 0x7800:
        return Refusal(error(number, flags, NOTIMP))
    if questions != 1:
        return Refusal(error(number, flags, FORMERR))
    end = _name_end(data, 12)
    if end < 0 or end + 4 > len(data):
        return Refusal(error(number, flags, FORMERR))
    qtype, cls = _pair.unpack_from(data, end)
    size, version = None, 0
    if additional:
        if answers or authorities:
            return Refusal(error(number, flags, FORMERR))
        found = _edns(data, end + 4, additional)
        if found is not None:
            size, version = found
    return Query(number, flags, data[12:end].lower(), qtype, cls, data[12 : end + 4], size, version)


def _name_end(data: bytes, at: int) -> int:
    """Where a name without compression ends; -1 when it is none."""
    start = at
    while at < len(data):
        length = data[at]
        at += 1
        if length == 0:
            return at if at - start <= 255 else -1
        if length > 63:
            return -1
        at += length
    return -1


def _edns(data: bytes, at: int, count: int) -> tuple[int, int] | None:
    """(UDP size, version) of the OPT record, if there is one among the additional records."""
    for _ in range(min(count, 4)):
        if at < len(data) and data[at] >= 192:
            at += 2
        else:
            at = _name_end(data, at)
        if at < 0 or at + 10 > len(data):
            return None
        kind, size, rest, length = _record.unpack_from(data, at)
        if kind == OPT:
            return size, rest >> 16 & 0xFF
        at += 10 + length
    return None


def error(number: int, flags: int, code: int) -> bytes:
    """An answer that says only that something is wrong."""
    return _header.pack(number, QR | flags & (0x7800 | RD) | RA | code, 0, 0, 0, 0)


def reply(
    query: Query,
    code: int,
    answers: list[bytes] = [],  # noqa: B006 - never changed
    authority: list[bytes] = [],  # noqa: B006
    *,
    authoritative: bool = True,
    truncated: bool = False,
) -> bytes:
    """An answer to this question, of records that are encoded already."""
    flags = QR | (AA if authoritative else 0) | (TC if truncated else 0) | query.flags & RD | RA | code & 15
    opt = b"" if query.udp_size is None else b"\0" + _record.pack(OPT, UDP_EDNS, code >> 4 << 24, 0)
    head = _header.pack(query.id, flags, 1, len(answers), len(authority), 1 if opt else 0)
    return b"".join((head, query.asked, *answers, *authority, opt))


def record(owner: bytes, kind: int, ttl: int, data: bytes) -> bytes:
    """One record. `owner` is a name or a pointer to one."""
    return owner + _record.pack(kind, IN, ttl, len(data)) + data


def pointer(offset: int) -> bytes:
    """A pointer to what stands at this offset of the question's name."""
    return (0xC000 | 12 + offset).to_bytes(2, "big")


def ipv4(text: str) -> bytes:
    """The data of an A record. Raises ValueError."""
    return ipaddress.IPv4Address(text).packed


def ipv6(text: str) -> bytes:
    """The data of an AAAA record. Raises ValueError."""
    return ipaddress.IPv6Address(text).packed


def srv(port: int, target: bytes, priority: int = 1, weight: int = 1) -> bytes:
    """The data of an SRV record (RFC 2782)."""
    return struct.pack("!HHH", priority, weight, port) + target


def soa(zone: bytes, minimum: int) -> bytes:
    """The data of a zone's SOA record; `minimum` is how long a negative answer may be kept (RFC 2308)."""
    return b"\x02ns" + zone + b"\x0ahostmaster" + zone + struct.pack("!IIIII", 1, 7200, 900, 1209600, minimum)
