"""Links, addresses and routes over rtnetlink: only what a task's network needs, without starting `ip`.

A `Netlink` belongs to the network namespace of the thread that made it, for as long as it is open.
Layouts: linux/rtnetlink.h, linux/if_link.h, rtnetlink(7).
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_NEWROUTE, RTM_GETROUTE = 20, 24, 26
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
NLMSG_ERROR, NLMSG_DONE = 2, 3
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_LINKINFO = 1, 3, 4, 10, 18
IFLA_NET_NS_FD = 28
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFA_ADDRESS, IFA_LOCAL = 1, 2
RTA_DST, RTA_GATEWAY = 1, 5
IFF_UP = 1


def attribute(kind: int, value: bytes) -> bytes:
    """One rtattr, padded to four bytes."""
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def _link(index: int = 0, up: bool = False) -> bytes:
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, IFF_UP if up else 0, IFF_UP if up else 0)


class Netlink:
    """A rtnetlink socket. Not for use by two threads at once. Failures are OSError."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add_bridge(self, name: str, mac: bytes) -> None:
        """A bridge that is up. Raises FileExistsError."""
        info = attribute(IFLA_LINKINFO, _text(IFLA_INFO_KIND, "bridge"))
        self._ask(RTM_NEWLINK, _link(up=True) + _text(IFLA_IFNAME, name) + attribute(IFLA_ADDRESS, mac) + info, True)

    def add_veth(self, name: str, bridge: int, namespace: int, peer: str, mac: bytes) -> None:
        """A pair in one call: `name` here on the bridge and up, `peer` with its MAC in the namespace (a
        file descriptor)."""
        inner = _link() + _text(IFLA_IFNAME, peer) + attribute(IFLA_ADDRESS, mac)
        inner += _number(IFLA_NET_NS_FD, namespace)
        data = attribute(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, inner))
        info = attribute(IFLA_LINKINFO, _text(IFLA_INFO_KIND, "veth") + data)
        outer = _link(up=True) + _text(IFLA_IFNAME, name) + _number(IFLA_MASTER, bridge)
        self._ask(RTM_NEWLINK, outer + info, True)

    def up(self, index: int) -> None:
        """Set a link up."""
        self._ask(RTM_NEWLINK, _link(index, up=True))

    def delete_link(self, name: str) -> None:
        """Delete a link by name. No error when there is none."""
        try:
            self._ask(RTM_DELLINK, _link() + _text(IFLA_IFNAME, name))
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise

    def add_address(self, index: int, address: str, prefix: int) -> None:
        """An IPv4 address on a link. No error when it is there."""
        raw = ipaddress.IPv4Address(address).packed
        body = struct.pack("=BBBBi", socket.AF_INET, prefix, 0, 0, index)
        with contextlib.suppress(FileExistsError):
            self._ask(RTM_NEWADDR, body + attribute(IFA_LOCAL, raw) + attribute(IFA_ADDRESS, raw), True)

    def add_default_route(self, gateway: str) -> None:
        """The IPv4 default route."""
        body = struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, 254, 4, 0, 1, 0)
        self._ask(RTM_NEWROUTE, body + attribute(RTA_GATEWAY, ipaddress.IPv4Address(gateway).packed), True)

    def links(self) -> dict[str, int]:
        """The links by name, with their index."""
        found = {}
        for body in self._dump(RTM_GETLINK, _link()):
            index = struct.unpack_from("=i", body, 4)[0]
            found[_attributes(body[16:])[IFLA_IFNAME].rstrip(b"\0").decode()] = index
        return found

    def routes(self) -> list[ipaddress.IPv4Network]:
        """Where IPv4 packets are sent other than by default."""
        found = []
        for body in self._dump(RTM_GETROUTE, struct.pack("=BBBBBBBBI", socket.AF_INET, *[0] * 8)):
            destination = _attributes(body[12:]).get(RTA_DST)
            if destination is not None and body[0] == socket.AF_INET:
                found.append(ipaddress.IPv4Network((destination, body[1])))
        return found

    def _ask(self, kind: int, body: bytes, create: bool = False) -> None:
        flags = NLM_F_REQUEST | NLM_F_ACK | (NLM_F_CREATE | NLM_F_EXCL if create else 0)
        self._send(kind, flags, body)
        for reply, payload in self._messages():
            if reply == NLMSG_ERROR:
                code = -struct.unpack_from("=i", payload)[0]
                if code:
                    raise OSError(code, os.strerror(code))
                return

    def _dump(self, kind: int, body: bytes) -> list[bytes]:
        self._send(kind, NLM_F_REQUEST | NLM_F_DUMP, body)
        found = []
        while True:
            for reply, payload in self._messages():
                if reply == NLMSG_DONE:
                    return found
                if reply == NLMSG_ERROR:
                    code = -struct.unpack_from("=i", payload)[0]
                    raise OSError(code, os.strerror(code))
                found.append(payload)

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        self._socket.send(struct.pack("=IHHII", 16 + len(body), kind, flags, self._sequence, 0) + body)

    def _messages(self) -> Iterator[tuple[int, bytes]]:
        data, offset = self._socket.recv(1 << 17), 0
        while offset < len(data):
            length, kind, _, sequence, _ = struct.unpack_from("=IHHII", data, offset)
            if sequence == self._sequence:
                yield kind, data[offset + 16 : offset + length]
            offset += (length + 3) & ~3


def _attributes(data: bytes) -> dict[int, bytes]:
    found, offset = {}, 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        found[kind & 0x3FFF] = data[offset + 4 : offset + length]
        offset += max(4, (length + 3) & ~3)
    return found


def write_sysctl(name: str, value: str) -> None:
    """Set a net.* sysctl (`net/ipv4/ip_forward`) of the calling thread's namespace."""
    Path("/proc/sys", name).write_text(value)
