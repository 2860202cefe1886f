"""What the runtime writes down about sandboxes and containers, so that the next agent finds them.

A record is written last, when everything it speaks of is there, and removed first: what has no record is debris.
"""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import TypeVar

import msgspec

from services.agent.ports import Container, Exit, RuntimeFailure, Sandbox, SandboxSpec

Record = TypeVar("Record", bound=msgspec.Struct)

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\Z")
SANDBOX, CONTAINER = "sandbox.json", "container.json"


class SandboxRecord(msgspec.Struct, frozen=True):
    """A sandbox that was made on the boot named `boot`: after another one it no longer stands. The holder's pid is 0
    when its containers share no namespace that needs one; holder_ticks is when it started."""

    spec: SandboxSpec
    sandbox: Sandbox
    boot: str
    holder_pid: int = 0
    holder_ticks: int = 0


class ContainerRecord(msgspec.Struct, frozen=True):
    """A container. pid and keeper come with their start times in clock ticks, which make them unmistakable."""

    id: str
    name: str
    sandbox_id: str
    image_digest: str
    created_at: float = 0.0
    stop_signal: str = ""
    terminal: bool = False
    interactive: bool = False
    labels: dict[str, str] = {}
    pid: int = 0
    pid_ticks: int = 0
    keeper_pid: int = 0
    keeper_ticks: int = 0
    started_at: float = 0.0
    exit: Exit | None = None

    @property
    def state(self) -> str:
        """created | running | exited, as far as was written down."""
        return "exited" if self.exit else "running" if self.pid else "created"

    def container(self) -> Container:
        """As the port says it."""
        return Container(self.id, self.name, self.sandbox_id, self.state, self.started_at, self.exit, dict(self.labels))


def checked_id(identifier: str) -> str:
    """The id itself. Raises RuntimeFailure when it cannot be a file's name."""
    if not _ID.match(identifier):
        raise RuntimeFailure(f"invalid id {identifier!r}")
    return identifier


def save(path: Path, record: msgspec.Struct) -> None:
    """Whole or not at all."""
    fresh = path.with_name(f".{path.name}.{threading.get_native_id()}")
    fresh.write_bytes(msgspec.json.encode(record))
    os.replace(fresh, path)


def load(path: Path, kind: type[Record]) -> Record | None:
    """None when there is none, or none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
