"""Which subnet, which address, which host port: choices that must not clash on one machine.

Subnets and host ports are claimed through files under a directory that all agents of the machine share.
"""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import random
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from services.agent.ports import HostPort, RuntimeFailure
from services.agent.runtimes.oci.netlink import Netlink

POOL = ipaddress.IPv4Network("10.64.0.0/10")
EPHEMERAL = range(32768, 61000)


class AddressPool:
    """The addresses of one node's subnet; `.1` is the bridge. Goes round, so that an address rests after use."""

    def __init__(self, subnet: ipaddress.IPv4Network) -> None:
        self._subnet = subnet
        self._taken: set[int] = set()
        self._next = 2

    @property
    def gateway(self) -> str:
        return str(self._subnet.network_address + 1)

    def claim(self, address: str) -> None:
        """Mark an address of a sandbox that stands."""
        self._taken.add(int(ipaddress.IPv4Address(address)) - int(self._subnet.network_address))

    def take(self) -> str:
        """A free address. Raises RuntimeFailure when there is none."""
        last = self._subnet.num_addresses - 2
        for _ in range(last):
            offset, self._next = self._next, self._next + 1 if self._next < last else 2
            if offset not in self._taken:
                self._taken.add(offset)
                return str(self._subnet.network_address + offset)
        raise RuntimeFailure(f"no address is free in {self._subnet}")

    def give_back(self, address: str) -> None:
        """Free an address."""
        self._taken.discard(int(ipaddress.IPv4Address(address)) - int(self._subnet.network_address))


class HostPorts:
    """The node's ports that lead to containers, claimed by files named `tcp-32768` that hold their owner."""

    def __init__(self, directory: Path, node: str) -> None:
        self._directory = directory
        self._node = node
        directory.mkdir(parents=True, exist_ok=True)

    def take(self, sandbox_id: str, wanted: Iterable[HostPort]) -> list[HostPort]:
        """All of the ports, host ports chosen, or none of them. Raises RuntimeFailure."""
        taken: list[HostPort] = []
        try:
            for port in wanted:
                chosen = port.host_port or self._free(sandbox_id, port.protocol)
                if port.host_port and not self._claim(sandbox_id, port.protocol, chosen):
                    raise RuntimeFailure(f"host port {chosen}/{port.protocol} is already in use on this node")
                taken.append(HostPort(port.container_port, chosen, port.protocol, port.container_name))
        except BaseException:
            self.give_back(taken)
            raise
        return taken

    def give_back(self, ports: Iterable[HostPort]) -> None:
        """Free ports."""
        for port in ports:
            self._file(port.protocol, port.host_port).unlink(missing_ok=True)

    def forget_but(self, sandbox_ids: set[str]) -> None:
        """Free what this node's sandboxes that no longer stand held."""
        for file in self._directory.iterdir():
            node, _, sandbox_id = _text(file).partition(" ")
            if node == self._node and sandbox_id not in sandbox_ids:
                file.unlink(missing_ok=True)

    def _free(self, sandbox_id: str, protocol: str) -> int:
        first = random.randrange(len(EPHEMERAL))
        for step in range(len(EPHEMERAL)):
            port = EPHEMERAL[(first + step) % len(EPHEMERAL)]
            if self._claim(sandbox_id, protocol, port):
                return port
        raise RuntimeFailure(f"no {protocol} port from {EPHEMERAL[0]} to {EPHEMERAL[-1]} is free on this node")

    def _claim(self, sandbox_id: str, protocol: str, port: int) -> bool:
        if protocol not in ("tcp", "udp"):
            raise RuntimeFailure(f"port protocol {protocol!r} is neither tcp nor udp")
        file = self._file(protocol, port)
        try:
            with file.open("x") as claim:
                claim.write(f"{self._node} {sandbox_id}")
        except FileExistsError:
            return False
        if _can_bind(protocol, port):
            return True
        file.unlink(missing_ok=True)
        return False

    def _file(self, protocol: str, port: int) -> Path:
        return self._directory / f"{protocol}-{port}"


def _can_bind(protocol: str, port: int) -> bool:
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as probe:
        if protocol == "tcp":
            # Connections that wait out their end are no listener.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def choose_subnet(claims: Path, owner: str, directory: Path, wanted: str = "") -> ipaddress.IPv4Network:
    """The subnet of a node: the wanted one, else the one it had, else a free /24 of 10.64.0.0/10.

    A claim is a file named by its owner's key that holds the subnet and the node's directory.
    Raises RuntimeFailure when the wanted one overlaps with another node's.
    """
    claims.mkdir(parents=True, exist_ok=True)
    with locked(claims / ".lock"):
        files = [file for file in claims.iterdir() if not file.name.startswith(".")]
        claimed = {file.name: _text(file).partition(" ")[0] for file in files}
        mine = claimed.pop(owner, "")
        others = [ipaddress.IPv4Network(text) for text in claimed.values() if text]
        subnet = ipaddress.IPv4Network(wanted or mine) if wanted or mine else _free_subnet(others)
        for other in others:
            if subnet.overlaps(other):
                raise RuntimeFailure(f"the subnet {subnet} overlaps with {other} of another node on this machine")
        (claims / owner).write_text(f"{subnet} {directory}")
    return subnet


def abandoned(claims: Path) -> list[str]:
    """The keys of nodes whose directory is gone: nobody will ever run them again."""
    found = []
    for file in claims.glob("[!.]*"):
        directory = _text(file).partition(" ")[2]
        if directory and not Path(directory).exists():
            found.append(file.name)
    return found


def _free_subnet(others: list[ipaddress.IPv4Network]) -> ipaddress.IPv4Network:
    with Netlink() as netlink:
        used = [*others, *(route for route in netlink.routes() if route.prefixlen)]
    for subnet in POOL.subnets(new_prefix=24):
        if not any(subnet.overlaps(other) for other in used):
            return subnet
    raise RuntimeFailure(f"no /24 of {POOL} is free on this machine")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file lock; waits for it, so not on the event loop."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        return ""
