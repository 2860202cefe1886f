"""Where a platform keeps its things, and how a command finds the one that runs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import IO

import msgspec

DEFAULT_DATA = "~/.roadstead"
LOOK_S = 0.3


class ServiceInfo(msgspec.Struct, kw_only=True, frozen=True):
    """A service that runs: its own HTTP port, and since when."""

    name: str
    instance: str
    port: int
    started_at: float


class PlatformInfo(msgspec.Struct, kw_only=True, frozen=True):
    """What `up` writes down for the other commands."""

    pid: int
    port: int
    registry_port: int
    nats_url: str
    nats_pid: int
    runtime: str
    zones: int
    started_at: float
    services: list[ServiceInfo]
    dns_port: int = 0
    https_port: int = 0
    ca_file: str = ""
    registry_https_port: int = 0
    registry_ca_file: str = ""
    region: str = "us-east-1"


class Layout:
    """The data directory of one platform."""

    def __init__(self, data: str | Path | None = None) -> None:
        self.root = Path(data or os.environ.get("ROADSTEAD_DATA") or DEFAULT_DATA).expanduser().resolve()
        self.info_file = self.root / "platform.json"
        self.lock_file = self.root / "lock"
        self.logs = self.root / "logs"
        self.console_log = self.logs / "platform.log"

    def prepare(self) -> None:
        """Make the directory, for its owner alone."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.logs.mkdir(exist_ok=True)

    def lock(self) -> IO[str] | None:
        """Hold the directory in this process' name: at most one platform runs on it. None when another does."""
        return _hold(self.lock_file)

    def is_running(self) -> bool:
        """Whether a platform holds the directory, be it up or not yet."""
        with contextlib.suppress(OSError):
            held = _try_lock(self.lock_file) if self.lock_file.exists() else None
            if held is not None:
                held.close()
                return False
            return self.lock_file.exists()
        return False

    def holder(self) -> int | None:
        """The process that holds the directory: a platform that is up, starts or stops. None when there is none."""
        if not self.is_running():
            return None
        try:
            return int(self.lock_file.read_text())
        except (OSError, ValueError):
            return None

    def has_crashed(self) -> bool:
        """Whether the last platform ended without a word (kill -9, a power cut): one that stops takes its info away."""
        return self.info_file.is_file() and not self.is_running()

    def lock_node(self, name: str) -> IO[str] | None:
        """Hold a node's name for a process of its own, as long as that lives. None when another process has it."""
        folder = self.root / "node-processes"
        folder.mkdir(exist_ok=True)
        return _hold(folder / name)

    def node_processes(self) -> dict[str, int]:
        """The nodes that are processes of their own now, by name."""
        found = {}
        for path in (self.root / "node-processes").glob("*"):
            held = _try_lock(path)
            if held is not None:
                held.close()
                continue
            with contextlib.suppress(ValueError):
                found[path.name] = int(path.read_text())
        return found

    def write_info(self, info: PlatformInfo) -> None:
        """Say that the platform is up."""
        part = self.info_file.with_suffix(".part")
        part.write_bytes(msgspec.json.format(msgspec.json.encode(info)))
        part.replace(self.info_file)

    def read_info(self) -> PlatformInfo | None:
        """What the running platform wrote; None when none runs or it is not up yet."""
        if not self.is_running():
            return None
        try:
            return msgspec.json.decode(self.info_file.read_bytes(), type=PlatformInfo)
        except (OSError, msgspec.MsgspecError):
            return None

    def secret(self, name: str, make: str) -> str:
        """A secret of this platform, `make` when there is none yet; a file that only its owner reads."""
        path = self.root / name
        with contextlib.suppress(FileNotFoundError):
            if known := path.read_text(errors="replace").strip():
                return known
        part = path.with_suffix(".part")  # whole or not at all: an empty secret would be one that everybody knows
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(make + "\n")
        part.replace(path)
        return make


def _hold(path: Path) -> IO[str] | None:
    """Hold a lock in this process' name, which is written into its file. None when another process has it."""
    deadline = time.monotonic() + LOOK_S
    while (file := _try_lock(path)) is None:
        if time.monotonic() > deadline:  # those who only look hold it too, but for a moment
            return None
        time.sleep(0.005)
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def _try_lock(path: Path) -> IO[str] | None:
    file = open(path, "a+", encoding="ascii")  # noqa: SIM115
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
