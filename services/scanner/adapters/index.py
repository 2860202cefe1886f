"""The index of advisories: one SQLite file, changed in transactions by imports (catalogue.py) while others read it.

`revision` grows with each transaction that changed what a package is told; each package remembers the one that touched
it last, so that whoever was matched before can ask what has changed since. Read and written in worker processes: SQLite
and what it reads cost the service itself no memory.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from services.scanner.adapters.databases import BUSY_S
from services.scanner.decisions.matching import Known
from services.scanner.decisions.osv import Affected, Detail, unpacked
from services.scanner.decisions.severities import RANK

FORMAT = 2

_NEWEST = (
    " AND NOT EXISTS (SELECT 1 FROM advisory other WHERE other.id = a.id AND other.n <> a.n"
    " AND (other.modified, other.n) > (a.modified, a.n))"
)
"""Where several sources have an advisory, the newest copy counts, also when that one was withdrawn."""


class Index:
    """An index, opened for reading. Raises sqlite3.Error for a file that is none."""

    def __init__(self, path: str | Path) -> None:
        self._connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=BUSY_S)
        told = dict(self._connection.execute("SELECT name, value FROM meta"))
        if told.get("format") != str(FORMAT):
            raise sqlite3.DatabaseError(f"it has the format {told.get('format')}, not {FORMAT}")
        self.identity, self.revision = told["identity"], int(told["revision"])
        self.newest = told["newest"]
        self._covered = dict(self._connection.execute("SELECT name, packages FROM ecosystem"))
        self._details: dict[int, Detail] = {}

    def close(self) -> None:
        """Let go."""
        self._connection.close()

    @property
    def version(self) -> str:
        """Names what it says: another index, or a changed one, has another. Empty while it has nothing to say."""
        return f"{self.identity}.{self.revision}" if self._covered else ""

    def covered(self, ecosystem: str) -> bool:
        """Whether it has advisories of an ecosystem."""
        return ecosystem in self._covered

    def meta(self) -> dict[str, Any]:
        """What it says of itself: version, the newest advisory's date, packages by ecosystem, its sources."""
        one = self._connection.execute
        sources = []
        for row in one("SELECT n, name, kind, added_at, updated_at, newest, skipped, problems, told FROM source"):
            members = ("name", "kind", "added_at", "updated_at", "newest", "skipped", "problems")
            source = dict(zip(members, row[1:8], strict=True)) | {"problems": json.loads(row[7])}
            told = json.loads(row[8])
            counted = one("SELECT count(*), sum(gone) FROM advisory WHERE source = ?", row[:1]).fetchone()
            source |= {"used": counted[0] - (counted[1] or 0), "withdrawn": counted[1] or 0}
            if row[2] == "exploited":
                (source["used"],) = one("SELECT count(*) FROM exploited WHERE source = ?", row[:1]).fetchone()
            sources.append(source | {name: told[name] for name in ("path", "fingerprint") if name in told})
        (exploited,) = one("SELECT count(DISTINCT name) FROM exploited").fetchone()
        return {
            "version": self.version,
            "newest": self.newest,
            "ecosystems": self._covered,
            "sources": sources,
            "used": sum(source["used"] for source in sources if source["kind"] != "exploited"),
            "exploited": exploited,
        }

    def lookup(self, ecosystem: str, package: str) -> Iterator[Known]:
        """What advisories tell of a package. One that does not say how bad it is takes what another one says of the
        same CVE."""
        rows = self._connection.execute(
            "SELECT a.n, a.id, a.names, a.severity, a.score, a.vector, f.told FROM package p"
            " JOIN affected f ON f.package = p.n JOIN advisory a ON a.n = f.advisory"
            f" WHERE p.ecosystem = ? AND p.name = ?{_NEWEST} ORDER BY a.id",
            (ecosystem, package),
        ).fetchall()
        for n, id_, names, severity, score, vector, told in rows:
            for ranges, versions in json.loads(told):
                affected = Affected(
                    ecosystem, package, [[(kind, at) for kind, at in each] for each in ranges], versions
                )
                for name in json.loads(names):
                    rating = (severity, score, vector) if severity != "UNDEFINED" else self._rating(name)
                    yield Known(id_, name, *rating, affected, lambda n=n: self.detail(n), self._exploited(name))

    def detail(self, n: int) -> Detail:
        """The words of an advisory."""
        if n not in self._details:
            row = self._connection.execute("SELECT detail FROM advisory WHERE n = ?", (n,)).fetchone()
            self._details[n] = unpacked(row[0])
        return self._details[n]

    def details(self, ids: list[str]) -> dict[str, Detail]:
        """The words of advisories by their ids; those that are gone are left out."""
        found = {}
        for id_ in ids:
            row = self._connection.execute(f"SELECT a.n FROM advisory a WHERE a.id = ?{_NEWEST}", (id_,)).fetchone()
            if row is not None:
                found[id_] = self.detail(row[0])
        return found

    def _rating(self, name: str) -> tuple[str, float, str]:
        rows = self._connection.execute(
            "SELECT a.severity, a.score, a.vector FROM named n JOIN advisory a ON a.n = n.advisory"
            f" WHERE n.name = ? AND a.gone = 0 AND a.severity <> 'UNDEFINED'{_NEWEST}",
            (name,),
        ).fetchall()
        return max(rows, key=lambda row: (RANK[row[0]], row[1], row[2]), default=("UNDEFINED", 0.0, ""))

    def _exploited(self, name: str) -> str:
        row = self._connection.execute("SELECT min(added) FROM exploited WHERE name = ?", (name,)).fetchone()
        return row[0] or ""

    def touched(self, since: int) -> Iterator[tuple[str, str]]:
        """The (ecosystem, package) that a later revision than `since` told something else of."""
        return iter(self._connection.execute("SELECT ecosystem, name FROM package WHERE revision > ?", (since,)))

    def uncovered(self, since: int) -> list[str]:
        """The ecosystems that are known, or not known any more, only since a revision."""
        return [row[0] for row in self._connection.execute("SELECT name FROM flipped WHERE revision > ?", (since,))]

    def touched_at(self, ecosystem: str, package: str) -> int:
        """The revision that last told something of a package, or of whether its ecosystem is known."""
        row = self._connection.execute(
            "SELECT max(coalesce((SELECT revision FROM package WHERE ecosystem = ? AND name = ?), 0),"
            " coalesce((SELECT revision FROM flipped WHERE name = ?), 0))",
            (ecosystem, package, ecosystem),
        ).fetchone()
        return int(row[0])
