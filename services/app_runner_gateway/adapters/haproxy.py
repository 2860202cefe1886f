"""HAProxy as a process: started, adopted, watched, started again. What it carries is said by `adapters.proxy`.

It has a session of its own and goes on when the gateway ends without a word; the next gateway finds it by its pid file.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import structlog

from services.app_runner_gateway.decisions.proxy import MAP, SOCKET, Frame, Slots, render
from services.shared.errors import ServiceUnavailable

log = structlog.get_logger()

START_S = 10.0
ANSWER_S = 5.0
MISSING = (
    "haproxy is not installed (Debian: apt-get install haproxy; in an image: tools/packages.sh before it is built), "
    "and it is what carries the requests"
)


class ProxyAway(ServiceUnavailable):
    """HAProxy does not run, or does not answer."""


class Haproxy:
    """One HAProxy in one directory. `ended` is called in the event loop when it ends by itself."""

    def __init__(self, folder: Path, program: str, ended: Callable[[], None]) -> None:
        self.folder = folder
        self.pid = 0
        path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        self._program = shutil.which(program, path=path) if program else None
        self._ended = ended
        self._child: subprocess.Popen[bytes] | None = None
        self._past: list[subprocess.Popen[bytes]] = []
        self._pidfd = -1
        self._directory = -1

    @property
    def missing(self) -> bool:
        """Whether there is no such program."""
        return self._program is None

    @property
    def lingers(self) -> bool:
        """Whether one that was started before the present one still has requests: nobody counts them."""
        return any(past.poll() is None for past in self._past)

    def frame_before(self) -> Frame | None:
        """The frame of the one that runs here already."""
        if not runs_in(self.folder):
            return None
        try:
            return msgspec.json.decode((self.folder / "frame.json").read_bytes(), type=Frame)
        except (OSError, msgspec.MsgspecError):
            return None

    async def adopt(self, frame: Frame) -> bool:
        """Take over the one that runs here already, if it has this frame and answers."""
        try:
            pid = int((self.folder / "pid").read_text())
            same = msgspec.json.decode((self.folder / "frame.json").read_bytes(), type=Frame) == frame
        except (OSError, ValueError, msgspec.MsgspecError):
            return False
        if not _is_ours(pid, self.folder):
            return False
        self._watch(pid)
        if same:
            with contextlib.suppress(ProxyAway):
                await self.ask("show info")
                return True
        return False

    async def start(self, frame: Frame, hosts: Mapping[str, str], slots: Slots) -> None:
        """Start it with all of this; one that runs here hands its sockets over and ends with its last request. Raises
        ProxyAway in the words of HAProxy."""
        if self._program is None:
            raise ProxyAway(MISSING)
        (self.folder / MAP).write_text("".join(f"{host} {backend}\n" for host, backend in sorted(hosts.items())))
        (self.folder / "proxy.cfg").write_text(render(frame, slots))
        before = self.pid
        command = [self._program, "-db", "-f", "proxy.cfg"]
        if before:
            command += ["-sf", str(before), "-x", SOCKET]
        with open(self.folder / "proxy.log", "wb") as output:
            child = subprocess.Popen(  # noqa: ASYNC220 - it takes a millisecond, and must not be half done
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        await self._until_up(child)
        if self._child is not None:
            self._past.append(self._child)
        self._past = [past for past in self._past if past.poll() is None]
        self._child = child
        (self.folder / "pid").write_text(f"{child.pid}\n")
        (self.folder / "frame.json").write_bytes(msgspec.json.encode(frame))
        self._watch(child.pid)
        log.info("haproxy.started", pid=child.pid, instead_of=before or None)

    async def _until_up(self, child: subprocess.Popen[bytes]) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + START_S
        while loop.time() < deadline:
            if child.poll() is not None:
                said = (self.folder / "proxy.log").read_text(errors="replace").strip().splitlines()
                raise ProxyAway(f"HAProxy does not start: {' '.join(said[:4]) or child.returncode}")
            with contextlib.suppress(ProxyAway):
                if f"\nPid: {child.pid}\n" in await self.ask("show info"):
                    return
            await asyncio.sleep(0.01)
        child.kill()
        child.wait()
        raise ProxyAway(f"HAProxy has not answered for {START_S:.0f} s")

    def _watch(self, pid: int) -> None:
        self._unwatch()
        self.pid = pid
        try:
            self._pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            asyncio.get_running_loop().call_soon(self._gone)
            return
        asyncio.get_running_loop().add_reader(self._pidfd, self._gone)

    def _unwatch(self) -> None:
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _gone(self) -> None:
        self._unwatch()
        log.warning("haproxy.ended", pid=self.pid)
        self.pid = 0
        if self._child is not None:
            self._child.wait()
            self._child = None
        self._ended()

    async def ask(self, command: str) -> str:
        """One command of the runtime API, its answer. Raises ProxyAway."""
        if self._directory < 0:
            self._directory = os.open(self.folder, os.O_PATH | os.O_DIRECTORY)
        # A path below the directory's descriptor: a socket's path has room for 107 characters only.
        path = f"/proc/self/fd/{self._directory}/{SOCKET}"
        try:
            async with asyncio.timeout(ANSWER_S):
                reader, writer = await asyncio.open_unix_connection(path)
                try:
                    writer.write(command.encode() + b"\n")
                    return (await reader.read(-1)).decode()
                finally:
                    writer.close()
        except (OSError, TimeoutError) as error:
            raise ProxyAway(f"HAProxy does not answer: {error or 'time-out'}") from error

    async def stop(self) -> None:
        """End it, requests included."""
        self._unwatch()
        pid, self.pid = self.pid, 0
        if pid:
            await asyncio.to_thread(end, self.folder, pid)
        for child in self._past:
            child.terminate()
        for child in (*self._past, *([self._child] if self._child else [])):
            await asyncio.to_thread(child.wait)
        self._child, self._past = None, []
        self.leave()

    def leave(self) -> None:
        """Let go of it without ending it."""
        self._unwatch()
        for child in (*self._past, *([self._child] if self._child else [])):
            child.returncode = 0  # it outlives this process, which need not be told so
        self._child, self._past = None, []
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1


def _is_ours(pid: int, folder: Path) -> bool:
    """Whether this process is the HAProxy of this directory: pids are used again."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        return name == "haproxy" and Path(f"/proc/{pid}/cwd").resolve() == folder.resolve()
    except OSError:
        return False


def runs_in(folder: Path) -> bool:
    """Whether the HAProxy of a directory runs, whoever started it."""
    try:
        return _is_ours(int((folder / "pid").read_text()), folder)
    except (OSError, ValueError):
        return False


def end(folder: Path, pid: int | None = None) -> bool:
    """End the HAProxy of a directory, whoever started it; whether there was one."""
    with contextlib.suppress(OSError, ValueError):
        pid = pid or int((folder / "pid").read_text())
        if not _is_ours(pid, folder):
            return False
        pidfd = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            _wait(pidfd, 5.0) or signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            _wait(pidfd, 5.0)
        finally:
            os.close(pidfd)
        (folder / "pid").unlink(missing_ok=True)
        return True
    return False


def _wait(pidfd: int, seconds: float) -> bool:
    import select

    return bool(select.select([pidfd], [], [], seconds)[0])


def connections(most: int = 8192) -> int:
    """How many connections HAProxy may hold: each request has two, within the files that a process may open."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    room = most if hard == resource.RLIM_INFINITY else (hard - 200) // 2
    return max(100, min(most, room))


def free_port(host: str) -> int:
    """A port that is free now. Raises OSError."""
    with socket.create_server((host, 0)) as listening:
        return int(listening.getsockname()[1])


def taken(host: str, port: int) -> OSError | None:
    """Why a port can't be had."""
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        return error
    return None
