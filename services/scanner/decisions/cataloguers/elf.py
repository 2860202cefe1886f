"""ELF files: their sections by name, and what lies at an address. https://refspecs.linuxfoundation.org/elf/gabi4+"""

from __future__ import annotations

import struct
from typing import NamedTuple

from services.scanner.decisions.bounds import Broken

MAGIC = b"\x7fELF"
_SECTIONS_LIMIT = 20_000
_LOAD, _NOBITS, _WRITE = 1, 8, 2


class Segment(NamedTuple):
    """A part of the file as it is loaded: from `offset`, `size` bytes, to `address`."""

    offset: int
    size: int
    address: int
    writable: bool


class Elf:
    """The headers of an ELF file that is held whole. Raises Broken for what is none."""

    def __init__(self, data: bytes) -> None:
        if data[:4] != MAGIC or len(data) < 64 or data[4] not in (1, 2) or data[5] not in (1, 2):
            raise Broken("it is no ELF file")
        self._data = data
        self.wide = data[4] == 2
        self.order = "<" if data[5] == 1 else ">"
        if self.wide:
            ends = struct.unpack_from(self.order + "QQIHHHHHH", data, 32)
        else:
            ends = struct.unpack_from(self.order + "IIIHHHHHH", data, 28)
        self._phoff, self._shoff, _, _, self._phsize, self._phnum, self._shsize, self._shnum, self._shstr = ends

    def section(self, name: str) -> bytes | None:
        """What is in a section; None without such a one."""
        names = self._header(self._shstr)
        if names is None:
            return None
        texts, wanted = self._data[names[1] : names[1] + names[2]], name.encode() + b"\0"
        for index in range(min(self._shnum, _SECTIONS_LIMIT)):
            told = self._header(index)
            if told is not None and told[3] != _NOBITS and texts.startswith(wanted, told[0]):
                return self._data[told[1] : told[1] + told[2]]
        return None

    @property
    def has_sections(self) -> bool:
        """Whether it has a table of sections: it may be stripped away."""
        return self._header(self._shstr) is not None

    def _header(self, index: int) -> tuple[int, int, int, int] | None:
        """(place of the name, offset, size, type) of a section."""
        at = self._shoff + index * self._shsize
        if index >= self._shnum or self._shsize < (64 if self.wide else 40) or at + self._shsize > len(self._data):
            return None
        if self.wide:
            name, kind, _, _, offset, size = struct.unpack_from(self.order + "IIQQQQ", self._data, at)
        else:
            name, kind, _, _, offset, size = struct.unpack_from(self.order + "IIIIII", self._data, at)
        return name, offset, size, kind

    def segments(self) -> list[Segment]:
        """The parts that are loaded, in order."""
        found = []
        for index in range(min(self._phnum, 256)):
            at = self._phoff + index * self._phsize
            if self._phsize < (56 if self.wide else 32) or at + self._phsize > len(self._data):
                break
            if self.wide:
                kind, flags, offset, address, _, size = struct.unpack_from(self.order + "IIQQQQ", self._data, at)
            else:
                kind, offset, address, _, size, _, flags = struct.unpack_from(self.order + "IIIIIII", self._data, at)
            if kind == _LOAD:
                found.append(Segment(offset, size, address, bool(flags & _WRITE)))
        return found

    def at(self, address: int, size: int) -> bytes:
        """What is loaded to an address; b"" where that is not all in the file."""
        for segment in self.segments():
            inside = address - segment.address
            if inside >= 0 and inside + size <= segment.size:
                return self._data[segment.offset + inside : segment.offset + inside + size]
        return b""
