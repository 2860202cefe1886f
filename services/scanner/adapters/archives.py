"""Zip archives, member by member in the order of their directory (APPNOTE.TXT 4.3), without holding the directory:
OSV's all.zip has some hundred thousand members, of which `zipfile` would keep a kilobyte each."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

_END, _END64, _LOCATOR64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_ENTRY = struct.Struct("<4s4B4HL2L5H2L")
_LOCAL = struct.Struct("<4s2B4HL2L2H")
_TAIL = (1 << 16) + 22
_STORED, _DEFLATED = 0, 8
_WHOLE32 = 0xFFFFFFFF


class BadArchive(ValueError):
    """It is no zip archive, or one that is cut off."""


class BadMember(ValueError):
    """One member can't be read; the others may."""


class Member(NamedTuple):
    """A member as the directory tells of it."""

    name: str
    encrypted: bool
    method: int
    crc: int
    packed: int
    offset: int


def members(path: Path) -> Iterator[Member]:
    """The members. Raises BadArchive, OSError."""
    with open(path, "rb") as file:
        at, count = _directory(file)
        file.seek(at)
        for _ in range(count):
            yield _member(file)


def _directory(file: IO[bytes]) -> tuple[int, int]:
    """(where the directory begins, how many entries it has)."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _TAIL))
    tail = file.read()
    end = tail.rfind(_END)
    if end < 0 or len(tail) - end < 22:
        raise BadArchive("it is no zip archive, or its end is missing")
    count, _, at = struct.unpack("<HLL", tail[end + 10 : end + 20])
    locator = tail[max(0, end - 20) : end]
    if locator[:4] == _LOCATOR64:
        (where,) = struct.unpack("<Q", locator[8:16])
        file.seek(where)
        end64 = file.read(56)
        if end64[:4] != _END64 or len(end64) < 56:
            raise BadArchive("it is a zip archive whose end is broken")
        count, _, at = struct.unpack("<QQQ", end64[32:56])
    if at > size:
        raise BadArchive("it is a zip archive whose directory is missing")
    return at, count


def _member(file: IO[bytes]) -> Member:
    head = file.read(_ENTRY.size)
    if len(head) < _ENTRY.size or head[:4] != b"PK\x01\x02":
        raise BadArchive("it is a zip archive whose directory is broken")
    fields = _ENTRY.unpack(head)
    flags, method, crc, packed, plain = fields[5], fields[6], fields[9], fields[10], fields[11]
    name_length, extra_length, comment_length, offset = fields[12], fields[13], fields[14], fields[18]
    name, extra = file.read(name_length), file.read(extra_length)
    file.seek(comment_length, 1)
    wide = [value for value in (plain, packed, offset) if value == _WHOLE32]
    if wide:
        long = iter(_wide(extra, len(wide)))
        plain, packed, offset = (next(long) if v == _WHOLE32 else v for v in (plain, packed, offset))
    return Member(name.decode("utf-8", "replace"), bool(flags & 1), method, crc, packed, offset)


def _wide(extra: bytes, count: int) -> list[int]:
    """The numbers that did not fit (zip64)."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack("<HH", extra[at : at + 4])
        if kind == 1 and length >= 8 * count:
            return list(struct.unpack(f"<{count}Q", extra[at + 4 : at + 4 + 8 * count]))
        at += 4 + length
    raise BadArchive("it is a zip archive whose directory is broken")


def read(file: IO[bytes], member: Member, most: int) -> bytes:
    """What a member has, or the first `most` + 1 bytes of it. Raises BadMember, OSError."""
    if member.encrypted or member.method not in (_STORED, _DEFLATED):
        raise BadMember("it is encrypted, or packed in a way that is not read here")
    file.seek(member.offset)
    head = file.read(_LOCAL.size)
    if len(head) < _LOCAL.size or head[:4] != b"PK\x03\x04":
        raise BadMember("it is not where the directory says")
    *_, name_length, extra_length = _LOCAL.unpack(head)
    file.seek(name_length + extra_length, 1)
    packed = file.read(min(member.packed, most + 1 if member.method == _STORED else 2 * most + 1024))
    if member.method == _DEFLATED:
        try:
            data = zlib.decompressobj(-15).decompress(packed, most + 1)
        except zlib.error as error:
            raise BadMember(str(error)) from None
    else:
        data = packed
    if len(data) <= most and zlib.crc32(data) != member.crc:
        raise BadMember("its CRC-32 is another")
    return data
