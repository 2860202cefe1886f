"""Control groups, version 1 (one tree a controller), version 2 (one tree), or both mixed.

runc makes the containers' groups; here are the groups above them (one a task, with the task's limits), the counters,
and the cleaning up. Paths are absolute from the root of a hierarchy: `/roadstead/<node>/<sandbox>/<container>`.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
CONTROLLERS = ("cpu", "memory", "pids", "io")
PERIOD_US = 100_000
UNLIMITED = 1 << 62


@dataclass(frozen=True)
class Usage:
    """CPU time in nanoseconds; memory in use without what the page cache could give back; the limit or 0."""

    cpu_ns: int
    memory_bytes: int
    memory_limit_bytes: int


class Cgroups:
    """The hierarchies of this machine."""

    def __init__(self, root: Path = ROOT) -> None:
        self.unified = (root / "cgroup.controllers").exists()
        self._root = root
        # A link (cpu -> cpu,cpuacct) is a second name for a hierarchy that is listed already.
        names = [] if self.unified or not root.is_dir() else sorted(os.listdir(root))
        self._trees = [root] if self.unified else [root / n for n in names if not (root / n).is_symlink()]

    def make(self, path: str, cpu_units: int, memory_mib: int, swap_mib: int = 0) -> None:
        """A group with limits (0: none) under which containers' groups are made; swap_mib comes on top of a limit of
        memory. Raises OSError."""
        if self.unified:
            self._delegate(path)
        limits: list[tuple[str, str, int]] = []
        if cpu_units:
            quota = max(1000, cpu_units * PERIOD_US // 1024)
            limits.append(("cpu", "cpu.max", quota) if self.unified else ("cpu", "cpu.cfs_quota_us", quota))
        if memory_mib:
            name = "memory.max" if self.unified else "memory.limit_in_bytes"
            limits.append(("memory", name, memory_mib << 20))
        for controller, name, value in limits:
            directory = self._directory(controller, path)
            directory.mkdir(parents=True, exist_ok=True)
            (directory / name).write_text(f"{value} {PERIOD_US}" if name == "cpu.max" else str(value))
        if memory_mib:
            self._bound_swap(path, memory_mib, swap_mib)

    def _bound_swap(self, path: str, memory_mib: int, swap_mib: int) -> None:
        """A memory limit that swap can stretch beyond what was asked for is none."""
        file = self._swap_file(path)
        if file.exists():
            file.write_text(str((swap_mib if self.unified else memory_mib + swap_mib) << 20))

    def bounds_swap(self, path: str) -> bool:
        """Whether the kernel can bound the swap of a group's processes (CONFIG_SWAP; not `swapaccount=0`)."""
        return self._swap_file(path).exists()

    def _swap_file(self, path: str) -> Path:
        if self.unified:
            return self._directory("memory", path) / "memory.swap.max"
        # Version 1 has it at the root, too, and there a group without a limit has no directory yet.
        directory = self._directory("memory", path)
        return (directory if directory.exists() else self._directory("memory", "")) / "memory.memsw.limit_in_bytes"

    def _delegate(self, path: str) -> None:
        """Version 2: every group on the way hands its controllers down (cgroup-v2.rst, Top-down Constraint)."""
        directory = self._root
        for part in path.strip("/").split("/"):
            available = (directory / "cgroup.controllers").read_text().split()
            wanted = " ".join(f"+{name}" for name in CONTROLLERS if name in available)
            self._hand_down(directory, wanted)
            directory /= part
            directory.mkdir(exist_ok=True)
        available = (directory / "cgroup.controllers").read_text().split()
        self._hand_down(directory, " ".join(f"+{name}" for name in CONTROLLERS if name in available))

    def _hand_down(self, directory: Path, wanted: str) -> None:
        control = directory / "cgroup.subtree_control"
        if set(wanted.replace("+", "").split()) <= set(control.read_text().split()):
            return
        try:
            control.write_text(wanted)
        except OSError as error:
            if error.errno != 16 or directory != self._root:  # EBUSY: processes live in the inner node
                raise
            # The root of a container's own hierarchy is no real root: its processes must live in a leaf.
            leaf = directory / "init"
            leaf.mkdir(exist_ok=True)
            for pid in (directory / "cgroup.procs").read_text().split():
                try:
                    (leaf / "cgroup.procs").write_text(pid)
                except OSError:
                    continue  # it ended meanwhile, or is the kernel's
            control.write_text(wanted)

    def adopt(self, path: str, pid: int) -> None:
        """Put a process where a service manager that stops the agent's group does not find it."""
        tree = self._root if self.unified else self._root / "systemd"
        if not tree.is_dir():
            return
        try:
            (tree / path.strip("/")).mkdir(parents=True, exist_ok=True)
            (tree / path.strip("/") / "cgroup.procs").write_text(str(pid))
        except OSError:
            return  # the process lives as well where it is

    def end(self, path: str, deadline_s: float = 2.0) -> None:
        """Kill what still runs in a group and those below; until the deadline, since it may be forking."""
        until = time.monotonic() + deadline_s
        for directory, _, _ in os.walk(self._directory("memory", path)):
            while _kill_all(Path(directory, "cgroup.procs")) and time.monotonic() < until:
                time.sleep(0.002)

    def remove(self, path: str, deadline_s: float = 2.0) -> None:
        """Remove a group and those below, in every hierarchy. The kernel frees a group a moment after its
        last process, so this tries until the deadline."""
        until = time.monotonic() + deadline_s
        for tree in self._trees:
            top = tree / path.strip("/")
            for directory, _, _ in os.walk(top, topdown=False):
                while not _rmdir(directory) and time.monotonic() < until:
                    time.sleep(0.002)

    def children(self, path: str) -> set[str]:
        """The names of the groups below, in any hierarchy."""
        found: set[str] = set()
        for tree in self._trees:
            try:
                found.update(entry.name for entry in os.scandir(tree / path.strip("/")) if entry.is_dir())
            except FileNotFoundError:
                continue
        return found

    def oom_kills(self, path: str) -> int:
        """How many processes of the group were ended for lack of memory."""
        name = "memory.events" if self.unified else "memory.oom_control"
        return _field(self._directory("memory", path) / name, "oom_kill")

    def usage(self, path: str) -> Usage:
        """Raises FileNotFoundError when the group is gone."""
        memory = self._directory("memory", path)
        if self.unified:
            cpu = _field(memory / "cpu.stat", "usage_usec") * 1000
            used = int((memory / "memory.current").read_text())
            limit = (memory / "memory.max").read_text().strip()
            cache = _field(memory / "memory.stat", "inactive_file")
            return Usage(cpu, max(0, used - cache), 0 if limit == "max" else int(limit))
        cpu = int((self._directory("cpuacct", path) / "cpuacct.usage").read_text())
        used = int((memory / "memory.usage_in_bytes").read_text())
        bound = int((memory / "memory.limit_in_bytes").read_text())
        cache = _field(memory / "memory.stat", "total_inactive_file")
        return Usage(cpu, max(0, used - cache), bound if bound < UNLIMITED else 0)

    def _directory(self, controller: str, path: str) -> Path:
        tree = self._root if self.unified else self._root / controller
        return tree / path.strip("/")


def _processes(file: Path) -> set[int]:
    try:
        return {int(pid) for pid in file.read_text().split()}
    except OSError:  # the group is gone, or has no processes of its own
        return set()


def _kill_all(file: Path) -> bool:
    """Whether there was something to kill. A process is held by its pidfd and looked for in the group again before it
    is killed: its number may have become another's."""
    held: dict[int, int] = {}
    try:
        for pid in _processes(file):
            with contextlib.suppress(ProcessLookupError):
                held[pid] = os.pidfd_open(pid)
        for pid in held.keys() & _processes(file):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(held[pid], signal.SIGKILL)
    finally:
        for descriptor in held.values():
            os.close(descriptor)
    return bool(held)


def _rmdir(directory: str) -> bool:
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _field(file: Path, name: str) -> int:
    try:
        found = re.search(rf"^{name} (\d+)$", file.read_text(), re.MULTILINE)
    except (FileNotFoundError, OSError):
        return 0
    return int(found.group(1)) if found else 0
