"""conmon: the small process that keeps each container, its output and its exit code while no agent runs.

conmon is started in a session of its own with a clean environment, asks runc to create the container, writes what it
prints to a log, and its exit code to a file. It is no child of the agent: it survives it. All calls block.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from services.agent.ports import CannotStartContainerError, RuntimeFailure
from services.agent.runtimes.oci.cgroups import Cgroups

OUTPUT_LIMIT = 64 << 10
REAP_S = 2.0
PT_INTERP = 3
INITS = ("docker-init", "tini-static", "catatonit", "tini")
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C"}


def is_static(program: str) -> bool:
    """Whether a program runs where no library is: an ELF file without an interpreter. An init comes from the node and
    runs in the image's file system."""
    with open(program, "rb") as file:
        head = file.read(64)
        if len(head) < 64 or head[:5] != b"\x7fELF\x02":
            return False
        offset, size, count = (int.from_bytes(head[a:b], "little") for a, b in ((32, 40), (54, 56), (56, 58)))
        file.seek(offset)
        table = file.read(size * count)
    return all(int.from_bytes(table[i * size : i * size + 4], "little") != PT_INTERP for i in range(count))


@dataclass(frozen=True)
class Tools:
    """The programs this runtime stands on: their paths."""

    runc: str
    conmon: str
    init: str

    @classmethod
    def find(cls, runtime: str) -> Tools:
        """Raises RuntimeFailure with what to install."""
        path = os.environ.get("PATH", "") + ":" + ENVIRONMENT["PATH"]
        found = {name: shutil.which(name, path=path) for name in (runtime, "conmon")}
        missing = [name for name, place in found.items() if place is None]
        if missing:
            raise RuntimeFailure(f"missing on this node: {', '.join(missing)} (apt-get install {' '.join(missing)})")
        inits = (shutil.which(name, path=path) for name in INITS)
        init = next((place for place in inits if place and is_static(place)), "")
        return cls(str(found[runtime]), str(found["conmon"]), init)


@dataclass(frozen=True)
class Kept:
    """Where a container's keeper works. `bundle` has config.json; `exits` gets the exit file, named by id."""

    id: str
    bundle: Path
    exits: Path
    terminal: bool = False
    interactive: bool = False

    @property
    def log(self) -> Path:
        return self.bundle / "log"

    @property
    def pid_file(self) -> Path:
        return self.bundle / "pid"

    @property
    def keeper_pid_file(self) -> Path:
        return self.bundle / "conmon.pid"

    @property
    def oom_file(self) -> Path:
        return self.bundle / "oom"


class Keeper:
    """Starts containers under conmon, and talks to runc about them."""

    def __init__(self, tools: Tools, state: Path, cgroups: Cgroups, cgroup: str, log_bytes: int) -> None:
        self._tools = tools
        self._state = state
        self._cgroups = cgroups
        self._cgroup = cgroup
        self._log_bytes = log_bytes

    def create(self, kept: Kept) -> int:
        """Create the container's process, held before its command; its pid. Raises CannotStartContainerError."""
        reader, writer = os.pipe()
        gate, opener = os.pipe()
        try:
            # runc ends before a garbage collection could pay for itself.
            environment = ENVIRONMENT | {"GOGC": "off", "_OCI_SYNCPIPE": str(writer), "_OCI_STARTPIPE": str(gate)}
            conmon = subprocess.Popen(
                self._command(kept),
                env=environment,
                cwd=kept.bundle,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(writer, gate),
                start_new_session=True,
            )
            os.close(writer)
            writer = -1
            # conmon waits at the gate, so that it and all it starts are out of the agent's group.
            self._cgroups.adopt(self._cgroup, conmon.pid)
            os.write(opener, b"\0")
            with os.fdopen(reader, "rb", closefd=False) as pipe:
                answer = pipe.readline()
            conmon.wait()
        finally:
            for descriptor in (reader, writer, gate, opener):
                if descriptor >= 0:
                    os.close(descriptor)
        return _pid_in(answer)

    def start(self, container_id: str) -> None:
        """Let the command run. What `runc start` does, without starting a second runc: runc's process waits
        until somebody reads from its exec.fifo (runc, libcontainer/container_linux.go)."""
        fifo = self._state / container_id / "exec.fifo"
        try:
            with fifo.open("rb", buffering=0) as pipe:
                if pipe.read(1) != b"0":
                    raise CannotStartContainerError("the container's process ended before its command could start")
        except FileNotFoundError:
            raise CannotStartContainerError("the container is not there to be started") from None
        fifo.unlink(missing_ok=True)

    def waits_to_start(self, container_id: str) -> bool:
        """Whether the process is created and its command was not started."""
        return (self._state / container_id / "exec.fifo").exists()

    def delete(self, container_id: str) -> None:
        """Forget a container, ending what is left of it. No error when runc does not know it."""
        if not (self._state / container_id).exists():
            return
        done = self._runc("delete", "--force", container_id)
        if done.returncode and b"does not exist" not in done.stderr:
            raise RuntimeFailure(f"runc delete: {done.stderr.decode(errors='replace').strip()}")

    def discard(self, kept: Kept) -> None:
        """Undo a start that did not come to its end, so that it can be done again. Waits for the keeper: its exit
        file must not be taken for that of the next attempt."""
        self.delete(kept.id)
        try:
            keeper = os.pidfd_open(int(kept.keeper_pid_file.read_text()))
        except (FileNotFoundError, ValueError, ProcessLookupError):
            keeper = -1
        if keeper >= 0:
            _readable([keeper], REAP_S)
            os.close(keeper)
        for file in (kept.pid_file, kept.keeper_pid_file, kept.exits / kept.id):
            file.unlink(missing_ok=True)

    def known(self) -> list[str]:
        """The containers runc has."""
        try:
            return [entry.name for entry in os.scandir(self._state) if entry.is_dir()]
        except FileNotFoundError:
            return []

    def exec_command(self, container_id: str, process: Path, pid_file: Path) -> list[str]:
        """The command line that runs a process (an OCI process file) inside, and ends with it."""
        arguments = ["exec", "--process", str(process), "--pid-file", str(pid_file), container_id]
        return [self._tools.runc, "--root", str(self._state), *arguments]

    def exec(self, container_id: str, process: Path, pid_file: Path, timeout_s: float) -> tuple[int, bytes, bool]:
        """Run a process (an OCI process file) inside: (exit code, its output up to 64 KiB, timed out)."""
        reader, writer = os.pipe()
        with subprocess.Popen(
            self.exec_command(container_id, process, pid_file),
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=writer,
            start_new_session=True,
        ) as running:
            os.close(writer)
            try:
                return _supervise(running, reader, pid_file, timeout_s)
            finally:
                os.close(reader)

    def _command(self, kept: Kept) -> list[str]:
        command = [self._tools.conmon, "--api-version", "1", "--cid", kept.id, "--cuuid", kept.id]
        command += ["--name", kept.id, "--runtime", self._tools.runc, "--runtime-arg", f"--root={self._state}"]
        command += ["--bundle", str(kept.bundle), "--persist-dir", str(kept.bundle), "--exit-dir", str(kept.exits)]
        command += ["--container-pidfile", str(kept.pid_file), "--conmon-pidfile", str(kept.keeper_pid_file)]
        command += ["--log-path", f"k8s-file:{kept.log}", "--log-size-max", str(self._log_bytes)]
        command += ["--log-level", "error", "--full-attach", "--no-sync-log"]
        if kept.terminal:
            command.append("--terminal")
        if kept.interactive:
            command += ["--stdin", "--leave-stdin-open"]
        return command

    def _runc(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = [self._tools.runc, "--root", str(self._state), *arguments]
        return subprocess.run(command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True)


def _pid_in(answer: bytes) -> int:
    """conmon's answer: {"data": pid, "message": what runc printed}; the pid is negative when runc failed."""
    try:
        said = json.loads(answer)
    except ValueError:
        raise CannotStartContainerError("conmon ended without an answer") from None
    pid = said.get("data", said.get("pid", -1))
    if pid <= 0:
        raise CannotStartContainerError(reason_of(said.get("message", "")))
    return pid


def reason_of(message: str) -> str:
    """What runc said, without its log's decoration: `exec: "nosuch": executable file not found in $PATH`."""
    lines = [line for line in message.strip().splitlines() if line]
    last = lines[-1] if lines else ""
    text = next((line for line in reversed(lines) if "msg=" in line), last)
    quoted = re.search(r'msg="((?:[^"\\]|\\.)*)"', text)
    if quoted:
        text = quoted.group(1).replace('\\"', '"').replace("\\\\", "\\")
    for prefix in ("runc create failed: ", "exec failed: ", "unable to start container process: "):
        text = text.removeprefix(prefix)
    return text or "runc failed without a word"


def _supervise(
    running: subprocess.Popen[bytes], reader: int, pid_file: Path, timeout_s: float
) -> tuple[int, bytes, bool]:
    output, until, timed_out = bytearray(), time.monotonic() + timeout_s, False
    ended = os.pidfd_open(running.pid)
    try:
        while True:
            left = until - time.monotonic()
            ready = _readable([reader, ended], left)
            if reader in ready:
                data = os.read(reader, 65536)
                output += data[: OUTPUT_LIMIT - len(output)]
                if data:
                    continue
            if ended in ready or (reader in ready and left > 0):
                break
            if not ready:
                timed_out = True
                _end(running, pid_file)
                break
        running.wait()
        # What it started in the background may hold the pipe open for ever: take only what is there.
        os.set_blocking(reader, False)
        while data := _read_now(reader):
            output += data[: OUTPUT_LIMIT - len(output)]
    finally:
        os.close(ended)
    code = running.returncode
    return 124 if timed_out else code if code >= 0 else 128 - code, bytes(output), timed_out


def _readable(descriptors: list[int], seconds: float) -> list[int]:
    """Which of these can be read, or have ended, within the time. Not by select(2), which knows no descriptor above
    1,023: a node of many tasks has such."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _ in poll.poll(max(0.0, seconds) * 1000)]


def _end(running: subprocess.Popen[bytes], pid_file: Path) -> None:
    """Kill what runs inside (it leads a session of its own); runc then reaps it and ends. Killing runc first would
    leave a zombie that keeps the whole container from ending until somebody else reaps it."""
    try:
        os.killpg(int(pid_file.read_text()), signal.SIGKILL)
        running.wait(REAP_S)
    except (FileNotFoundError, ValueError, ProcessLookupError, subprocess.TimeoutExpired):
        running.kill()


def _read_now(reader: int) -> bytes:
    try:
        return os.read(reader, 65536)
    except BlockingIOError:
        return b""
