"""Files of advisories, read record by record: what is broken is told of and passed over, and nothing is read without
a bound."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, NamedTuple

from services.scanner.adapters import archives

RECORD_LIMIT = 16 << 20
"""Bytes of one record."""
CATALOGUE_LIMIT = 64 << 20
"""Bytes of a JSON file that is more than one record."""
FILE_LIMIT = 16 << 30
"""Bytes that one file may unpack to."""
MEMBERS_LIMIT = 4_000_000
SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".zip")


class Found(NamedTuple):
    """What a file has: a record's JSON; or an entry of the list of what is known to be exploited; or why something in
    it could not be read (`whole`: the rest of the file neither)."""

    where: str
    text: bytes = b""
    exploited: dict[str, str] | None = None
    problem: str = ""
    whole: bool = False


def files(path: Path) -> list[Path]:
    """The files of advisories under a path, in order. Raises FileNotFoundError when there is none."""
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.is_file() and p.name.endswith(SUFFIXES))
    else:
        found = [path] if path.exists() else []
    if not found:
        raise FileNotFoundError(f"no advisories ({', '.join(SUFFIXES)}) in {path}")
    return found


def fingerprint(path: Path) -> str:
    """What the files under a path are, as far as one can tell without reading them."""
    told = [f"{p}:{p.stat().st_size}:{p.stat().st_mtime_ns}" for p in files(path)]
    return sha256("\n".join(told).encode()).hexdigest()[:16]


def read(path: Path) -> Iterator[Found]:
    """All that a file has. Raises nothing that comes of what is in it."""
    try:
        if path.name.endswith(".zip"):
            yield from _zipped(path)
            return
        with gzip.open(path) if path.name.endswith(".gz") else open(path, "rb") as file:
            if path.name.removesuffix(".gz").endswith(".json"):
                yield from _document(path.name, file)
            else:
                yield from _lines(path.name, file)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        yield Found(path.name, problem=str(error) or type(error).__name__, whole=True)


def _zipped(path: Path) -> Iterator[Found]:
    """OSV's all.zip: a record a member."""
    left = FILE_LIMIT
    with open(path, "rb") as file:
        for number, member in enumerate(archives.members(path)):
            if number == MEMBERS_LIMIT:
                raise ValueError(f"it has more than {MEMBERS_LIMIT} members")
            if not member.name.endswith(".json"):
                continue
            where = f"{path.name}/{member.name}"
            try:
                text = archives.read(file, member, RECORD_LIMIT)
            except archives.BadMember as error:
                yield Found(where, problem=str(error))
                continue
            left -= len(text)
            if left < 0:
                raise ValueError(f"it unpacks to more than {FILE_LIMIT} bytes")
            if len(text) > RECORD_LIMIT:
                yield Found(where, problem=f"it has more than {RECORD_LIMIT} bytes")
                continue
            yield Found(where, text)


def _document(name: str, file: IO[bytes]) -> Iterator[Found]:
    """One record, a list of records, or CISA's catalogue."""
    text = file.read(CATALOGUE_LIMIT + 1)
    if len(text) > CATALOGUE_LIMIT:
        raise ValueError(f"it has more than {CATALOGUE_LIMIT} bytes")
    many = text.lstrip()[:1] == b"[" or b'"vulnerabilities"' in text
    if not many:
        if len(text) > RECORD_LIMIT:
            raise ValueError(f"it has more than {RECORD_LIMIT} bytes")
        yield Found(name, text)
        return
    try:
        told = json.loads(text)
    except RecursionError as error:
        raise ValueError(str(error)) from None
    if isinstance(told, dict) and isinstance(told.get("vulnerabilities"), list) and "id" not in told:
        yield from _catalogue(name, told["vulnerabilities"])
        return
    for number, each in enumerate(told if isinstance(told, list) else [told], 1):
        yield Found(f"{name}:{number}", json.dumps(each).encode())


def _catalogue(name: str, entries: list[Any]) -> Iterator[Found]:
    """https://www.cisa.gov/known-exploited-vulnerabilities-catalog, its JSON."""
    for number, each in enumerate(entries, 1):
        if (
            not isinstance(each, dict)
            or not isinstance(each.get("cveID"), str)
            or not isinstance(each.get("dateAdded"), str)
        ):
            yield Found(f"{name}:{number}", problem="an entry without cveID or dateAdded")
            continue
        kept = ("cveID", "dateAdded", "dueDate", "knownRansomwareCampaignUse", "requiredAction")
        yield Found(f"{name}:{number}", exploited={k: v[:400] for k in kept if isinstance(v := each.get(k), str)})


def _lines(name: str, file: IO[bytes]) -> Iterator[Found]:
    number, left = 0, FILE_LIMIT
    while line := file.readline(RECORD_LIMIT + 1):
        number += 1
        left -= len(line)
        long = len(line) > RECORD_LIMIT
        while long and line and not line.endswith(b"\n") and left > 0:
            line = file.readline(1 << 20)
            left -= len(line)
        if left < 0:
            raise ValueError(f"it unpacks to more than {FILE_LIMIT} bytes")
        if long:
            yield Found(f"{name}:{number}", problem=f"it has more than {RECORD_LIMIT} bytes")
        elif line.strip():
            yield Found(f"{name}:{number}", line.rstrip(b"\r\n"))
