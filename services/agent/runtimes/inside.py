"""Sockets inside a task's network that take no port away from the task.

A socket has a port of its own, and a rule of the task's network sends what goes to the asked-for port there: so a
container may listen on 0.0.0.0:80 while the metadata endpoint answers at 169.254.170.2:80. About 0.7 ms.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from services.agent.ports import RuntimeFailure

_LOOPBACK = 1
# Letting go of nftables waits 10 to 20 ms for all processors to forget it: nothing that a start has to wait for.
_closers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nftables-close")
_TABLE = """
table ip roadstead_{port}
delete table ip roadstead_{port}
table ip roadstead_{port} {{
  chain output {{
    type nat hook output priority -100; policy accept;
    {rules}
  }}
}}
"""
_RULE = "ip daddr {address} {protocol} dport {port} dnat to {address}:{own_port}"
_TYPES = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


def listen_inside(
    enter: Callable[[], None], address: str, port: int, protocols: Sequence[str] = ("tcp",)
) -> list[socket.socket]:
    """A socket a protocol (tcp: listening, udp) that only this network reaches, at address:port; the address is put on
    its loopback.

    `enter` moves the calling thread into the network. Raises RuntimeFailure.
    """
    # Here, because the oci runtime imports this module while it is imported itself, and docker without it.
    from services.agent.runtimes.oci import netlink, nftables, syscalls

    def work() -> list[socket.socket]:
        enter()
        with netlink.Netlink() as links:
            links.add_address(_LOOPBACK, address, 32)
        opened: list[socket.socket] = []
        try:
            opened += (_open(address, protocol) for protocol in protocols)
            rules = "\n    ".join(
                _RULE.format(address=address, protocol=protocol, port=port, own_port=each.getsockname()[1])
                for protocol, each in zip(protocols, opened, strict=True)
            )
            tables = nftables.Nftables()
            try:
                tables.run(_TABLE.format(port=port, rules=rules))
            finally:
                close_later(tables)
        except BaseException:
            for each in opened:
                each.close()
            raise
        return opened

    try:
        return syscalls.in_thread(work)
    except OSError as error:
        raise RuntimeFailure(f"cannot listen at {address}:{port} inside the task: {error}") from error


def close_later(tables: Any) -> None:
    """Let go of nftables, without waiting for it."""
    _closers.submit(tables.close)


def _open(address: str, protocol: str) -> socket.socket:
    opened = socket.socket(socket.AF_INET, _TYPES[protocol])
    try:
        opened.bind((address, 0))
        # Linux takes what is sent to any of its addresses on every interface: a neighbour need only send it.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        if protocol == "tcp":
            opened.listen(64)
        opened.setblocking(False)
    except BaseException:
        opened.close()
        raise
    return opened
