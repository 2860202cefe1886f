"""The index of advisories: one SQLite file, made whole by an import (importing.py) and never changed afterwards.

Read in worker processes: SQLite and what it reads cost the service itself no memory.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

from services.scanner.decisions.matching import Known
from services.scanner.decisions.osv import Affected


class Index:
    """An index, opened for reading."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)

    def meta(self) -> dict[str, Any]:
        """What `build` told of it. Raises sqlite3.DatabaseError for a file that is no index."""
        (text,) = self._connection.execute("SELECT value FROM meta WHERE name = 'meta'").fetchone()
        return dict(json.loads(text))

    def lookup(self, ecosystem: str, package: str) -> Iterator[Known]:
        """The advisories that speak of a package. One that does not say how bad it is takes what another one says of
        the same CVE."""
        rows = self._connection.execute(
            "SELECT a.id, a.names, a.severity, a.score, a.vector, a.summary, f.ranges, f.versions"
            " FROM affected f JOIN advisory a ON a.id = f.advisory WHERE f.ecosystem = ? AND f.package = ?",
            (ecosystem, package),
        )
        for id_, names, severity, score, vector, summary, ranges, versions in rows.fetchall():
            events = [[(kind, at) for kind, at in each] for each in json.loads(ranges)]
            affected = Affected(ecosystem, package, events, json.loads(versions))
            for name in json.loads(names):
                rating = (severity, score, vector) if severity != "UNDEFINED" else self._rating(name)
                yield Known(id_, [name], *rating, summary, affected)

    def _rating(self, name: str) -> tuple[str, float, str]:
        row = self._connection.execute("SELECT severity, score, vector FROM rated WHERE name = ?", (name,)).fetchone()
        return (row[0], row[1], row[2]) if row is not None else ("UNDEFINED", 0.0, "")


def covered(meta: dict[str, Any]) -> Callable[[str], bool]:
    """Whether an index has advisories of an ecosystem."""
    return frozenset(meta.get("ecosystems", {})).__contains__
