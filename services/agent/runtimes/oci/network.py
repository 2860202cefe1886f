"""The network of one node: a bridge, and a namespace with one address for each task.

Tasks of all nodes of a machine reach each other, and the machine reaches them: the bridges' subnets are routed.
All calls block (a few milliseconds): run them in threads.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import threading
from collections.abc import Iterable
from pathlib import Path

from services.agent.ports import Sandbox
from services.agent.runtimes.inside import listen_inside
from services.agent.runtimes.oci import syscalls
from services.agent.runtimes.oci.addresses import AddressPool
from services.agent.runtimes.oci.netlink import Netlink, write_sysctl
from services.agent.runtimes.oci.nftables import Nftables, NodeRules

INSIDE = "eth0"
# As Docker since 20.10: low ports and ping need no capability in a namespace of one's own. And no IPv6 on eth0,
# which would ask for routers that are not there.
NAMESPACE_SYSCTLS = {
    "net/ipv4/ip_unprivileged_port_start": "0",
    "net/ipv4/ping_group_range": "0 2147483647",
    "net/ipv6/conf/default/disable_ipv6": "1",
}


class Network:
    """Bridge, namespaces and rules of one node. `key` (8 hex digits) makes the node's names."""

    def __init__(self, key: str, subnet: ipaddress.IPv4Network, namespaces: Path, dns: str = "") -> None:
        self.subnet = subnet
        self.bridge = f"rsbr{key}"
        self.addresses = AddressPool(subnet)
        gateway = self.addresses.gateway
        self.rules = NodeRules(Nftables(), f"roadstead_{key}", self.bridge, str(subnet), gateway, dns)
        self.resolver = gateway if dns else ""
        self._key = key
        self._namespaces = namespaces
        self._lock = threading.Lock()
        self._bridge_index = 0

    def start(self, sandboxes: Iterable[Sandbox]) -> None:
        """Bridge, forwarding and rules as they must be, for the sandboxes that stand. Repeatable."""
        self._namespaces.mkdir(parents=True, exist_ok=True)
        standing = list(sandboxes)
        with Netlink() as netlink:
            gateway = ipaddress.IPv4Address(self.addresses.gateway)
            with contextlib.suppress(FileExistsError):
                netlink.add_bridge(self.bridge, mac_of(str(gateway)))
            self._bridge_index = netlink.links()[self.bridge]
            netlink.add_address(self._bridge_index, str(gateway), self.subnet.prefixlen)
        write_sysctl("net/ipv4/ip_forward", "1")
        write_sysctl(f"net/ipv4/conf/{self.bridge}/route_localnet", "1")
        write_sysctl(f"net/ipv4/conf/{self.bridge}/forwarding", "1")
        for sandbox in standing:
            if sandbox.subnet_cidr:
                self.addresses.claim(sandbox.ip_address)
        self.rules.ensure([(each.ip_address, port) for each in standing for port in each.ports])

    def namespace(self, sandbox_id: str) -> Path:
        """Where a sandbox's network namespace is mounted."""
        return self._namespaces / sandbox_id

    def create(self, sandbox_id: str, address: str, hairpin: bool = False) -> None:
        """A namespace with lo and, when an address is given, eth0 on the bridge. With hairpin it reaches itself
        by its own host ports, also where br_netfilter turns packets round inside the bridge. Raises OSError."""
        path = self.namespace(sandbox_id)
        path.touch()
        inside = syscalls.in_thread(lambda: self._new_namespace(path))
        with inside:
            inside.up(1)
            if not address:
                return
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                with Netlink() as outside:
                    veth = self.veth(address)
                    try:
                        outside.add_veth(veth, self._bridge_index, descriptor, INSIDE, mac_of(address))
                    except FileExistsError:
                        # Left by a sandbox whose namespace something still holds.
                        outside.delete_link(veth)
                        outside.add_veth(veth, self._bridge_index, descriptor, INSIDE, mac_of(address))
            finally:
                os.close(descriptor)
            if hairpin:
                with contextlib.suppress(OSError):  # /sys may be read-only, and there may be no br_netfilter
                    Path("/sys/class/net", veth, "brport/hairpin_mode").write_text("1")
            index = inside.links()[INSIDE]
            inside.add_address(index, address, self.subnet.prefixlen)
            inside.up(index)
            inside.add_default_route(self.addresses.gateway)

    @staticmethod
    def _new_namespace(path: Path) -> Netlink:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        syscalls.mount(f"/proc/self/task/{threading.get_native_id()}/ns/net", path, "", syscalls.MS_BIND)
        for name, value in NAMESPACE_SYSCTLS.items():
            with contextlib.suppress(FileNotFoundError):
                write_sysctl(name, value)
        return Netlink()

    def remove(self, sandbox_id: str, address: str = "") -> None:
        """Remove a namespace and its veth. No error when they are gone."""
        path = self.namespace(sandbox_id)
        syscalls.unmount(path)
        path.unlink(missing_ok=True)
        if address:
            with Netlink() as netlink:
                netlink.delete_link(self.veth(address))

    def veth(self, address: str) -> str:
        """The name of the outer end of the pair that has this address."""
        return f"rsv{self._key}{int(ipaddress.IPv4Address(address)) & 0xFFFF:04x}"

    def stands(self, sandbox_id: str) -> bool:
        """Whether the namespace is mounted (not so after a reboot)."""
        path = self.namespace(sandbox_id)
        try:
            return path.stat().st_dev != self._namespaces.stat().st_dev
        except FileNotFoundError:
            return False

    def listen(self, sandbox_id: str, address: str, port: int) -> socket.socket:
        """A listening TCP socket inside the namespace, at an address that is put on its lo. Raises RuntimeFailure."""
        return listen_inside(lambda: syscalls.enter_network(self.namespace(sandbox_id)), address, port)[0]

    def purge(self, sandbox_ids: set[str], addresses: set[str]) -> None:
        """Remove namespaces and veths of this node that belong to none of these sandboxes."""
        names = [entry.name for entry in os.scandir(self._namespaces)] if self._namespaces.exists() else []
        for name in set(names) - sandbox_ids:
            self.remove(name)
        kept = {self.veth(address) for address in addresses}
        with Netlink() as netlink:
            links = [name for name in netlink.links() if name.startswith(f"rsv{self._key}")]
            for name in set(links) - kept:
                netlink.delete_link(name)

    def destroy(self) -> None:
        """Remove rules and bridge; `start` makes them again."""
        self.rules.remove()
        with Netlink() as netlink:
            netlink.delete_link(self.bridge)


def mac_of(address: str) -> bytes:
    """A locally administered MAC made from the address, so that a reused address is no stale neighbour."""
    return b"\x02\x42" + ipaddress.IPv4Address(address).packed


def host_address() -> str:
    """The address this machine would be reached at from outside; 127.0.0.1 without a network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # chooses a route, sends nothing
        except OSError:
            return "127.0.0.1"
        return probe.getsockname()[0]
