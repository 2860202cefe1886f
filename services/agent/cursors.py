"""How far each container's output has been shipped: a small file a container, which survives the agent.

A file says "everything up to `after` has landed; the batch up to `until` may have". It is written in place, in one
write of less than a page, so that an agent that is killed leaves the old or the new content.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

_SIZE = 512


class Position(msgspec.Struct, frozen=True):
    """Cursors of the runtime's log. `until` is empty when no batch is on its way."""

    after: str = ""
    until: str = ""


class Cursors:
    """The positions of this node's containers."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def read(self, container_id: str) -> Position:
        """Where to go on; the beginning when nothing is known."""
        try:
            return msgspec.json.decode(self._path(container_id).read_bytes().strip(b" \0"), type=Position)
        except (FileNotFoundError, msgspec.DecodeError):
            return Position()

    def write(self, container_id: str, position: Position) -> None:
        """Note it. Raises OSError (a full disk)."""
        handle = os.open(self._path(container_id), os.O_CREAT | os.O_WRONLY, 0o600)
        try:
            os.pwrite(handle, msgspec.json.encode(position).ljust(_SIZE), 0)
        finally:
            os.close(handle)

    def remove(self, container_id: str) -> None:
        """The container is gone."""
        self._path(container_id).unlink(missing_ok=True)

    def known(self) -> list[str]:
        """The containers that have one."""
        return [path.stem for path in self._directory.glob("*.cursor")]

    def _path(self, container_id: str) -> Path:
        return self._directory / f"{container_id}.cursor"
