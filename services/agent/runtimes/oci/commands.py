"""A command in a container with somebody at it: `runc exec` in the foreground, at a pseudo-terminal or at two pipes.

runc makes the terminal inside, copies between it and ours, and takes over our size when it hears SIGWINCH. It ends
with the command's exit code. What the command left in the background is not waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import tty as tty_modes
from pathlib import Path

from services.agent.runtimes.oci.keeper import ENVIRONMENT

MAX_CHUNK = 16 * 1024
MAX_SAID = 4096
RUNC_FAILED = 255
NOT_FOUND = 127
KILL_S = 2.0
_BARE_NEWLINE = re.compile(rb"(?<!\r)\n")


class OciCommand:
    """See `services.agent.ports.Command`. Making it blocks; `follow` is called in the loop that reads."""

    def __init__(self, line: list[str], process_file: Path, *, tty: bool) -> None:
        self._file = process_file
        self._pid_file = process_file.with_suffix(".pid")
        self._tty = tty
        self._said = b""
        self._returned = False
        self._code: int | None = None
        self._moved = asyncio.Event()
        self._ended = asyncio.Event()
        self._pidfd = -1
        theirs: list[int] = []
        self._open: dict[int, int] = {}
        try:
            if tty:
                ours, end = pty.openpty()
                _make_raw(end)
                theirs, self._open = [end], {ours: 1}
                standard = (end, end, end)
            else:
                (ours, end), (errors, error_end) = os.pipe(), os.pipe()
                theirs, self._open = [end, error_end], {ours: 1, errors: 2}
                standard = (subprocess.DEVNULL, end, error_end)
            self._terminal = ours if tty else -1
            for descriptor in self._open:
                os.set_blocking(descriptor, False)
            self._running = subprocess.Popen(
                line, env=ENVIRONMENT, stdin=standard[0], stdout=standard[1], stderr=standard[2], start_new_session=True
            )
        except BaseException:
            self._let_go()
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)

    def follow(self) -> None:
        """Learn of its end."""
        self._pidfd = os.pidfd_open(self._running.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._on_end)

    def _on_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        code = self._running.wait()
        self._code = code if code >= 0 else 128 - code
        self._ended.set()
        self._moved.set()

    async def read(self) -> tuple[int, bytes] | None:
        """See `Command.read`."""
        while True:
            ended = self._ended.is_set()  # before the look: what it wrote last is there by now
            for descriptor, stream in tuple(self._open.items()):
                data = self._read_now(descriptor)
                if data:
                    if not self._said and self._terminal >= 0 and not self._ended.is_set():
                        self._running.send_signal(signal.SIGWINCH)  # a size that was set before runc listened
                    self._said = (self._said + data)[-MAX_SAID:]
                    return stream, self._with_returns(data) if self._tty else data
            if ended or (self._terminal >= 0 and not self._open):
                return None
            await self._something()

    def _read_now(self, descriptor: int) -> bytes:
        try:
            data = os.read(descriptor, MAX_CHUNK)
        except BlockingIOError:
            return b""
        except OSError:  # EIO: nobody is at the other end of the terminal
            data = b""
        if not data:
            self._close(descriptor)
        return data

    def _with_returns(self, data: bytes) -> bytes:
        """With a carriage return before each newline that has none. runc takes the return out at the terminal inside, a
        moment after the command has begun: what is written before that moment brings its own."""
        begun = 1 if self._returned and data.startswith(b"\n") else 0
        self._returned = data.endswith(b"\r")
        return data[:begun] + _BARE_NEWLINE.sub(b"\r\n", data[begun:])

    async def _something(self) -> None:
        """Wait until there is something to read, or it has ended."""
        loop = asyncio.get_running_loop()
        self._moved.clear()
        if self._ended.is_set():
            return
        watched = tuple(self._open)
        for descriptor in watched:
            loop.add_reader(descriptor, self._moved.set)
        try:
            await self._moved.wait()
        finally:
            for descriptor in watched:
                loop.remove_reader(descriptor)

    async def write(self, data: bytes) -> None:
        """See `Command.write`."""
        while data and self._terminal in self._open:
            try:
                data = data[os.write(self._terminal, data) :]
            except BlockingIOError:
                await self._writable()
            except OSError:
                return

    async def _writable(self) -> None:
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        terminal = os.dup(self._terminal)  # its own: a descriptor has one place in the loop's poll, and `read` has it
        loop.add_writer(terminal, ready.set)
        ended = asyncio.ensure_future(self._ended.wait())
        room = asyncio.ensure_future(ready.wait())
        try:
            await asyncio.wait([ended, room], return_when=asyncio.FIRST_COMPLETED)
        finally:
            loop.remove_writer(terminal)
            os.close(terminal)
            ended.cancel()
            room.cancel()

    async def resize(self, columns: int, rows: int) -> None:
        """See `Command.resize`."""
        if self._terminal in self._open and not self._ended.is_set():
            size = struct.pack("HHHH", min(rows, 0xFFFF), min(columns, 0xFFFF), 0, 0)
            fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, size)
            self._running.send_signal(signal.SIGWINCH)  # it has no terminal of its own that would tell it

    async def wait(self) -> int:
        """See `Command.wait`."""
        await self._ended.wait()
        assert self._code is not None
        failed = self._code == RUNC_FAILED and b"exec failed" in self._said
        return NOT_FOUND if failed else self._code

    async def close(self) -> None:
        """See `Command.close`."""
        if not self._ended.is_set():
            # What runs inside first: runc then reaps it and ends. It leads a session of its own.
            with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
                os.killpg(int(self._pid_file.read_text()), signal.SIGKILL)
            try:
                async with asyncio.timeout(KILL_S):
                    await self._ended.wait()
            except TimeoutError:
                self._running.kill()
                await self._ended.wait()
        self._let_go()

    def _let_go(self) -> None:
        for descriptor in tuple(self._open):
            self._close(descriptor)
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        self._file.unlink(missing_ok=True)
        self._pid_file.unlink(missing_ok=True)

    def _close(self, descriptor: int) -> None:
        del self._open[descriptor]
        os.close(descriptor)


def _make_raw(terminal: int) -> None:
    """As runc will, since what is typed before that must not be edited or echoed twice. runc turns the processing of
    output on again, and newlines would gain a second return by that."""
    tty_modes.setraw(terminal)
    modes = termios.tcgetattr(terminal)
    modes[1] &= ~termios.ONLCR
    termios.tcsetattr(terminal, termios.TCSANOW, modes)
