"""The sandboxes of a node: what the containers of one task share. All calls block: run them in threads."""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import threading
from pathlib import Path

import msgspec

from services.agent.ports import HostPort, NoSuchContainer, PacketRules, RuntimeFailure, Sandbox, SandboxSpec
from services.agent.runtimes.oci import records, syscalls
from services.agent.runtimes.oci.addresses import HostPorts
from services.agent.runtimes.oci.cgroups import Cgroups
from services.agent.runtimes.oci.holders import Holders
from services.agent.runtimes.oci.network import Network, host_address, mac_of
from services.agent.runtimes.oci.records import SANDBOX, SandboxRecord
from services.agent.runtimes.packets import Tables

FILES = {"/etc/hosts": "hosts", "/etc/resolv.conf": "resolv.conf", "/etc/hostname": "hostname"}
WITH_ADDRESS = ("awsvpc", "bridge")
TASK, HOST = "task", "host"
SHARED_MEMORY_MIB = 64


class Sandboxes:
    """Made, found again, removed. `cgroup` is the group of the node."""

    def __init__(
        self, directory: Path, network: Network, ports: HostPorts, cgroups: Cgroups, cgroup: str, holders: Holders
    ) -> None:
        self._directory = directory
        self._network = network
        self._ports = ports
        self._cgroups = cgroups
        self._cgroup = cgroup
        self._holders = holders
        self._boot = syscalls.boot_id()
        self._lock = threading.Lock()
        self._standing: dict[str, SandboxRecord] = {}

    def start(self) -> None:
        """Find what stands, and bring bridge and rules in line with it."""
        self._directory.mkdir(parents=True, exist_ok=True)
        for entry in os.scandir(self._directory):
            record = records.load(Path(entry.path, SANDBOX), SandboxRecord)
            if record is not None and record.boot == self._boot and self._stands(record.sandbox):
                self._standing[entry.name] = record
        self._network.start(self.all())

    def purge(self) -> None:
        """Remove what is half made or of another boot, after the containers that were in it."""
        for entry in os.scandir(self._directory):
            if entry.name not in self._standing:
                record = records.load(Path(entry.path, SANDBOX), SandboxRecord)
                self._clear(entry.name, record.sandbox if record else Sandbox(entry.name))
        names = set(self._standing)
        addresses = {record.sandbox.ip_address for record in self._standing.values() if record.sandbox.subnet_cidr}
        self._network.purge(names, addresses)
        self._ports.forget_but(names)
        for name in self._cgroups.children(self._cgroup) - names - {"keepers"}:
            self._cgroups.remove(self.cgroup(name))

    def all(self) -> list[Sandbox]:
        """What stands."""
        return [record.sandbox for record in list(self._standing.values())]

    def record(self, sandbox_id: str) -> SandboxRecord:
        """Raises NoSuchContainer."""
        try:
            return self._standing[sandbox_id]
        except KeyError:
            raise NoSuchContainer(f"no sandbox {sandbox_id} on this node") from None

    def create(self, spec: SandboxSpec) -> Sandbox:
        """See `Runtime.create_sandbox`."""
        records.checked_id(spec.id)
        if spec.id in self._standing:
            return self._standing[spec.id].sandbox
        sandbox = Sandbox(spec.id, network_mode=spec.network_mode, labels=dict(spec.labels))
        try:
            sandbox = self._with_network(spec)
            self._cgroups.make(self.cgroup(spec.id), spec.cpu_units, spec.memory_mib, spec.swap_mib)
            directory = self._directory / spec.id
            directory.mkdir(parents=True, exist_ok=True)
            self._write_files(directory, spec, sandbox)
            pid, ticks = self._share(directory, spec)
            record = SandboxRecord(spec, sandbox, self._boot, pid, ticks)
            records.save(directory / SANDBOX, record)
        except OSError as error:
            self._clear(spec.id, sandbox)
            raise RuntimeFailure(f"cannot make the sandbox of {spec.id}: {error}") from error
        except BaseException:
            self._clear(spec.id, sandbox)
            raise
        self._standing[spec.id] = record
        return sandbox

    def remove(self, sandbox_id: str) -> None:
        """Remove a sandbox that has no containers any more. No error when there is none."""
        record = self._standing.pop(sandbox_id, None)
        self._clear(sandbox_id, record.sandbox if record else Sandbox(sandbox_id))

    def cgroup(self, sandbox_id: str) -> str:
        """The group of a sandbox."""
        return f"{self._cgroup}/{sandbox_id}"

    def files(self, sandbox_id: str) -> dict[str, str]:
        """What is bound into each container, by target."""
        return {target: str(self._directory / sandbox_id / name) for target, name in FILES.items()}

    def namespace(self, sandbox_id: str) -> str:
        """The path of the network namespace; empty for the node's own."""
        return self._network_path(self.record(sandbox_id).spec)

    def joined(self, sandbox_id: str) -> dict[str, str]:
        """The paths of the namespaces that are not each container's own, by kind; empty for the node's."""
        record = self.record(sandbox_id)
        modes = {"pid": record.spec.pid_mode, "ipc": record.spec.ipc_mode}
        path = f"/proc/{record.holder_pid}/ns"
        return {kind: "" if mode == HOST else f"{path}/{kind}" for kind, mode in modes.items() if mode in (TASK, HOST)}

    def shared_memory(self, sandbox_id: str) -> str:
        """The directory that is every container's /dev/shm; empty when each has one of its own."""
        mode = self.record(sandbox_id).spec.ipc_mode
        return "/dev/shm" if mode == HOST else str(self._directory / sandbox_id / "shm") if mode == TASK else ""

    def shares_processes(self, sandbox_id: str) -> bool:
        """Whether a container's processes outlive its first one."""
        record = self._standing.get(sandbox_id)
        return record is not None and record.spec.pid_mode in (TASK, HOST)

    def holds(self, sandbox_id: str) -> bool:
        """Whether what the containers are to join is still there."""
        record = self.record(sandbox_id)
        return syscalls.start_ticks(record.holder_pid) == record.holder_ticks if record.holder_pid else True

    def holders(self) -> set[str]:
        """The containers that hold the namespaces of what stands, by runc's ids."""
        return {self._holders.name(name) for name, record in self._standing.items() if record.holder_pid}

    def _network_path(self, spec: SandboxSpec) -> str:
        return "" if spec.network_mode == "host" else str(self._network.namespace(spec.id))

    def _share(self, directory: Path, spec: SandboxSpec) -> tuple[int, int]:
        """Make what the containers share beside the network: the holder's pid and start time, 0 without one."""
        if spec.ipc_mode == TASK:
            (directory / "shm").mkdir()
            flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
            size = spec.shared_memory_mib or SHARED_MEMORY_MIB
            syscalls.mount("shm", directory / "shm", "tmpfs", flags, f"mode=1777,size={size}m")
        if TASK not in (spec.pid_mode, spec.ipc_mode):
            return 0, 0
        return self._holders.start(spec.id, directory, self._network_path(spec), self.cgroup(spec.id))

    def listen(self, sandbox: Sandbox, address: str, port: int) -> list[socket.socket]:
        """See `Runtime.listen`. In host mode everybody would reach it: none."""
        if sandbox.network_mode == "host":
            return []
        self.record(sandbox.id)
        return [self._network.listen(sandbox.id, address, port)]

    def protect(self, tables: Tables, sandbox: Sandbox, rules: PacketRules | None) -> None:
        """See `Runtime.protect`. Whom names may be asked stands in the file that the containers have."""
        self.record(sandbox.id)
        path = self._network.namespace(sandbox.id)
        text = (self._directory / sandbox.id / "resolv.conf").read_text()
        words = [line.split() for line in text.splitlines()]
        resolvers = [word[1] for word in words if word[0] == "nameserver" and ":" not in word[1]]
        try:
            tables.protect(sandbox.id, lambda: syscalls.enter_network(path), rules, resolvers)
        except OSError as error:
            raise RuntimeFailure(f"cannot enter the network of {sandbox.id}: {error}") from error

    def _with_network(self, spec: SandboxSpec) -> Sandbox:
        labels = dict(spec.labels)
        if spec.network_mode == "host":
            return Sandbox(spec.id, host_address(), network_mode="host", ports=_own(spec), labels=labels)
        if spec.network_mode == "none":
            self._network.create(spec.id, "")
            return Sandbox(spec.id, network_mode="none", labels=labels)
        if spec.network_mode not in WITH_ADDRESS:
            raise RuntimeFailure(f"unknown network mode {spec.network_mode!r}")
        with self._lock:
            address = self._network.addresses.take()
        ports = []
        try:
            ports = self._ports.take(spec.id, spec.ports) if spec.network_mode == "bridge" else []
            self._network.create(spec.id, address, hairpin=bool(ports))
            self._network.rules.publish(address, ports)
        except BaseException:
            self._give_back(spec.id, address, ports)
            raise
        mac = ":".join(f"{byte:02x}" for byte in mac_of(address))
        subnet, gateway = str(self._network.subnet), self._network.addresses.gateway
        return Sandbox(spec.id, address, mac, gateway, subnet, spec.network_mode, ports, labels)

    def _clear(self, sandbox_id: str, sandbox: Sandbox) -> None:
        directory = self._directory / sandbox_id
        (directory / SANDBOX).unlink(missing_ok=True)
        self._holders.end(sandbox_id, directory)
        syscalls.unmount(directory / "shm")
        if sandbox.network_mode != "host":
            self._give_back(sandbox_id, sandbox.ip_address, sandbox.ports)
        self._cgroups.remove(self.cgroup(sandbox_id))
        shutil.rmtree(directory, ignore_errors=True)

    def _give_back(self, sandbox_id: str, address: str, ports: list[HostPort]) -> None:
        if address:
            self._network.rules.withdraw(address, ports)
        self._ports.give_back(ports)
        self._network.remove(sandbox_id, address)
        if address:
            with self._lock:
                self._network.addresses.give_back(address)

    def _stands(self, sandbox: Sandbox) -> bool:
        return sandbox.network_mode == "host" or self._network.stands(sandbox.id)

    def _write_files(self, directory: Path, spec: SandboxSpec, sandbox: Sandbox) -> None:
        hostname = self.hostname(spec)
        texts = {
            "hostname": hostname + "\n",
            "hosts": _hosts(spec, sandbox, hostname),
            "resolv.conf": _resolver(spec, self._network.resolver),
        }
        for name, text in texts.items():
            (directory / name).write_text(text)
            (directory / name).chmod(0o644)  # for every user of a container, whatever the agent's umask

    @staticmethod
    def hostname(spec: SandboxSpec) -> str:
        """The name the containers see."""
        if spec.hostname:
            return spec.hostname
        return socket.gethostname() if spec.network_mode == "host" else spec.id[:63]


def _own(spec: SandboxSpec) -> list[HostPort]:
    """On the node's own network a container's port is the node's."""
    return [msgspec.structs.replace(port, host_port=port.container_port) for port in spec.ports]


def _hosts(spec: SandboxSpec, sandbox: Sandbox, hostname: str) -> str:
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    if spec.network_mode == "host":
        lines = _host_file("/etc/hosts").splitlines()
    elif sandbox.ip_address:
        lines.append(f"{sandbox.ip_address}\t{hostname}")
    lines += [f"{address}\t{name}" for name, address in spec.extra_hosts.items()]
    return "\n".join(lines) + "\n"


def _resolver(spec: SandboxSpec, own: str) -> str:
    if spec.network_mode == "none":
        return ""
    node = [line.split() for line in _host_file("/etc/resolv.conf").splitlines() if line.strip()]
    servers = spec.dns_servers or [words[1] for words in node if words[0] == "nameserver" and len(words) > 1]
    if not spec.dns_servers and own and spec.network_mode in WITH_ADDRESS:
        servers = [own]
    elif not spec.dns_servers and spec.network_mode != "host":
        # The node's own loopback is not the task's.
        servers = [server for server in servers if not _loopback(server)]
    search = spec.dns_search or next((words[1:] for words in node if words[0] == "search"), [])
    lines = [f"search {' '.join(search)}"] if search else []
    lines += [f"nameserver {server}" for server in servers]
    return "\n".join([*lines, ""])


def _loopback(server: str) -> bool:
    try:
        return ipaddress.ip_address(server.partition("%")[0]).is_loopback
    except ValueError:
        return True


def _host_file(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
