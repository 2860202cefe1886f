"""What changes the index of advisories. One transaction an import: whoever reads sees all of it or nothing."""

from __future__ import annotations

import contextlib
import json
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

from services.scanner.adapters.databases import opened
from services.scanner.adapters.index import FORMAT
from services.scanner.decisions.osv import Advisory, advisory, compact, packed, parsed

PROBLEMS_TOLD = 20
CHANGED = 200_000
"""How many of the packages that a transaction has changed are remembered."""

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE source (n INTEGER PRIMARY KEY, name TEXT UNIQUE, kind TEXT, added_at REAL, updated_at REAL,
  newest TEXT DEFAULT '', skipped INTEGER DEFAULT 0, problems TEXT DEFAULT '[]', told TEXT DEFAULT '{}');
CREATE TABLE advisory (n INTEGER PRIMARY KEY, id TEXT, source INTEGER, modified TEXT, gone INTEGER, names TEXT,
  severity TEXT, score REAL, vector TEXT, detail BLOB, digest BLOB, seen INTEGER, UNIQUE (id, source));
CREATE TABLE package (n INTEGER PRIMARY KEY, ecosystem TEXT, name TEXT, revision INTEGER, UNIQUE (ecosystem, name));
CREATE TABLE affected (package INTEGER, advisory INTEGER, told TEXT, PRIMARY KEY (package, advisory)) WITHOUT ROWID;
CREATE INDEX affected_advisory ON affected (advisory);
CREATE TABLE named (name TEXT, advisory INTEGER, PRIMARY KEY (name, advisory)) WITHOUT ROWID;
CREATE TABLE exploited (name TEXT, source INTEGER, added TEXT, told TEXT, PRIMARY KEY (name, source)) WITHOUT ROWID;
CREATE TABLE ecosystem (name TEXT PRIMARY KEY, packages INTEGER) WITHOUT ROWID;
CREATE TABLE flipped (name TEXT PRIMARY KEY, revision INTEGER) WITHOUT ROWID;
CREATE INDEX package_revision ON package (revision);
"""


def moment(text: str) -> str:
    """An RFC 3339 time in the one form in which texts are ordered as times are; empty for what is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return ""
    if found.tzinfo is not None:
        found = found.astimezone(UTC)
    return found.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _made(connection: sqlite3.Connection) -> None:
    for statement in _SCHEMA.split(";"):
        connection.execute(statement)
    first = {"format": FORMAT, "identity": secrets.token_hex(4), "revision": 0, "newest": ""}
    told = [(name, str(value)) for name, value in first.items()]
    connection.executemany("INSERT INTO meta VALUES (?, ?)", told)


class Catalogue:
    """The index, opened for writing; made when there is none, or one of another format."""

    def __init__(self, path: Path) -> None:
        self._connection = opened(path, FORMAT, _made)
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA cache_size = -16384")
        self._revision = int(self._meta("revision"))
        self._touched = False
        self._changed: dict[tuple[str, str], int] = {}

    def close(self) -> None:
        """Let go."""
        self._connection.close()

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """A transaction; the next revision, when it has changed anything that a package is told. Raises sqlite3.Error,
        and what is raised in it: then nothing has changed."""
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        try:
            self._revision, self._touched = int(self._meta("revision")) + 1, False
            self._changed.clear()
            yield
            if self._touched:
                self._count()
                run("UPDATE meta SET value = ? WHERE name = 'revision'", (str(self._revision),))
                run("UPDATE meta SET value = (SELECT coalesce(max(modified), '') FROM advisory) WHERE name = 'newest'")
            run("COMMIT")
        except BaseException:
            run("ROLLBACK")
            raise

    def _count(self) -> None:
        run = self._connection.execute
        before = dict(run("SELECT name, packages FROM ecosystem"))
        after = dict(
            run(
                "SELECT ecosystem, count(*) FROM package WHERE EXISTS"
                " (SELECT 1 FROM affected WHERE package = package.n) GROUP BY ecosystem"
            )
        )
        for name in before.keys() ^ after.keys():
            run("INSERT OR REPLACE INTO flipped VALUES (?, ?)", (name, self._revision))
        run("DELETE FROM ecosystem")
        self._connection.executemany("INSERT INTO ecosystem VALUES (?, ?)", after.items())

    def _meta(self, name: str) -> str:
        (value,) = self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return str(value)

    def source(self, name: str, kind: str, now: float) -> int:
        """The number of a source, by its path or URL."""
        run = self._connection.execute
        run("INSERT OR IGNORE INTO source (name, kind, added_at) VALUES (?, ?, ?)", (name, kind, now))
        run("UPDATE source SET kind = ? WHERE name = ? AND kind <> ?", (kind, name, kind))
        return int(run("SELECT n FROM source WHERE name = ?", (name,)).fetchone()[0])

    def told(self, source: int) -> dict[str, Any]:
        """What a source keeps for itself, from one update to the next."""
        row = self._connection.execute("SELECT told FROM source WHERE n = ?", (source,)).fetchone()
        return dict(json.loads(row[0]))

    def updated(self, source: int, now: float, skipped: int, problems: Iterable[str], told: dict[str, Any]) -> None:
        """How an update of a source ended."""
        self._connection.execute(
            "UPDATE source SET updated_at = ?, skipped = ?, problems = ?, told = ?,"
            " newest = (SELECT coalesce(max(modified), '') FROM advisory WHERE source = ?) WHERE n = ?",
            (now, skipped, json.dumps(list(problems)[:PROBLEMS_TOLD]), json.dumps(told), source, source),
        )

    def put(self, source: int, text: bytes, run: int = 0, *, last: bool = False) -> str:
        """Take a record (JSON) in: used | unchanged | older | withdrawn. `run` marks it as seen. One that is older than
        what the source had is not taken in, unless (`last`) the newer one was not seen in this run. Raises ValueError
        for what is no advisory."""
        record = parsed(text)
        id_ = record.get("id") if isinstance(record, dict) else None
        digest = blake2b(text, digest_size=8).digest()
        copies = self._connection.execute(
            "SELECT n, modified, digest, seen, gone, source FROM advisory WHERE id = ?", (str(id_),)
        ).fetchall()
        known = next((copy for copy in copies if copy[5] == source), None)
        if known is not None and known[2] == digest:
            self._connection.execute("UPDATE advisory SET seen = ? WHERE n = ?", (run, known[0]))
            return "withdrawn" if known[4] else "unchanged"
        found = advisory(record)
        modified = moment(found.modified)
        if known is not None and run:
            twice = known[3] == run and known[1] >= modified
            if twice or (known[1] > modified and not last):
                return "older"
        if known is None:
            for copy in copies:
                self._touch(copy[0])
        self._replace(source, known[0] if known is not None else None, found, modified, digest, run)
        return "used" if found.affected else "withdrawn"

    def _replace(self, source: int, n: int | None, found: Advisory, modified: str, digest: bytes, run: int) -> None:
        execute = self._connection.execute
        row = (
            modified, int(not found.affected), compact(found.names), found.severity, found.score, found.vector,
            packed(found.detail) if found.affected else b"", digest, run,
        )  # fmt: skip
        if n is None:
            n = execute(
                "INSERT INTO advisory (id, source, modified, gone, names, severity, score, vector, detail, digest,"
                " seen) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (found.id, source, *row),
            ).lastrowid
        else:
            self._touch(n)
            self._forget(n)
            execute(
                "UPDATE advisory SET modified = ?, gone = ?, names = ?, severity = ?, score = ?, vector = ?,"
                " detail = ?, digest = ?, seen = ? WHERE n = ?",
                (*row, n),
            )
        told: dict[tuple[str, str], list[Any]] = {}
        for each in found.affected:
            told.setdefault((each.ecosystem, each.package), []).append((each.ranges, each.versions))
        rows = [(self._package(*where), n, compact(what)) for where, what in told.items()]
        self._connection.executemany("INSERT INTO affected VALUES (?, ?, ?)", rows)
        if found.affected:
            self._connection.executemany("INSERT INTO named VALUES (?, ?)", [(name, n) for name in found.names])
        if found.severity != "UNDEFINED":
            self._rate(found.names)
        self._touched = self._touched or bool(found.affected)

    def _package(self, ecosystem: str, name: str) -> int:
        """A package's number; what it is told has changed."""
        known = self._changed.get((ecosystem, name))
        if known is not None:
            return known
        row = self._connection.execute(
            "INSERT INTO package (ecosystem, name, revision) VALUES (?, ?, ?)"
            " ON CONFLICT (ecosystem, name) DO UPDATE SET revision = excluded.revision RETURNING n",
            (ecosystem, name, self._revision),
        ).fetchone()
        if len(self._changed) < CHANGED:
            self._changed[ecosystem, name] = int(row[0])
        return int(row[0])

    def _touch(self, advisory_n: int) -> None:
        """Whatever an advisory speaks of is told something else."""
        told = self._connection.execute(
            "UPDATE package SET revision = ? WHERE n IN (SELECT package FROM affected WHERE advisory = ?)",
            (self._revision, advisory_n),
        )
        self._touched = self._touched or told.rowcount > 0

    def _rate(self, names: Iterable[str]) -> None:
        """How bad a vulnerability is, is taken by the advisories on it that do not say."""
        for name in names:
            told = self._connection.execute(
                "UPDATE package SET revision = ? WHERE revision <> ? AND n IN (SELECT f.package FROM named n"
                " JOIN affected f ON f.advisory = n.advisory WHERE n.name = ?)",
                (self._revision, self._revision, name),
            )
            self._touched = self._touched or told.rowcount > 0

    def _forget(self, advisory_n: int) -> None:
        names, severity = self._connection.execute(
            "SELECT names, severity FROM advisory WHERE n = ?", (advisory_n,)
        ).fetchone()
        if severity != "UNDEFINED":
            self._rate(json.loads(names))
        self._connection.execute("DELETE FROM affected WHERE advisory = ?", (advisory_n,))
        self._connection.execute("DELETE FROM named WHERE advisory = ?", (advisory_n,))

    def _drop(self, rows: list[tuple[int, str]]) -> None:
        for n, id_ in rows:
            self._touch(n)
            self._forget(n)
            self._connection.execute("DELETE FROM advisory WHERE n = ?", (n,))
            for (copy,) in self._connection.execute("SELECT n FROM advisory WHERE id = ?", (id_,)).fetchall():
                self._touch(copy)

    def keep(self, source: int, id_: str, run: int) -> None:
        """What a source has of an advisory can't be used: what it said before stays."""
        self._connection.execute("UPDATE advisory SET seen = ? WHERE source = ? AND id = ?", (run, source, id_))

    def drop(self, source: int, id_: str) -> None:
        """A source does not have an advisory any more."""
        run = self._connection.execute
        self._drop(run("SELECT n, id FROM advisory WHERE source = ? AND id = ?", (source, id_)).fetchall())

    def drop_unseen(self, source: int, run: int) -> int:
        """Drop what a source had and this run did not see; how many."""
        found = self._connection.execute(
            "SELECT n, id FROM advisory WHERE source = ? AND seen <> ?", (source, run)
        ).fetchall()
        self._drop(found)
        return len(found)

    def drop_other_sources(self, kept: int) -> None:
        """Only one source is left."""
        run = self._connection.execute
        for (source,) in run("SELECT n FROM source WHERE n <> ?", (kept,)).fetchall():
            self.drop_unseen(source, -1)
            self.exploit(source, {})
            run("DELETE FROM source WHERE n = ?", (source,))

    def exploit(self, source: int, listed: dict[str, dict[str, str]]) -> int:
        """The vulnerabilities that are known to be exploited, as a source now has them: {CVE: its entry}."""
        run = self._connection.execute
        before = dict(run("SELECT name, added FROM exploited WHERE source = ?", (source,)))
        after = {name: told.get("dateAdded", "") for name, told in listed.items()}
        run("DELETE FROM exploited WHERE source = ?", (source,))
        rows = [(name, source, after[name], json.dumps(told)) for name, told in listed.items()]
        self._connection.executemany("INSERT INTO exploited VALUES (?, ?, ?, ?)", rows)
        self._rate(name for name in {*before, *after} if before.get(name) != after.get(name))
        return len(rows)
