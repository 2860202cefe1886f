"""Reports of many images in one file: to make and to drop a file costs more than to write what is in it.

A pack is `reports/<number>.pack`: one line of JSON, {name: [offset, length]}, then the reports as they are. The name of
a report is the SHA-256 of what is in it, wherever it lies. A pack is written once, and goes when nothing in it is used;
when half of it is not, what is left of it goes into another one.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from hashlib import sha256
from pathlib import Path
from threading import Lock

import msgspec

PACK = 8 << 20
"""From so many bytes on a pack is closed. A worker holds as many."""
SUFFIX = ".pack"

Place = tuple[str, int, int]
"""(pack, offset, length): where a report is."""

_places = msgspec.json.Decoder(dict[str, tuple[int, int]])


class Packer:
    """Writes packs into a folder; `packs` are those that are written. Not synced to disk: a report that a power cut
    takes is made again out of its bill."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, bytes] = {}
        self._size = 0
        self.packs: list[str] = []

    def add(self, data: bytes) -> str:
        """Take a report in; its name."""
        name = sha256(data).hexdigest()
        if name not in self._held:
            self._held[name] = data
            self._size += len(data)
            if self._size >= PACK:
                self.close()
        return name

    def close(self) -> None:
        """Write what is held."""
        if not self._held:
            return
        places, at = {}, 0
        for name, data in self._held.items():
            places[name] = (at, len(data))
            at += len(data)
        pack = secrets.token_hex(16)
        part = self._folder / f"{pack}.part"
        with open(part, "wb") as file:
            file.write(msgspec.json.encode(places) + b"\n")
            file.writelines(self._held.values())
        os.replace(part, self._folder / f"{pack}{SUFFIX}")
        self.packs.append(pack)
        self._held, self._size = {}, 0


def read(folder: Path, place: Place, name: str) -> bytes | None:
    """A report; None when it is not there, or not what its name says."""
    pack, offset, length = place
    try:
        with open(f"{folder}/{pack}{SUFFIX}", "rb", buffering=0) as file:
            data = os.pread(file.fileno(), length, offset)
    except FileNotFoundError:
        return None
    return data if sha256(data).hexdigest() == name else None


class Packs:
    """The packs of a folder: where in them the reports are that are used. Its calls block, and come of any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places: dict[str, Place] = {}
        self._used: dict[str, set[str]] = {}
        self._sizes: dict[str, int] = {}
        self._lock = Lock()

    def open(self, packs: list[str] | None = None) -> None:
        """There are these packs too; without any, those that lie there."""
        found = [path.stem for path in self._folder.glob(f"*{SUFFIX}")] if packs is None else packs
        for pack in found:
            with contextlib.suppress(OSError, msgspec.DecodeError), open(self._path(pack), "rb") as file:
                head = file.readline()
                self._opened(pack, len(head), _places.decode(head))

    def _opened(self, pack: str, start: int, places: dict[str, tuple[int, int]]) -> None:
        with self._lock:
            for name, (at, length) in places.items():
                self._forget(name)
                self._places[name] = (pack, start + at, length)
            self._used[pack] = set(places)
            self._sizes[pack] = sum(length for _, length in places.values())

    def place(self, name: str) -> Place | None:
        """Where a report is; None when it is in no pack."""
        return self._places.get(name)

    def read(self, name: str) -> bytes | None:
        """A report; None when it is in no pack."""
        while (place := self._places.get(name)) is not None:
            data = read(self._folder, place, name)
            if data is not None or self._places.get(name) == place:
                return data  # it went elsewhere meanwhile, or is lost
        return None

    def drop(self, name: str) -> None:
        """A report is not needed any more."""
        with self._lock:
            self._forget(name)

    def _forget(self, name: str) -> None:
        place = self._places.pop(name, None)
        if place is not None and place[0] in self._used:
            self._used[place[0]].discard(name)
            if not self._used[place[0]]:
                del self._used[place[0]], self._sizes[place[0]]
                self._path(place[0]).unlink(missing_ok=True)

    def keep_only(self, names: set[str]) -> None:
        """Drop all but these reports, and the packs that can't be read."""
        for name in [name for name in self._places if name not in names]:
            self.drop(name)
        for path in self._folder.glob(f"*{SUFFIX}"):
            if path.stem not in self._used:
                path.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Move what is left of packs of which more than half is not used."""
        packer = Packer(self._folder)
        for pack, names in list(self._used.items()):
            left = [(name, place[2]) for name in list(names) if (place := self._places.get(name)) is not None]
            if 2 * sum(length for _, length in left) < self._sizes.get(pack, 0):
                for data in map(self.read, [name for name, _ in left]):
                    if data is not None:
                        packer.add(data)
        packer.close()
        self.open(packer.packs)

    def _path(self, pack: str) -> Path:
        return self._folder / f"{pack}{SUFFIX}"
