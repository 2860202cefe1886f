"""A container's files: the image's layers with a writable one on top, its users, its volumes.

What is looked up in an image is looked up with the container's root as `/`: an image's links lead nowhere else.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from services.agent.ports import CannotCreateContainerError
from services.agent.runtimes.oci import syscalls

ACCOUNTS_LIMIT = 1 << 20


@dataclass(frozen=True)
class User:
    """Who a process runs as; `home` is empty when the image does not say."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = ""


def mount_overlay(layers_directory: Path, layers: list[str], container: Path) -> None:
    """Mount the layers (lowest first) with container/upper on top at container/rootfs. Raises OSError.

    An image may have one layer several times (empty ones, mostly), which overlayfs refuses: all that the lower ones
    show, the highest shows too. The names of the layers are relative, so that 127 of them fit into the page that
    mount(2) takes: hence a thread with a working directory of its own.
    """
    for name in ("upper", "work", "rootfs"):
        (container / name).mkdir(exist_ok=True)
        (container / name).chmod(0o755)  # upper's is that of the container's `/`, whatever the agent's umask
    lower = ":".join(dict.fromkeys(reversed(layers)))
    options = f"lowerdir={lower},upperdir={container / 'upper'},workdir={container / 'work'}"
    if not layers:
        raise CannotCreateContainerError("the image has no layers")

    def work() -> None:
        syscalls.unshare(syscalls.CLONE_FS)
        os.chdir(layers_directory)
        syscalls.mount("overlay", container / "rootfs", "overlay", 0, options)

    syscalls.in_thread(work)


def find_user(rootfs: Path, wanted: str) -> User:
    """`name|uid[:group|gid]` as docker run resolves it, by the image's /etc/passwd and /etc/group.

    Raises CannotCreateContainerError for a name the image does not know.
    """
    accounts = _table(rootfs, "etc/passwd", 7)
    groups = _table(rootfs, "etc/group", 4)
    name, colon, group = (wanted or "0").partition(":")
    found = next((row for row in accounts if name in (row[0], row[2])), None)
    if found is None and not name.isdigit():
        raise CannotCreateContainerError(f"unable to find user {name}: no matching entries in passwd file")
    uid, gid, home = (int(found[2]), int(found[3]), found[5]) if found else (int(name), 0, "")
    if colon and group:
        matching = next((row for row in groups if group in (row[0], row[2])), None)
        if matching is None and not group.isdigit():
            raise CannotCreateContainerError(f"unable to find group {group}: no matching entries in group file")
        gid = int(matching[2]) if matching else int(group)
        return User(uid, gid, (gid,), home)
    more = [int(row[2]) for row in groups if found and found[0] in row[3].split(",") and int(row[2]) != gid]
    # The first group is also an additional one: what drops additional groups must not gain by it (CVE-2022-36109).
    return User(uid, gid, (gid, *more), home)


def make_working_directory(rootfs: Path, path: str) -> None:
    """docker run makes the working directory when the image has none."""
    root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(syscalls.make_directories(root, path))
    except OSError as error:
        raise CannotCreateContainerError(f"cannot make the working directory {path}: {error.strerror}") from error
    finally:
        os.close(root)


class Volumes:
    """The named volumes of a node."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()

    def ensure(self, name: str, rootfs: Path, target: str) -> Path:
        """The volume's directory. A new one gets what the image has at the target, as docker does."""
        if not name or "/" in name or name in (".", ".."):
            raise CannotCreateContainerError(f"invalid volume name {name!r}")
        data = self._directory / name / "_data"
        with self._lock:
            if not data.exists():
                self._fill(data, rootfs, target)
        return data

    def _fill(self, data: Path, rootfs: Path, target: str) -> None:
        fresh = data.with_name(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        fresh.chmod(0o755)
        root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            source = syscalls.open_in_root(root, target, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            source = -1  # the image has nothing there
        try:
            if source >= 0:
                _copy(source, fresh)
        finally:
            os.close(root)
            if source >= 0:
                os.close(source)
        fresh.rename(data)


def _copy(source: int, target: Path) -> None:
    command = ["cp", "-a", "--", f"/proc/self/fd/{source}/.", str(target)]
    done = subprocess.run(command, pass_fds=(source,), stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise CannotCreateContainerError(f"cannot copy the image's content into a volume: {done.stderr.strip()}")


def ensure_bind_source(path: str) -> None:
    """docker makes a directory where the source of a bind mount is missing."""
    if not path.startswith("/"):
        raise CannotCreateContainerError(f"invalid mount source {path!r}: it must be an absolute path")
    try:
        if not os.path.lexists(path):
            os.makedirs(path, exist_ok=True)
        mode = os.stat(path).st_mode
    except OSError as error:
        raise CannotCreateContainerError(f"cannot use the mount source {path}: {error.strerror}") from error
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)):
        raise CannotCreateContainerError(f"cannot use the mount source {path}: neither directory, file nor socket")


def _table(rootfs: Path, path: str, columns: int) -> list[list[str]]:
    root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # O_NONBLOCK: an image may have a FIFO there.
        descriptor = syscalls.open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return []
    finally:
        os.close(root)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return []
        text = file.read(ACCOUNTS_LIMIT).decode(errors="replace")
    return list(_rows(text.splitlines(), columns))


def _rows(lines: Iterable[str], columns: int) -> Iterable[list[str]]:
    for line in lines:
        row = line.strip().split(":")
        if len(row) >= columns and row[2].isdigit() and (columns < 7 or row[3].isdigit()):
            yield row
