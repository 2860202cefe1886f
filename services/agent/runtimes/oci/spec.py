"""The OCI runtime configuration (config.json) of a container: pure, from values to a dictionary.

Defaults are Docker's: namespaces, mounts, masked paths, devices, capabilities, seccomp
(https://github.com/opencontainers/runtime-spec/blob/main/config.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from services.agent.ports import CannotCreateContainerError, ContainerSpec, Mount
from services.agent.runtimes.oci import seccomp
from services.agent.runtimes.oci.rootfs import User

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_CAPABILITIES = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
]
MASKED = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
]
READ_ONLY = [f"/proc/{name}" for name in ["bus", "fs", "irq", "sys", "sysrq-trigger"]]
INIT_PATH = "/sbin/docker-init"
TTY_DEVICE = {"allow": True, "type": "c", "major": 5, "minor": 1, "access": "rwm"}
MAY_MKNOD = [{"allow": True, "type": kind, "access": "m"} for kind in "cb"]
PTY_DEVICE = {"allow": True, "type": "c", "major": 136, "access": "rwm"}


@dataclass(frozen=True)
class Surroundings:
    """What a container is put into. `mounts` have their sources on the node; `files` are bound by target;
    `namespace` is the network's path, empty for the node's own; `bounding` are the capabilities this process
    can give; `init` is the path of an init on the node. `joined` are paths of namespaces, by kind (pid, ipc), that are
    not the container's own, empty for the node's; `shared_memory` is the node's directory that is its /dev/shm, empty
    for one of its own; `swappiness` says whether groups here know the word."""

    user: User
    hostname: str
    namespace: str
    cgroup: str
    cgroup_namespace: bool
    mounts: list[tuple[Mount, str]] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    bounding: frozenset[str] = frozenset()
    init: str = ""
    seccomp: bool = True
    devices: list[dict[str, Any]] = field(default_factory=list)
    joined: dict[str, str] = field(default_factory=dict)
    shared_memory: str = ""
    swappiness: bool = True


def configuration(spec: ContainerSpec, around: Surroundings) -> dict[str, Any]:
    """config.json. Raises CannotCreateContainerError for what cannot be written down."""
    capabilities = effective_capabilities(spec, around.bounding)
    root_filesystem = {"path": "rootfs", "readonly": spec.readonly_root_filesystem}
    linux: dict[str, Any] = {
        "cgroupsPath": around.cgroup,
        "namespaces": _namespaces(around),
        "resources": _resources(spec, around),
        "maskedPaths": [] if spec.privileged else MASKED,
        "readonlyPaths": [] if spec.privileged else READ_ONLY,
        "sysctl": dict(spec.sysctls),
    }
    if around.devices:
        linux["devices"] = around.devices
    if not spec.privileged and around.seccomp:
        profile = seccomp.profile(capabilities)
        if profile is not None:
            linux["seccomp"] = profile
    return {
        "ociVersion": "1.0.2",
        "process": process(spec, around, capabilities),
        "root": root_filesystem,
        "hostname": around.hostname,
        "mounts": _mounts(spec, around),
        "linux": linux,
    }


def arguments(spec: ContainerSpec) -> list[str]:
    """Entry point and command, merged as docker run does."""
    if spec.entry_point is not None:
        merged = [*spec.entry_point, *(spec.command or [])]
    else:
        merged = [*spec.image.entry_point, *(spec.image.command if spec.command is None else spec.command)]
    if not merged:
        raise CannotCreateContainerError("no command specified")
    return merged


def environment(spec: ContainerSpec, hostname: str) -> list[str]:
    """The image's variables under the container's, and what docker run adds."""
    merged = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname}
    if spec.tty:
        merged["TERM"] = "xterm"
    merged |= spec.image.environment | spec.environment
    return [f"{key}={value}" for key, value in merged.items()]


def process(spec: ContainerSpec, around: Surroundings, capabilities: list[str]) -> dict[str, Any]:
    """The `process` of the configuration."""
    given = capabilities if around.user.uid == 0 else []
    init = [INIT_PATH, "--"] if around.init else []
    return {
        "terminal": spec.tty,
        "user": {"uid": around.user.uid, "gid": around.user.gid, "additionalGids": list(around.user.groups)},
        "args": init + arguments(spec),
        "env": environment(spec, around.hostname),
        "cwd": working_directory(spec),
        "capabilities": {"bounding": capabilities, "effective": given, "permitted": given},
        "rlimits": [
            {"type": f"RLIMIT_{each.name.upper()}", "soft": _limit(each.soft), "hard": _limit(each.hard)}
            for each in spec.ulimits
        ],
        "noNewPrivileges": False,
        "oomScoreAdj": 0,
    }


def working_directory(spec: ContainerSpec) -> str:
    """Absolute; `/` when neither the container nor its image says."""
    wanted = (spec.image.working_directory if spec.working_directory is None else spec.working_directory) or "/"
    if not wanted.startswith("/"):
        raise CannotCreateContainerError(f"the working directory {wanted!r} is invalid: it must be an absolute path")
    return wanted


def effective_capabilities(spec: ContainerSpec, bounding: frozenset[str]) -> list[str]:
    """Docker's defaults, plus, minus; never what this process itself does not have."""
    if spec.privileged:
        return sorted(bounding)
    added = {_capability(name) for name in spec.cap_add}
    dropped = {_capability(name) for name in spec.cap_drop}
    kept = set() if "CAP_ALL" in dropped else set(DEFAULT_CAPABILITIES)
    kept |= bounding if "CAP_ALL" in added else added
    missing = (added - {"CAP_ALL"}) - bounding
    if missing and bounding:
        raise CannotCreateContainerError(f"this node cannot give {', '.join(sorted(missing))}")
    return sorted((kept - dropped) & bounding if bounding else kept - dropped)


def _capability(name: str) -> str:
    upper = name.upper()
    return upper if upper.startswith("CAP_") else f"CAP_{upper}"


def _limit(value: int) -> int:
    return (1 << 64) - 1 if value < 0 else value


def _namespaces(around: Surroundings) -> list[dict[str, str]]:
    found = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount") if kind not in around.joined]
    found += [{"type": kind, "path": path} for kind, path in around.joined.items() if path]
    if around.namespace:
        found.append({"type": "network", "path": around.namespace})
    if around.cgroup_namespace:
        found.append({"type": "cgroup"})
    return found


def _resources(spec: ContainerSpec, around: Surroundings) -> dict[str, Any]:
    cpu: dict[str, int] = {}
    if spec.cpu_units:
        cpu["shares"] = max(2, spec.cpu_units)
        if spec.cpu_quota:
            cpu |= {"quota": max(1000, spec.cpu_units * 100_000 // 1024), "period": 100_000}
    memory: dict[str, int] = {}
    if spec.memory_mib:
        memory["limit"] = spec.memory_mib << 20
    if spec.memory_reservation_mib:
        memory["reservation"] = spec.memory_reservation_mib << 20
    if spec.memory_mib and spec.max_swap_mib is not None:
        # Memory and swap together, for either version of control groups (runtime-spec, config-linux.md, Memory).
        memory["swap"] = (spec.memory_mib + spec.max_swap_mib) << 20
        if spec.swappiness is not None and around.swappiness:
            memory["swappiness"] = spec.swappiness
    if spec.privileged:
        devices = [{"allow": True, "access": "rwm"}]
    else:
        devices = [{"allow": False, "access": "rwm"}, *MAY_MKNOD, TTY_DEVICE, PTY_DEVICE]
        numbers = ("type", "major", "minor")
        devices += [{"allow": True, "access": "rwm", **{name: one[name] for name in numbers}} for one in around.devices]
    return {"devices": devices, "cpu": cpu, "memory": memory}


def _mounts(spec: ContainerSpec, around: Surroundings) -> list[dict[str, Any]]:
    system = ["rw"] if spec.privileged else ["ro"]
    guarded = ["nosuid", "noexec", "nodev"]
    found = [
        _mount("/proc", "proc", "proc", guarded),
        _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount(
            "/dev/pts", "devpts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
        ),
        _mount("/sys", "sysfs", "sysfs", [*guarded, *system]),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", [*guarded, "relatime", *system]),
        _mount("/dev/mqueue", "mqueue", "mqueue", guarded),
        _shared_memory(spec, around, guarded),
    ]
    found += [_mount(target, "bind", source, ["rbind", "rprivate"]) for target, source in around.files.items()]
    if around.init:
        found.append(_mount(INIT_PATH, "bind", around.init, ["bind", "ro"]))
    # Parents before children, whatever the order they were given in.
    for mount, source in sorted(around.mounts, key=lambda each: each[0].target.count("/")):
        found = [each for each in found if each["destination"] != mount.target]
        found.append(_given(mount, source))
    return found


def _shared_memory(spec: ContainerSpec, around: Surroundings, guarded: list[str]) -> dict[str, Any]:
    if around.shared_memory:
        return _mount("/dev/shm", "bind", around.shared_memory, ["rbind", "rprivate", *guarded])
    return _mount("/dev/shm", "tmpfs", "shm", [*guarded, "mode=1777", f"size={spec.shared_memory_mib or 64}m"])


def _given(mount: Mount, source: str) -> dict[str, Any]:
    access = ["ro"] if mount.read_only else ["rw"]
    if mount.kind == "tmpfs":
        return _mount(mount.target, "tmpfs", "tmpfs", ["nosuid", "nodev", "noexec", *access, *mount.options])
    return _mount(mount.target, "bind", source, ["rbind", "rprivate", *access, *mount.options])


def _mount(target: str, kind: str, source: str, options: list[str]) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": source, "options": options}
