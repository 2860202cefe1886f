"""The containers of a node: made, started, found again, ended, removed. All calls block: run them in threads."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

from services.agent.ports import (
    CannotCreateContainerError,
    CannotStartContainerError,
    ContainerSpec,
    ExecResult,
    Exit,
    NoSuchContainer,
    RuntimeFailure,
    Stats,
)
from services.agent.runtimes.oci import machine, records, rootfs, spec, syscalls
from services.agent.runtimes.oci.cgroups import Cgroups
from services.agent.runtimes.oci.commands import OciCommand
from services.agent.runtimes.oci.images.store import ImageStore
from services.agent.runtimes.oci.keeper import Keeper, Kept, Tools, reason_of
from services.agent.runtimes.oci.records import CONTAINER, ContainerRecord
from services.agent.runtimes.oci.sandboxes import Sandboxes

UNKNOWN_EXIT = 255  # what containerd, too, says of a container whose end nobody saw
RUNC_FAILED = 255
KILL_DEADLINE_S = 10.0


class Containers:
    """`key` names this node among those that share the image store."""

    def __init__(
        self,
        directory: Path,
        key: str,
        sandboxes: Sandboxes,
        images: ImageStore,
        cgroups: Cgroups,
        keeper: Keeper,
        tools: Tools,
        seccomp: bool,
    ) -> None:
        self.exits = directory / "exits"
        self._directory = directory / "containers"
        self._volumes = rootfs.Volumes(directory / "volumes")
        self._key = key
        self._sandboxes = sandboxes
        self._images = images
        self._cgroups = cgroups
        self._keeper = keeper
        self._tools = tools
        self._seccomp = seccomp
        self._bounding = machine.bounding_capabilities()
        self._records: dict[str, ContainerRecord] = {}
        self._numbers = itertools.count()
        self._saving = threading.Lock()

    def start(self) -> None:
        """Find the containers of the sandboxes that stand; remove the rest."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self.exits.mkdir(parents=True, exist_ok=True)
        standing = {sandbox.id for sandbox in self._sandboxes.all()}
        for entry in os.scandir(self._directory):
            record = records.load(Path(entry.path, CONTAINER), ContainerRecord)
            if record is None or record.sandbox_id not in standing:
                self._clear(entry.name, record)
            else:
                self._records[record.id] = record
                self._recover(record)
        for name in set(self._keeper.known()) - set(self._records) - self._sandboxes.holders():
            self._keeper.delete(name)
        for digest, owner in self._images.leases(f"{self._key}-"):
            if owner.removeprefix(f"{self._key}-") not in self._records:
                self._images.release(digest, owner)

    def record(self, container_id: str) -> ContainerRecord:
        """Raises NoSuchContainer."""
        try:
            return self._records[container_id]
        except KeyError:
            raise NoSuchContainer(f"no container {container_id} on this node") from None

    def of(self, sandbox_id: str) -> list[ContainerRecord]:
        """The containers of a sandbox, in the order they were made."""
        found = [record for record in list(self._records.values()) if record.sandbox_id == sandbox_id]
        return sorted(found, key=lambda record: record.created_at)

    def running(self) -> list[ContainerRecord]:
        """Those that were not seen to end."""
        return [record for record in list(self._records.values()) if record.state == "running"]

    def log(self, container_id: str) -> Path:
        """The log of a container."""
        return self._kept(self.record(container_id)).log

    def create(self, sandbox_id: str, wanted: ContainerSpec) -> None:
        """See `Runtime.create_container`."""
        records.checked_id(wanted.id)
        if wanted.id in self._records:
            return
        self._sandboxes.record(sandbox_id)
        directory = self._directory / wanted.id
        directory.mkdir(parents=True, exist_ok=True)
        record = ContainerRecord(
            id=wanted.id,
            name=wanted.name,
            sandbox_id=sandbox_id,
            image_digest=wanted.image.digest,
            created_at=time.time(),
            stop_signal=wanted.stop_signal or wanted.image.stop_signal,
            terminal=wanted.tty,
            interactive=wanted.interactive,
            labels=dict(wanted.labels),
        )
        try:
            machine.signal_number(record.stop_signal)
            stored = self._images.lease(wanted.image.digest, self._owner(wanted.id))
            rootfs.mount_overlay(self._images.layers, stored.layers, directory)
            configuration = self._configuration(sandbox_id, wanted, directory / "rootfs")
            (directory / "config.json").write_text(json.dumps(configuration))
            records.save(directory / CONTAINER, record)
        except OSError as error:
            self._clear(wanted.id, record)
            raise CannotCreateContainerError(f"cannot make {wanted.name}: {error}") from error
        except BaseException:
            self._clear(wanted.id, record)
            raise
        self._records[wanted.id] = record

    def launch(self, container_id: str) -> float:
        """See `Runtime.start_container`."""
        record = self.record(container_id)
        if record.state != "created":
            return record.started_at
        if not self._sandboxes.holds(record.sandbox_id):
            raise CannotStartContainerError("the process that holds the task's shared namespaces has ended")
        kept = self._kept(record)
        self._keeper.discard(kept)
        try:
            pid = self._keeper.create(kept)
            self._keeper.start(container_id)
            record = self._with_process(record, pid, time.time())
            self._save(record)
        except RuntimeFailure:
            self._keeper.discard(kept)
            raise
        return record.started_at

    def settle(self, container_id: str) -> Exit | None:
        """How a container ended, by its exit file; None while there is none. Written down once."""
        record = self.record(container_id)
        if record.exit is not None or not record.pid:
            return record.exit
        file = self.exits / container_id
        try:
            code, finished_at = int(file.read_text() or UNKNOWN_EXIT), file.stat().st_mtime
        except (FileNotFoundError, ValueError):
            return None
        killed = code != 0 and self._out_of_memory(record)
        if self._sandboxes.shares_processes(record.sandbox_id):
            self._cgroups.end(self._cgroup(record))
        ended = Exit(code, killed, finished_at, record.started_at)
        self._save(msgspec.structs.replace(record, exit=ended))
        return ended

    def keeper(self, container_id: str) -> int:
        """A pidfd of the keeper; -1 when it, or the container, is gone."""
        record = self._records.get(container_id)
        try:
            descriptor = os.pidfd_open(record.keeper_pid) if record and record.keeper_pid else -1
        except ProcessLookupError:
            return -1
        if record and descriptor >= 0 and not syscalls.start_ticks(record.keeper_pid) == record.keeper_ticks != 0:
            os.close(descriptor)
            return -1
        return descriptor

    def give_up(self, container_id: str) -> None:
        """The keeper is gone and left no exit file: end the container, whose output goes nowhere."""
        record = self.record(container_id)
        file = self.exits / container_id
        if record.state != "running" or file.exists():
            return
        if syscalls.start_ticks(record.keeper_pid) == record.keeper_ticks != 0:
            return
        killed = self.signal(container_id, signal.SIGKILL)
        fresh = file.with_name(f".{container_id}")
        fresh.write_text(str(128 + signal.SIGKILL if killed else UNKNOWN_EXIT))
        fresh.rename(file)

    def end_unstarted(self, container_id: str) -> Exit:
        """Stop what never ran: it has ended, and will not start."""
        record = self.record(container_id)
        ended = record.exit or Exit(0, False, time.time())
        self._save(msgspec.structs.replace(record, exit=ended))
        return ended

    def signal(self, container_id: str, number: int | None = None) -> bool:
        """Send a signal (by default its stop signal) to the container's first process; False when there is none.
        SIGKILL ends all of the container: the process is the init of a pid namespace, or `settle` ends the rest."""
        record = self.record(container_id)
        try:
            descriptor = os.pidfd_open(record.pid) if record.pid else -1
        except ProcessLookupError:
            return False
        try:
            if descriptor < 0 or not syscalls.start_ticks(record.pid) == record.pid_ticks != 0:
                return False
            signal.pidfd_send_signal(
                descriptor, machine.signal_number(record.stop_signal) if number is None else number
            )
        except ProcessLookupError:
            return False
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        return True

    def remove(self, container_id: str) -> None:
        """Remove a container, ending it when it runs. No error when there is none."""
        with self._saving:
            record = self._records.pop(container_id, None)
        self._clear(container_id, record)

    def exec(self, container_id: str, argv: list[str], timeout_s: float, environment: dict[str, str]) -> ExecResult:
        """See `Runtime.exec`."""
        file = self._process_file(container_id, {"terminal": False, "args": argv}, environment)
        pid_file = file.with_suffix(".pid")
        try:
            code, output, timed_out = self._keeper.exec(container_id, file, pid_file, timeout_s)
        finally:
            file.unlink(missing_ok=True)
            pid_file.unlink(missing_ok=True)
        if code == RUNC_FAILED and b"exec failed" in output:
            # As docker exec: 127 for what is not there, 126 for what cannot be run.
            reason = reason_of(output.decode(errors="replace"))
            code, output = (127 if "not found" in reason or "no such file" in reason else 126), reason.encode()
        return ExecResult(code, output, timed_out)

    def open_exec(self, container_id: str, argv: list[str], tty: bool, environment: dict[str, str]) -> OciCommand:
        """See `Runtime.open_exec`. The caller's loop follows it: `OciCommand.follow`."""
        root = {"uid": 0, "gid": 0, "umask": 0o22}
        file = self._process_file(container_id, {"terminal": tty, "args": argv, "user": root}, environment)
        line = self._keeper.exec_command(container_id, file, file.with_suffix(".pid"))
        return OciCommand(line, file, tty=tty)

    def _process_file(self, container_id: str, process: dict[str, Any], environment: dict[str, str]) -> Path:
        """Write an OCI process: the container's own, changed. Raises NoSuchContainer when it does not run."""
        if self.record(container_id).state != "running":
            raise NoSuchContainer(f"container {container_id} is not running")
        directory = self._directory / container_id
        own = json.loads((directory / "config.json").read_text())["process"]
        more = [f"{key}={value}" for key, value in environment.items()]
        file = directory / f"exec-{os.getpid()}-{next(self._numbers)}"
        file.write_text(json.dumps(own | process | {"env": own["env"] + more}))
        return file

    def stats(self, container_id: str) -> Stats:
        """See `Runtime.stats`."""
        record = self.record(container_id)
        try:
            if record.state != "running":
                raise FileNotFoundError
            usage = self._cgroups.usage(self._cgroup(record))
            received, sent = machine.traffic(record.pid)
        except (FileNotFoundError, ProcessLookupError):
            raise NoSuchContainer(f"container {container_id} is not running") from None
        limit = usage.memory_limit_bytes
        return Stats(time.time(), usage.cpu_ns, usage.memory_bytes, limit, received, sent)

    def usage(self, container_ids: list[str]) -> dict[str, Stats]:
        """See `Runtime.usage`: a few files of each, no process."""
        found: dict[str, Stats] = {}
        for container_id in container_ids:
            with contextlib.suppress(NoSuchContainer):
                found[container_id] = self.stats(container_id)
        return found

    def _configuration(self, sandbox_id: str, wanted: ContainerSpec, root: Path) -> dict:
        machine.check_ulimits(wanted, self._bounding)
        sandbox = self._sandboxes.record(sandbox_id)
        if wanted.init and not self._tools.init:
            raise CannotCreateContainerError("no init on this node: install tini or catatonit (or docker-init)")
        if wanted.max_swap_mib is not None and not self._cgroups.bounds_swap(self._sandboxes.cgroup(sandbox_id)):
            raise CannotCreateContainerError("this node's kernel does not bound swap by control groups (maxSwap)")
        user = rootfs.find_user(root, wanted.image.user if wanted.user is None else wanted.user)
        rootfs.make_working_directory(root, spec.working_directory(wanted))
        around = spec.Surroundings(
            user=user,
            hostname=self._sandboxes.hostname(sandbox.spec),
            namespace=self._sandboxes.namespace(sandbox_id),
            cgroup=f"{self._sandboxes.cgroup(sandbox_id)}/{wanted.id}",
            cgroup_namespace=self._cgroups.unified,
            mounts=[(mount, self._source(mount, root)) for mount in wanted.mounts],
            files=self._sandboxes.files(sandbox_id),
            bounding=self._bounding,
            init=self._tools.init if wanted.init else "",
            seccomp=self._seccomp,
            joined=self._sandboxes.joined(sandbox_id),
            shared_memory=self._sandboxes.shared_memory(sandbox_id),
            swappiness=not self._cgroups.unified,
            devices=machine.devices() if wanted.privileged else machine.devices_at(wanted.devices),
        )
        return spec.configuration(wanted, around)

    def _source(self, mount: spec.Mount, root: Path) -> str:
        if not mount.target.startswith("/"):
            raise CannotCreateContainerError(f"invalid mount target {mount.target!r}: it must be an absolute path")
        if mount.kind == "volume":
            return str(self._volumes.ensure(mount.source, root, mount.target))
        if mount.kind == "bind":
            rootfs.ensure_bind_source(mount.source)
        elif mount.kind != "tmpfs":
            raise CannotCreateContainerError(f"unknown kind of mount {mount.kind!r}")
        return mount.source

    def _recover(self, record: ContainerRecord) -> None:
        """An agent may have ended at any point of starting it: see how far it came."""
        kept = self._kept(record)
        if record.state != "created" or not kept.pid_file.exists():
            return
        if self._keeper.waits_to_start(record.id):
            self._keeper.discard(kept)
            return
        pid, since = int(kept.pid_file.read_text()), kept.pid_file.stat().st_mtime
        self._save(self._with_process(record, pid, since))

    def _with_process(self, record: ContainerRecord, pid: int, started_at: float) -> ContainerRecord:
        try:
            keeper = int(self._kept(record).keeper_pid_file.read_text())
        except (FileNotFoundError, ValueError):
            keeper = 0
        return msgspec.structs.replace(
            record,
            pid=pid,
            pid_ticks=syscalls.start_ticks(pid),
            keeper_pid=keeper,
            keeper_ticks=syscalls.start_ticks(keeper) if keeper else 0,
            started_at=started_at,
        )

    def _out_of_memory(self, record: ContainerRecord) -> bool:
        return self._kept(record).oom_file.exists() or self._cgroups.oom_kills(self._cgroup(record)) > 0

    def _clear(self, container_id: str, record: ContainerRecord | None) -> None:
        directory = self._directory / container_id
        (directory / CONTAINER).unlink(missing_ok=True)
        self._keeper.delete(container_id)
        syscalls.unmount(directory / "rootfs")
        if record is not None:
            self._cgroups.remove(self._cgroup(record))
            self._images.release(record.image_digest, self._owner(container_id))
        (self.exits / container_id).unlink(missing_ok=True)
        shutil.rmtree(directory, ignore_errors=True)

    def _save(self, record: ContainerRecord) -> None:
        with self._saving:
            self.record(record.id)  # it may have been removed meanwhile, and must not come back
            records.save(self._directory / record.id / CONTAINER, record)
            self._records[record.id] = record

    def _kept(self, record: ContainerRecord) -> Kept:
        return Kept(record.id, self._directory / record.id, self.exits, record.terminal, record.interactive)

    def _cgroup(self, record: ContainerRecord) -> str:
        return f"{self._sandboxes.cgroup(record.sandbox_id)}/{record.id}"

    def _owner(self, container_id: str) -> str:
        return f"{self._key}-{container_id}"
