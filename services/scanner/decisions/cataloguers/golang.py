"""What Go writes into a program: its version, and the modules that the program is built of.

https://cs.opensource.google/go/go/+/master:src/debug/buildinfo/buildinfo.go: behind a magic of 14 bytes come the size
of pointers and flags; then, since Go 1.18, the two texts themselves, before that pointers to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from services.scanner.decisions.bounds import Broken, name_of
from services.scanner.decisions.packages import GO, Package

MAGIC = b"\xff Go buildinf:"
_HEADER = 32
_INLINE = 2
_TEXT_LIMIT = 4 << 20
_FRAME = 16
"""What stands before and behind the list of modules, to be found by."""


class BuildInfo(NamedTuple):
    """The version of Go, and the list of modules as text."""

    version: str
    modules: str


def find(data: bytes, elf: Any) -> BuildInfo | None:
    """The build info in what may have one, at multiples of 16; None without one. `elf` resolves pointers: without it
    they can't be followed, and Broken is raised."""
    at = data.find(MAGIC)
    while at >= 0 and at % 16:
        at = data.find(MAGIC, at + 1)
    if at < 0 or len(data) < at + _HEADER:
        return None
    size, flags = data[at + 14], data[at + 15]
    if flags & _INLINE:
        version, after = _varint_text(data, at + _HEADER)
        modules, _ = _varint_text(data, after)
    else:
        if elf is None:
            raise Broken("it is too large to be held, and its list of modules is where only old versions of Go put it")
        order = "big" if flags & 1 else "little"
        version, modules = (_pointed(elf, data[at + 16 + n * size : at + 16 + (n + 1) * size], order) for n in (0, 1))
    text = modules[_FRAME:-_FRAME] if len(modules) > 2 * _FRAME and modules[-_FRAME - 1 : -_FRAME] == b"\n" else b""
    return BuildInfo(version.decode("utf-8", "replace"), text.decode("utf-8", "replace"))


def _varint_text(data: bytes, at: int) -> tuple[bytes, int]:
    """A text with its length before it, as binary.Uvarint writes it, and what is behind."""
    length = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise Broken("its list of modules is cut off")
        byte = data[at]
        at += 1
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if length > _TEXT_LIMIT or at + length > len(data):
        raise Broken("its list of modules is cut off")
    return data[at : at + length], at + length


def _pointed(elf: Any, pointer: bytes, order: Any) -> bytes:
    """The text that a pointer to a Go string leads to."""
    size = len(pointer)
    if size not in (4, 8):
        raise Broken("its pointers have a size that is none")
    header = elf.at(int.from_bytes(pointer, order), 2 * size)
    if len(header) < 2 * size:
        return b""
    address, length = int.from_bytes(header[:size], order), int.from_bytes(header[size:], order)
    return bytes(elf.at(address, length)) if length <= _TEXT_LIMIT else b""


def modules(info: BuildInfo) -> Iterator[Package]:
    """The standard library, the main module and what it depends on; of a replaced one what it is replaced by."""
    if info.version.startswith("go"):
        version = info.version.split(" ", 1)[0]
        if name_of(version[2:]):
            yield Package(GO, "stdlib", version[2:])
    waiting: Package | None = None
    for line in info.modules.splitlines():
        fields = line.split("\t")
        if fields[0] not in ("mod", "dep", "=>") or len(fields) < 3:
            continue
        if fields[0] != "=>" and waiting is not None:
            yield waiting
            waiting = None
        version = fields[2] or "(devel)"
        if not name_of(fields[1], version):
            continue
        if fields[0] == "=>" and fields[1].startswith(("./", "../", "/")):
            continue  # a folder: what it is called is what it replaces
        waiting = Package(GO, fields[1], version)
    if waiting is not None:
        yield waiting
