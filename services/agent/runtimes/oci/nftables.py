"""The packet rules of one node: host ports by a map, masquerading, and a way through Docker's.

One table a node, which stays in the kernel when the agent ends: published ports work on while it restarts.
Talks to libnftables in this process (a change costs 0.3 ms; the `nft` command costs 7 ms) and falls back to `nft`.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import threading

from services.agent.ports import HostPort, RuntimeFailure

RULES = """
table ip {table}
delete table ip {table}
table ip {table} {{
  map tcp_ports {{ type inet_service : ipv4_addr . inet_service; }}
  map udp_ports {{ type inet_service : ipv4_addr . inet_service; }}
  chain guard {{
    type filter hook prerouting priority raw; policy accept;
    iifname "{bridge}" ip daddr 127.0.0.0/8 drop
  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    {resolver}
    fib daddr type local dnat ip to tcp dport map @tcp_ports
    fib daddr type local dnat ip to udp dport map @udp_ports
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    fib daddr type local dnat ip to tcp dport map @tcp_ports
    fib daddr type local dnat ip to udp dport map @udp_ports
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname "{bridge}" ip saddr 127.0.0.0/8 masquerade
    oifname "{bridge}" ip saddr {subnet} ct status dnat masquerade
    ip saddr {subnet} oifname != "rsbr*" masquerade
  }}
}}
"""


RESOLVER = """iifname "{bridge}" ip daddr {gateway} udp dport 53 dnat to {dns}
    iifname "{bridge}" ip daddr {gateway} tcp dport 53 dnat to {dns}"""
"""What tasks ask at their gateway goes to the resolver, wherever on this machine it listens."""

WITH_HANDLES = 1 << 3  # NFT_CTX_OUTPUT_HANDLE, libnftables(3)
DOCKER_CHAIN = "ip filter DOCKER-USER"


class NftablesError(RuntimeFailure):
    """The kernel or nft refused a rule."""


class Nftables:
    """Runs nft commands, each a transaction. For use by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        try:
            self._library = ctypes.CDLL("libnftables.so.1")
        except OSError:
            self._library = None
            if shutil.which("nft") is None:
                raise NftablesError("nftables is missing: install the package nftables") from None
            return
        self._library.nft_ctx_new.restype = ctypes.c_void_p
        self._library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
        self._library.nft_ctx_get_output_buffer.restype = ctypes.c_char_p
        self._context = ctypes.c_void_p(self._library.nft_ctx_new(0))
        self._library.nft_ctx_output_set_flags(self._context, WITH_HANDLES)
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)

    def close(self) -> None:
        """Give back the context and its netlink socket, which holds on to the network it was made in."""
        if self._library is not None:
            self._library.nft_ctx_free(self._context)
            self._library = None

    def run(self, commands: str) -> str:
        """Run commands as one transaction; what they print. Raises NftablesError with nft's words."""
        if self._library is None:
            done = subprocess.run(["nft", "-a", "-f", "-"], input=commands, capture_output=True, text=True)
            if done.returncode:
                raise NftablesError(done.stderr.strip())
            return done.stdout
        with self._lock:
            status = self._library.nft_run_cmd_from_buffer(self._context, commands.encode())
            output = self._library.nft_ctx_get_output_buffer(self._context) or b""
            error = self._library.nft_ctx_get_error_buffer(self._context) or b""
        if status:
            raise NftablesError(error.decode(errors="replace").strip())
        return output.decode(errors="replace")


class NodeRules:
    """The table of one node."""

    def __init__(
        self, nftables: Nftables, table: str, bridge: str, subnet: str, gateway: str = "", dns: str = ""
    ) -> None:
        self._nftables = nftables
        self._table = table
        self._bridge = bridge
        self._subnet = subnet
        self._resolver = RESOLVER.format(bridge=bridge, gateway=gateway, dns=dns) if dns else ""

    def ensure(self, published: list[tuple[str, HostPort]]) -> None:
        """Make the table anew, with these (address, port) pairs, in one transaction: no packet sees a gap."""
        commands = RULES.format(table=self._table, bridge=self._bridge, subnet=self._subnet, resolver=self._resolver)
        for address, port in published:
            commands += self._element("add", address, port)
        self._nftables.run(commands)
        self._let_through_docker()

    def publish(self, address: str, ports: list[HostPort]) -> None:
        """Send what comes to the host ports to the sandbox's address."""
        if ports:
            self._nftables.run("".join(self._element("add", address, port) for port in ports))

    def withdraw(self, address: str, ports: list[HostPort]) -> None:
        """Take the host ports back. No error when they are gone."""
        for port in ports:
            self._delete(self._element("delete", address, port))

    def remove(self) -> None:
        """Remove the table, and what was put into Docker's."""
        self._nftables.run(f"table ip {self._table}\ndelete table ip {self._table}\n")
        for line in self._docker_rules() or []:
            if f'"{self._bridge}"' in line:
                self._delete(f"delete rule {DOCKER_CHAIN} handle {line.rpartition('# handle ')[2]}")

    def _delete(self, command: str) -> None:
        """Delete what may be gone by now: whoever cleans up after a node, or an engine that starts, may be quicker."""
        try:
            self._nftables.run(command)
        except NftablesError as error:
            if "No such file" not in error.reason:
                raise

    def _element(self, verb: str, address: str, port: HostPort) -> str:
        value = f"{port.host_port} : {address} . {port.container_port}" if verb == "add" else f"{port.host_port}"
        return f"{verb} element ip {self._table} {port.protocol}_ports {{ {value} }}\n"

    def _let_through_docker(self) -> None:
        """A Docker engine on this machine drops what it does not forward itself; DOCKER-USER is where it
        lets others in."""
        rules = self._docker_rules()
        if rules is None or any(f'"{self._bridge}"' in line for line in rules):
            return
        ways = [f'insert rule {DOCKER_CHAIN} {way} "{self._bridge}" accept\n' for way in ("iifname", "oifname")]
        self._nftables.run("".join(ways))

    def _docker_rules(self) -> list[str] | None:
        try:
            return self._nftables.run(f"list chain {DOCKER_CHAIN}").splitlines()
        except NftablesError:
            return None
