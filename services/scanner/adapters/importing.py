"""The import of advisories: a new index, made whole beside the one in force. Runs in a worker process."""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from services.scanner.decisions.osv import Advisory, advisory
from services.scanner.decisions.severities import RANK

FORMAT = 1
LINE_LIMIT = 32 << 20
PROBLEMS_TOLD = 20
SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".zip")

_SCHEMA = """
CREATE TABLE advisory (id TEXT PRIMARY KEY, names TEXT, modified TEXT, severity TEXT, score REAL, vector TEXT,
  summary TEXT) WITHOUT ROWID;
CREATE TABLE affected (ecosystem TEXT, package TEXT, advisory TEXT, ranges TEXT, versions TEXT);
CREATE TABLE rated (name TEXT PRIMARY KEY, severity TEXT, score REAL, vector TEXT) WITHOUT ROWID;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
"""
_INDEXES = """
CREATE INDEX affected_package ON affected (ecosystem, package);
"""


class _Source(NamedTuple):
    """A record as it was found: where, and the JSON of it."""

    where: str
    text: bytes


def sources(path: Path) -> list[Path]:
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
    told = [f"{p}:{p.stat().st_size}:{p.stat().st_mtime_ns}" for p in sources(path)]
    return sha256("\n".join([str(FORMAT), *told]).encode()).hexdigest()[:16]


def build(path: Path, target: Path, now: float) -> dict[str, Any]:
    """Import all advisories under `path` into a new index, put at `target` when it is whole; its meta data.

    A record that can't be used is passed over and told of. Raises OSError (nothing to read, no room).
    """
    files = sources(path)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    try:
        connection = sqlite3.connect(part)
        try:
            meta = _fill(connection, files) | {"imported_at": now, "path": str(path), "fingerprint": fingerprint(path)}
            _finish(connection, meta)
        finally:
            connection.close()
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    return meta


def _fill(connection: sqlite3.Connection, files: list[Path]) -> dict[str, Any]:
    connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _SCHEMA)
    counts = {"records": 0, "used": 0, "withdrawn": 0, "skipped": 0}
    problems: list[str] = []
    newest = ""
    digest = sha256()
    for source in _read(files, problems, counts):
        counts["records"] += 1
        digest.update(source.text)
        try:
            found = advisory(json.loads(source.text))
        except (ValueError, RecursionError) as error:
            _problem(problems, counts, f"{source.where}: {error}")
            continue
        if found is None:
            counts["withdrawn"] += 1
            continue
        counts["used"] += _add(connection, found)
        newest = max(newest, found.modified)
    version = digest.hexdigest()[:16] if counts["used"] else ""
    return {**counts, "problems": problems, "newest": newest, "version": version, "format": FORMAT}


def _problem(problems: list[str], counts: dict[str, int], text: str) -> None:
    counts["skipped"] += 1
    if len(problems) < PROBLEMS_TOLD:
        problems.append(text[:300])


def _read(files: list[Path], problems: list[str], counts: dict[str, int]) -> Iterator[_Source]:
    for path in files:
        try:
            yield from _records(path)
        except (OSError, EOFError, zipfile.BadZipFile, ValueError) as error:
            _problem(problems, counts, f"{path.name}: {error}")


def _records(path: Path) -> Iterator[_Source]:
    if path.name.endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.filename.endswith(".json"):
                    if member.file_size > LINE_LIMIT:
                        raise ValueError(f"{member.filename} has more than {LINE_LIMIT} bytes")
                    yield _Source(f"{path.name}/{member.filename}", archive.read(member))
        return
    with gzip.open(path) if path.name.endswith(".gz") else open(path, "rb") as file:
        if path.name.removesuffix(".gz").endswith(".json"):
            text = file.read(LINE_LIMIT + 1)
            if len(text) > LINE_LIMIT:
                raise ValueError(f"it has more than {LINE_LIMIT} bytes")
            yield _Source(path.name, text)
            return
        number = 0
        while line := file.readline(LINE_LIMIT):
            number += 1
            if len(line) == LINE_LIMIT:
                raise ValueError(f"line {number} has more than {LINE_LIMIT} bytes")
            if line.strip():
                yield _Source(f"{path.name}:{number}", line)


def _add(connection: sqlite3.Connection, found: Advisory) -> int:
    """Add it, unless there is a newer one of its id; how many there are more."""
    known = connection.execute("SELECT modified FROM advisory WHERE id = ?", (found.id,)).fetchone()
    if known is not None and known[0] > found.modified:
        return 0
    if known is not None:
        connection.execute("DELETE FROM affected WHERE advisory = ?", (found.id,))
    connection.execute(
        "INSERT OR REPLACE INTO advisory VALUES (?, ?, ?, ?, ?, ?, ?)",
        (found.id, json.dumps(found.names), *found[2:7]),
    )
    connection.executemany(
        "INSERT INTO affected VALUES (?, ?, ?, ?, ?)",
        [(a.ecosystem, a.package, found.id, json.dumps(a.ranges), json.dumps(a.versions)) for a in found.affected],
    )
    for name in found.names if found.severity != "UNDEFINED" else ():
        _rate(connection, name, found)
    return known is None


def _rate(connection: sqlite3.Connection, name: str, found: Advisory) -> None:
    """How bad a CVE is, for the advisories on it that don't say."""
    known = connection.execute("SELECT severity FROM rated WHERE name = ?", (name,)).fetchone()
    if known is None or RANK[known[0]] < RANK[found.severity]:
        row = (name, found.severity, found.score, found.vector)
        connection.execute("INSERT OR REPLACE INTO rated VALUES (?, ?, ?, ?)", row)


def _finish(connection: sqlite3.Connection, meta: dict[str, Any]) -> None:
    connection.executescript(_INDEXES)
    counted = connection.execute("SELECT ecosystem, count(DISTINCT package) FROM affected GROUP BY ecosystem")
    meta["ecosystems"] = dict(counted.fetchall())
    connection.execute("INSERT INTO meta VALUES ('meta', ?)", (json.dumps(meta),))
    connection.commit()
