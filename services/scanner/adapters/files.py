"""The scanner's own files: reports of layers (a cache); bills of materials and findings of images, by SHA-256; the
index of advisories, and that of bills."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from services.scanner.adapters.packs import SUFFIX, Packs, Place


class Files:
    """Under one directory. All calls block for as long as a disk takes. `layer_bytes` is how much of layers is kept."""

    def __init__(self, root: Path, layer_bytes: int = 256 << 20) -> None:
        self._layer_bytes = layer_bytes
        self._kept = 0
        self._layers = root / "layers"
        self._reports = root / "reports"
        self._bills = root / "bills"
        self._packs = Packs(self._reports)
        self.root = root
        self.index = root / "advisories.sqlite"
        self.held = root / "bills.sqlite"
        self.key = root / "door.key"
        for folder in (self._layers, self._reports, self._bills):
            folder.mkdir(parents=True, exist_ok=True)
        self._packs.open()

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

    def keep_bill(self, data: bytes) -> str:
        """Keep a bill of materials, durably; its name."""
        return self._keep(self._bills, data)

    def keep_report(self, data: bytes) -> str:
        """Keep findings, durably; their name."""
        return self._keep(self._reports, data)

    @staticmethod
    def name_of(data: bytes) -> str:
        """What a file of this content is called."""
        return sha256(data).hexdigest()

    def _keep(self, folder: Path, data: bytes) -> str:
        name = self.name_of(data)
        path = folder / f"{name}.json"
        if not path.exists():
            _write(path, data, durable=True)
        return name

    def bill(self, name: str) -> bytes | None:
        """A bill of materials; None when it is not there, or not what its name says."""
        return _named(self._bills / f"{name}.json", name)

    def report(self, name: str) -> bytes | None:
        """Findings; None when they are not there, or not what their name says."""
        data = self._packs.read(name)
        return data if data is not None else _named(self._reports / f"{name}.json", name)

    def place(self, report: str) -> Place | None:
        """Where in a pack findings are; None for those that are a file of their own."""
        return self._packs.place(report)

    def packed(self, packs: list[str]) -> None:
        """A worker has written packs of findings (adapters.rematching)."""
        self._packs.open(packs)

    def tidy(self) -> None:
        """Let no pack be mostly empty."""
        self._packs.tidy()

    def drop_bill(self, name: str) -> None:
        """It is not needed any more."""
        (self._bills / f"{name}.json").unlink(missing_ok=True)

    def drop_report(self, name: str) -> None:
        """It is not needed any more."""
        self._packs.drop(name)
        (self._reports / f"{name}.json").unlink(missing_ok=True)

    def drop_others(self, reports: Iterable[str], bills: Iterable[str]) -> None:
        """Drop all but these, and what a crash left half written."""
        kept = {self._reports: set(reports), self._bills: set(bills)}
        self._packs.keep_only(kept[self._reports])
        for folder in (self._reports, self._bills, self._layers):
            for path in folder.iterdir():
                unused = folder in kept and path.suffix != SUFFIX and path.stem not in kept[folder]
                if path.suffix == ".part" or unused:
                    path.unlink(missing_ok=True)

    def _layer(self, digest: str) -> Path:
        return self._layers / f"{digest.removeprefix('sha256:')}.json"


def _named(path: Path, name: str) -> bytes | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    return data if sha256(data).hexdigest() == name else None


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
