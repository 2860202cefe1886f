"""The few Linux calls that Python does not have: mounts, namespaces, lookups that stay inside a directory, inotify.

Everything raises OSError with the kernel's errno. Nothing here knows of containers.
"""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND = 0x2, 0x4, 0x8, 0x1000
MNT_DETACH, UMOUNT_NOFOLLOW = 0x2, 0x8
CLONE_FS, CLONE_NEWNET = 0x200, 0x40000000
IN_MODIFY, IN_MOVED_TO, IN_CREATE, IN_CLOSE_WRITE, IN_IGNORED = 0x2, 0x80, 0x100, 0x8, 0x8000
IN_CLOEXEC, IN_NONBLOCK = 0o2000000, 0o4000
RESOLVE_NO_MAGICLINKS, RESOLVE_IN_ROOT = 0x2, 0x10
SYS_OPENAT2 = 437  # the same number on every architecture: it is younger than the unified table

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.syscall.restype = ctypes.c_long


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


def _checked(result: int, subject: object = None) -> int:
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno), None if subject is None else str(subject))
    return result


def mount(source: str, target: str | Path, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2). Option strings are bounded by a page (4,096 bytes)."""
    arguments = (os.fsencode(source), os.fsencode(target), kind.encode() or None, flags, os.fsencode(options))
    _checked(_libc.mount(*arguments), target)


def unmount(target: str | Path) -> None:
    """Detach whatever is mounted at target, also while something uses it. No error when nothing is."""
    try:
        _checked(_libc.umount2(os.fsencode(target), MNT_DETACH | UMOUNT_NOFOLLOW), target)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        if error.errno != 22:  # EINVAL: not a mount point
            raise


def sync_file_system(descriptor: int) -> None:
    """Everything written to this file system so far is on the disk when this returns (syncfs)."""
    _checked(_libc.syncfs(descriptor))


def unshare(flags: int) -> None:
    """unshare(2) for the calling thread."""
    _checked(_libc.unshare(flags))


def enter_network(path: str | Path) -> None:
    """Move the calling thread into the network namespace at path, for good: see `in_thread`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc.setns(descriptor, CLONE_NEWNET), path)
    finally:
        os.close(descriptor)


def in_thread(work: Callable[[], Result]) -> Result:
    """Run work in a thread of its own that ends with it, so that a namespace it entered is left for sure."""
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    thread = threading.Thread(target=run, name="namespace", daemon=True)
    thread.start()
    thread.join()
    return future.result()


def open_in_root(root: int, path: str, flags: int, mode: int = 0) -> int:
    """Open path with root as `/`: neither `..` nor a symbolic link leads out (openat2, RESOLVE_IN_ROOT)."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
    name = os.fsencode(path) or b"."
    number = ctypes.c_long(SYS_OPENAT2)
    while True:
        try:
            return _checked(_libc.syscall(number, root, name, ctypes.byref(how), ctypes.sizeof(how)), path)
        except BlockingIOError:
            continue  # a rename somewhere made the kernel unsure whether `..` left the root


def make_directories(root: int, path: str, mode: int = 0o755) -> int:
    """Open the directory at path inside root (O_PATH), making what is missing. The caller closes it.

    Raises OSError when a part of the path is something else than a directory.
    """
    try:
        return open_in_root(root, path, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        above, _, name = path.strip("/").rpartition("/")
        if not name:
            raise
    parent = make_directories(root, above or ".", mode)
    try:
        try:
            os.mkdir(name, mode, dir_fd=parent)
            os.chmod(name, mode, dir_fd=parent)  # whatever the agent's umask is
        except FileExistsError:
            pass
        return open_in_root(root, path, os.O_PATH | os.O_DIRECTORY)
    finally:
        os.close(parent)


def boot_id() -> str:
    """Names this boot of the machine: what lives in the kernel is gone when it has changed."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot; with the pid it names a process for good.
    0 when there is none, or only what is left of one that has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in ("Z", "X") else int(fields[19])


class Inotify:
    """An inotify instance. `fileno()` goes into the event loop; `read()` gives (watch, mask, name)."""

    def __init__(self) -> None:
        self._descriptor = _checked(_libc.inotify_init1(IN_CLOEXEC | IN_NONBLOCK))

    def fileno(self) -> int:
        return self._descriptor

    def add(self, path: str | Path, mask: int) -> int:
        """Watch path; the same path gives the same number again."""
        return _checked(_libc.inotify_add_watch(self._descriptor, os.fsencode(path), mask), path)

    def remove(self, watch: int) -> None:
        """Stop watching. No error when what was watched is gone."""
        _libc.inotify_rm_watch(self._descriptor, watch)

    def read(self) -> list[tuple[int, int, str]]:
        """All that is there; empty when nothing is."""
        try:
            data = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return []
        events, offset = [], 0
        while offset < len(data):
            watch, mask, _, length = struct.unpack_from("iIII", data, offset)
            name = data[offset + 16 : offset + 16 + length].rstrip(b"\0").decode(errors="surrogateescape")
            events.append((watch, mask, name))
            offset += 16 + length
        return events

    def close(self) -> None:
        os.close(self._descriptor)
