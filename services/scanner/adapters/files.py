"""The scanner's own files: reports of layers (a cache), reports of scans (by SHA-256), the index of advisories."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from services.shared.door_key import KEY_DIGITS, door_key

__all__ = ["KEY_DIGITS", "Files"]


class Files:
    """Under one directory. All calls block for as long as a disk takes. `layer_bytes` is how much of layers is kept."""

    def __init__(self, root: Path, layer_bytes: int = 256 << 20) -> None:
        self._layer_bytes = layer_bytes
        self._kept = 0
        self._layers = root / "layers"
        self._reports = root / "reports"
        self.index = root / "advisories.sqlite"
        self.key = root / "door.key"
        for folder in (self._layers, self._reports):
            folder.mkdir(parents=True, exist_ok=True)

    def door_key(self) -> str:
        """The secret that changes at the scanner's own door take; made once, readable by its owner alone."""
        return door_key(self.key)

    def layer(self, digest: str) -> bytes | None:
        """What is kept of a layer."""
        path = self._layer(digest)
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        return data

    def keep_layer(self, digest: str, data: bytes) -> None:
        """Keep what was read of a layer, to be read no second time. Losing it costs nothing but that."""
        _write(self._layer(digest), data, durable=False)
        self._kept += len(data)
        if self._kept > self._layer_bytes // 4:
            self._kept = 0
            self.trim_layers()

    def trim_layers(self) -> int:
        """Drop the reports of layers that were not used for longest, until they have what they may; how many."""
        found = []
        for path in self._layers.glob("*.json"):
            with contextlib.suppress(OSError):
                told = path.stat()
                found.append((told.st_mtime, told.st_size, path))
        total, dropped = sum(size for _, size, _ in found), 0
        for _, size, path in sorted(found):
            if total <= self._layer_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size
            dropped += 1
        return dropped

    def keep_report(self, data: bytes) -> str:
        """Keep a report, durably; its name."""
        name = sha256(data).hexdigest()
        path = self._reports / f"{name}.json"
        if not path.exists():
            _write(path, data, durable=True)
        return name

    def report(self, name: str) -> bytes | None:
        """A report."""
        try:
            return (self._reports / f"{name}.json").read_bytes()
        except FileNotFoundError:
            return None

    def drop_report(self, name: str) -> None:
        """It is not needed any more."""
        (self._reports / f"{name}.json").unlink(missing_ok=True)

    def drop_other_reports(self, needed: Iterable[str]) -> None:
        """Drop all but these, and what a crash left half written."""
        names = {f"{name}.json" for name in needed}
        for folder in (self._reports, self._layers):
            for path in folder.iterdir():
                if path.suffix == ".part" or (folder is self._reports and path.name not in names):
                    path.unlink(missing_ok=True)

    def _layer(self, digest: str) -> Path:
        return self._layers / f"{digest.removeprefix('sha256:')}.json"


def _write(path: Path, data: bytes, *, durable: bool, mode: int = 0o666) -> None:
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    if durable:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
