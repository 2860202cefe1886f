"""RPM's databases: SQLite, SUSE's ndb, Berkeley DB. https://rpm-software-management.github.io/rpm/manual/format_header.html"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from services.scanner.decisions.bounds import Broken, Budget, name_of
from services.scanner.decisions.cataloguers.berkeley import hash_values
from services.scanner.decisions.packages import RPM, Package

_NAME, _VERSION, _RELEASE, _EPOCH, _ARCH, _SOURCE = 1000, 1001, 1002, 1003, 1022, 1044
_WANTED = frozenset({_NAME, _VERSION, _RELEASE, _EPOCH, _ARCH, _SOURCE})
_INT32, _STRING = 4, 6
_TAGS_LIMIT = 65_536
_STEPS = 2_000
"""Thousands of steps of SQLite's machine that reading takes at most."""
_PAGE, _SLOT, _BLOCK = 4096, 16, 16
_NDB_MAGIC, _SLOT_MAGIC, _BLOB_MAGIC = b"RpmP", b"Slot", b"BlbS"


def sqlite(path: str, data: bytes, budget: Budget) -> Iterator[Package]:
    """rpmdb.sqlite: the table Packages has a header in each row."""
    import sqlite3

    if not data.startswith(b"SQLite format 3\0"):
        raise Broken("it is no SQLite database")
    steps = iter(range(_STEPS))
    try:
        connection = sqlite3.connect(":memory:")
        # A database in memory has no journal beside it: what the header says of one is put as if there were none.
        connection.deserialize(data[:18] + b"\1\1" + data[20:])
        connection.set_progress_handler(lambda: next(steps, None) is None, 1000)
        connection.execute("PRAGMA trusted_schema = OFF")
        for (blob,) in connection.execute("SELECT blob FROM Packages ORDER BY hnum"):
            yield from _package(blob)
    except (sqlite3.Error, OverflowError) as error:
        raise Broken(f"SQLite can't read it: {error}") from None


def ndb(path: str, data: bytes, budget: Budget) -> Iterator[Package]:
    """Packages.db: pages of slots, each telling where a header lies.
    https://github.com/rpm-software-management/rpm/blob/master/lib/backend/ndb/rpmpkg.cc"""
    if data[:4] != _NDB_MAGIC or len(data) < 32:
        raise Broken("it is no ndb database")
    _, version, _, pages = struct.unpack_from("<4I", data)
    if version != 0:
        raise Broken(f"it is an ndb database of version {version}, which is not known")
    for at in range(32, min(pages * _PAGE, len(data) - _SLOT + 1), _SLOT):
        magic, index, block, _ = struct.unpack_from("<4s3I", data, at)
        if magic != _SLOT_MAGIC or not index:
            continue
        begin = block * _BLOCK
        if begin + 16 > len(data):
            continue
        blob_magic, blob_index, _, length = struct.unpack_from("<4s3I", data, begin)
        if blob_magic == _BLOB_MAGIC and blob_index == index:
            yield from _package(data[begin + 16 : begin + 16 + length])


def berkeley(path: str, data: bytes, budget: Budget) -> Iterator[Package]:
    """Packages of Berkeley DB, as RPM wrote it before 4.16: a hash whose values are headers."""
    for blob in hash_values(data):
        yield from _package(blob)


def _package(blob: Any) -> Iterator[Package]:
    """The package of a header: counts of tags and bytes, the tags, the bytes that they point into."""
    tags = _tags(blob) if isinstance(blob, bytes) else {}
    name, version, release = (tags.get(tag) for tag in (_NAME, _VERSION, _RELEASE))
    if not name_of(name, version, release) or name == "gpg-pubkey":  # a key that packages are verified with
        return
    epoch = f"{tags[_EPOCH]}:" if tags.get(_EPOCH) else ""
    full = f"{epoch}{version}-{release}"
    source, source_version = str(name), full
    parts = str(tags.get(_SOURCE, "")).removesuffix(".rpm").rpartition(".")[0].rsplit("-", 2)
    if len(parts) == 3:
        source, source_version = parts[0], f"{epoch}{parts[1]}-{parts[2]}"
    yield Package(RPM, str(name), full, source, source_version, str(tags.get(_ARCH, "")))


def _tags(blob: bytes) -> dict[int, str | int]:
    if len(blob) < 8:
        return {}
    count, size = struct.unpack_from(">2I", blob)
    store = 8 + 16 * count
    if count > _TAGS_LIMIT or store + size > len(blob):
        return {}
    found: dict[int, str | int] = {}
    for at in range(8, store, 16):
        tag, kind, offset, _ = struct.unpack_from(">4I", blob, at)
        if tag not in _WANTED or offset >= size:
            continue
        begin = store + offset
        if kind == _STRING:
            end = blob.find(b"\0", begin)
            found[tag] = blob[begin:end].decode("utf-8", "replace") if end >= 0 else ""
        elif kind == _INT32 and offset + 4 <= size:
            (found[tag],) = struct.unpack_from(">I", blob, begin)
    return found
