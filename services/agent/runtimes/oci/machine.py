"""What this machine, and this process on it, can give to a container."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

from services.agent.ports import CannotCreateContainerError, ContainerSpec

# linux/capability.h, in the order of their bits.
_NAMES = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT
SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP
MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
DESCRIPTORS = 65535
CAPABILITIES = [f"CAP_{name}" for name in _NAMES.split()]


def check_ulimits(wanted: ContainerSpec, bounding: frozenset[str]) -> None:
    """Only CAP_SYS_RESOURCE may raise a hard limit (setrlimit(2)): say so before runc fails with an errno."""
    for each in wanted.ulimits:
        kind = getattr(resource, f"RLIMIT_{each.name.upper()}", None)
        if kind is None:
            raise CannotCreateContainerError(f"unknown ulimit {each.name!r}")
        most = resource.getrlimit(kind)[1]
        above = most != resource.RLIM_INFINITY and (each.hard < 0 or each.hard > most)
        if above and "CAP_SYS_RESOURCE" not in bounding:
            raise CannotCreateContainerError(
                f"ulimit {each.name}={each.soft}:{each.hard} is above this node's hard limit {most}, and the agent "
                "has no CAP_SYS_RESOURCE to raise it"
            )


def raise_descriptor_limit() -> None:
    """A container takes this process a few descriptors, and a login's soft limit is 1,024. Containers inherit it; it is
    also Fargate's default for them (ECS API reference, Ulimit)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def signal_number(name: str) -> int:
    """`SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`; SIGTERM when empty. Raises CannotCreateContainerError."""
    text = name.upper() or "SIGTERM"
    if text.isdigit() and 0 < int(text) < signal.NSIG:
        return int(text)
    base, plus, more = text.partition("+")
    found = getattr(signal, base if base.startswith("SIG") else f"SIG{base}", None)
    if not isinstance(found, int) or base.startswith("SIG_") or (plus and not more.isdigit()):
        raise CannotCreateContainerError(f"unknown stop signal {name!r}")
    return int(found) + int(more or 0)


def bounding_capabilities() -> frozenset[str]:
    """The capabilities this process can give, by name; what the kernel has beyond the names is left out."""
    text = Path("/proc/self/status").read_text()
    mask = int(next(line for line in text.splitlines() if line.startswith("CapBnd:")).split()[1], 16)
    return frozenset(name for bit, name in enumerate(CAPABILITIES) if mask >> bit & 1)


def traffic(pid: int) -> tuple[int, int]:
    """Bytes received and sent by the interfaces of a process' network, lo left out."""
    received = sent = 0
    for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]:
        name, _, counters = line.partition(":")
        if name.strip() != "lo":
            fields = counters.split()
            received, sent = received + int(fields[0]), sent + int(fields[8])
    return received, sent


def devices() -> list[dict]:
    """The node's devices, for a privileged container."""
    found = []
    for top, directories, names in os.walk("/dev"):
        directories[:] = [name for name in directories if name not in ("pts", "shm", "mqueue", "fd")]
        for name in names:
            if name not in ("console", "ptmx", "null", "zero", "full", "random", "urandom", "tty"):
                found += [device for device in (_device(os.path.join(top, name)),) if device is not None]
    return found


def devices_at(paths: list[str]) -> list[dict]:
    """The node's devices at these paths. Raises CannotCreateContainerError for what is none."""
    found = []
    for path in paths:
        try:
            device = _device(path)
        except OSError as error:
            raise CannotCreateContainerError(f"device {path}: {error.strerror}") from None
        if device is None:
            raise CannotCreateContainerError(f"device {path}: it is no device file")
        found.append(device)
    return found


def _device(path: str) -> dict | None:
    status = os.lstat(path)
    kind = {0o020000: "c", 0o060000: "b"}.get(status.st_mode & 0o170000)
    if kind is None:
        return None
    number = {"major": os.major(status.st_rdev), "minor": os.minor(status.st_rdev)}
    owner = {"fileMode": status.st_mode & 0o777, "uid": status.st_uid, "gid": status.st_gid}
    return {"path": path, "type": kind, **number, **owner}
