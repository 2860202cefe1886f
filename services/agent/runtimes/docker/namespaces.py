"""Sockets inside a task's network, where the agent may enter it: root on the engine's machine, seeing its processes."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from pathlib import Path

from services.agent.ports import PacketRules, RuntimeFailure
from services.agent.runtimes.docker import pause
from services.agent.runtimes.packets import Tables


def listen(pid: int, sandbox_id: str, address: str, port: int) -> list[socket.socket]:
    """A listening socket that the network of the pause process reaches at address:port; the address is put on its
    loopback, so nobody else does. Empty where the process or the packet rules are out of reach."""
    if not is_pause(pid, sandbox_id):
        return []
    from services.agent.runtimes.inside import listen_inside
    from services.agent.runtimes.oci.syscalls import enter_network

    with contextlib.suppress(RuntimeFailure):
        return listen_inside(lambda: enter_network(f"/proc/{pid}/ns/net"), address, port)
    return []


def protect(
    tables: Tables, pid: int, sandbox_id: str, rules: PacketRules | None, resolvers: Sequence[str] | None
) -> None:
    """Put rules in force in the network of the pause process. Blocks. Raises RuntimeFailure."""
    from services.agent.runtimes.oci.syscalls import enter_network

    try:
        tables.protect(sandbox_id, lambda: enter_network(f"/proc/{pid}/ns/net"), rules, resolvers)
    except OSError as error:
        raise RuntimeFailure(f"cannot enter the network of {sandbox_id}: {error}") from error


def is_pause(pid: int, sandbox_id: str) -> bool:
    """Whether this process is seen here, and is what holds the sandbox's network: a pid of another process namespace
    may be anybody's."""
    with contextlib.suppress(OSError):
        return pid > 1 and Path(f"/proc/{pid}/cmdline").read_bytes() == f"{pause.PROGRAM}\0{sandbox_id}\0".encode()
    return False
