"""What the agent and its runtimes speak of: images, sandboxes, containers, as plain values. The port that moves them is
services/agent/ports.py.
"""

from __future__ import annotations

import msgspec


class RegistryAuth(msgspec.Struct, frozen=True):
    """How to log in to the registry that an image is pulled from. `insecure` allows plain HTTP."""

    username: str = ""
    password: str = ""
    insecure: bool = False


class Image(msgspec.Struct, frozen=True):
    """An image that is on this node, ready to start. `digest` is the manifest's."""

    reference: str
    digest: str
    size_bytes: int
    entry_point: list[str] = []
    command: list[str] = []
    environment: dict[str, str] = {}
    working_directory: str = ""
    user: str = ""
    stop_signal: str = ""


class HostPort(msgspec.Struct, frozen=True):
    """A container port that is reachable on the node. `host_port` 0 in a request: choose a free one."""

    container_port: int
    host_port: int = 0
    protocol: str = "tcp"
    container_name: str = ""


class SandboxSpec(msgspec.Struct, frozen=True):
    """The network (and cgroup) that the containers of one task share.

    network_mode: `awsvpc` own IP, no host ports; `bridge` own IP behind host ports; `host`; `none`.
    cpu_units and memory_mib bound the task as a whole (0: no bound); with a bound of memory, swap_mib (MiB) may be used
    beyond it. labels come back from `sandboxes()`.

    pid_mode, ipc_mode: `task` one namespace for all containers, `host` the node's own, empty or `none` one for each.
    shared_memory_mib is the size of the /dev/shm that containers with ipc_mode task share (0: 64).
    """

    id: str
    hostname: str = ""
    network_mode: str = "awsvpc"
    ports: list[HostPort] = []
    cpu_units: int = 0
    memory_mib: int = 0
    dns_servers: list[str] = []
    dns_search: list[str] = []
    extra_hosts: dict[str, str] = {}
    labels: dict[str, str] = {}
    pid_mode: str = ""
    ipc_mode: str = ""
    shared_memory_mib: int = 0
    swap_mib: int = 0


class Sandbox(msgspec.Struct, frozen=True):
    """A sandbox that stands. `ports` has the host ports that were chosen."""

    id: str
    ip_address: str = ""
    mac_address: str = ""
    gateway: str = ""
    subnet_cidr: str = ""
    network_mode: str = "awsvpc"
    ports: list[HostPort] = []
    labels: dict[str, str] = {}


class PacketRule(msgspec.Struct, frozen=True):
    """What is let through: packets of a protocol (tcp, udp, icmp, a number, -1 for all) from, or to, the IPv4 block
    `cidr` or, if `members` names a set of addresses, these. first and last are ports of tcp and udp, type and code of
    icmp (-1: any)."""

    protocol: str
    first: int = -1
    last: int = -1
    cidr: str = "0.0.0.0/0"
    members: str = ""


class PacketRules(msgspec.Struct, frozen=True):
    """All that is let into and out of a sandbox, beside what answers it. `members` has the addresses of each set."""

    ingress: list[PacketRule] = []
    egress: list[PacketRule] = []
    members: dict[str, list[str]] = {}


class Mount(msgspec.Struct, frozen=True):
    """`source` is a path on the node (kind bind), a volume's name (kind volume) or unused (tmpfs)."""

    target: str
    source: str = ""
    kind: str = "bind"
    read_only: bool = False
    options: list[str] = []


class Ulimit(msgspec.Struct, frozen=True):
    """As in setrlimit: name without RLIMIT_ in lower case (nofile, nproc, core, …)."""

    name: str
    soft: int
    hard: int


class ContainerSpec(msgspec.Struct, frozen=True):
    """One container, all defaults of its image already known to the runtime (it merges, as docker run does).

    entry_point / command None: the image's; an entry_point given drops the image's command.
    memory_mib is the hard limit (0: none), memory_reservation_mib the soft one; cpu_units become shares
    (and a quota when cpu_quota is true). stop_timeout_s: seconds between SIGTERM and SIGKILL. `devices` are paths of
    the node's device files that it has at the same paths. max_swap_mib is the swap beyond memory_mib, which it needs
    (None: what the runtime gives); swappiness, 0 to 100, goes with it.
    """

    id: str
    name: str
    image: Image
    entry_point: list[str] | None = None
    command: list[str] | None = None
    environment: dict[str, str] = {}
    working_directory: str | None = None
    user: str | None = None
    mounts: list[Mount] = []
    ulimits: list[Ulimit] = []
    cpu_units: int = 0
    cpu_quota: bool = False
    memory_mib: int = 0
    memory_reservation_mib: int = 0
    readonly_root_filesystem: bool = False
    privileged: bool = False
    init: bool = False
    tty: bool = False
    interactive: bool = False
    cap_add: list[str] = []
    cap_drop: list[str] = []
    shared_memory_mib: int = 0
    sysctls: dict[str, str] = {}
    stop_signal: str = ""
    devices: list[str] = []
    max_swap_mib: int | None = None
    swappiness: int | None = None
    labels: dict[str, str] = {}


class Exit(msgspec.Struct, frozen=True):
    """How a container ended. `code` is 128 + the signal's number when a signal ended it."""

    code: int
    oom_killed: bool
    finished_at: float
    started_at: float = 0.0


class Container(msgspec.Struct, frozen=True):
    """A container as the runtime has it now. state: created | running | exited."""

    id: str
    name: str
    sandbox_id: str
    state: str
    started_at: float = 0.0
    exit: Exit | None = None
    labels: dict[str, str] = {}


class ExecResult(msgspec.Struct, frozen=True):
    """A command that was run inside a container. Exit code 124 with timed_out when it had to be killed."""

    exit_code: int
    output: bytes
    timed_out: bool = False


class LogLine(msgspec.Struct, frozen=True):
    """One line a container wrote. `cursor` goes back into `logs(after=…)` to continue behind it."""

    time: float
    stream: str
    text: str
    cursor: str


class Stats(msgspec.Struct, frozen=True):
    """What a container has used: cpu in nanoseconds since it started, memory and network in bytes."""

    time: float
    cpu_ns: int
    memory_bytes: int
    memory_limit_bytes: int
    network_rx_bytes: int
    network_tx_bytes: int
