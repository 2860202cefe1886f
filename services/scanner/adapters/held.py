"""Which images hold which packages: an index of bills of materials, so that a change of advisories finds the images
that it touches without going through them all. Made out of the bills of materials, and made again when it is lost.

An `item` is what the index of advisories is asked for a package; images share items. `verdict` remembers what came of
it, `changed` the revision of advisories by which something else came of it than before. A bill is due when one of its
items has changed since `revision`, which it was matched with.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from pathlib import Path

from services.scanner.adapters.databases import opened
from services.scanner.adapters.index import Index
from services.scanner.decisions.layers import Contents
from services.scanner.decisions.matching import (
    Answer,
    Place,
    Question,
    Tally,
    all_questions,
    remembering,
    tally,
)

FORMAT = 1
FEW = 50
_SCHEMA = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE word (n INTEGER PRIMARY KEY, text TEXT UNIQUE);
CREATE TABLE item (n INTEGER PRIMARY KEY, scope INTEGER, kind TEXT, name TEXT, version TEXT, verdict BLOB,
  changed INTEGER, UNIQUE (scope, name, version, kind));
CREATE INDEX item_changed ON item (changed);
CREATE TABLE bill (n INTEGER PRIMARY KEY, name TEXT UNIQUE, revision INTEGER, tally TEXT);
CREATE TABLE holds (bill INTEGER, item INTEGER, package INTEGER, version INTEGER, source INTEGER, path INTEGER,
  layer INTEGER, PRIMARY KEY (bill, item, package, version, path)) WITHOUT ROWID;
CREATE INDEX holds_item ON holds (item, bill);
INSERT INTO meta VALUES ('format', '{FORMAT}'), ('identity', ''), ('judged', '0');
"""


def _made(connection: sqlite3.Connection) -> None:
    for statement in _SCHEMA.split(";"):
        connection.execute(statement)


class Held:
    """The index, opened; made when there is none that can be used."""

    def __init__(self, path: Path) -> None:
        self._connection = opened(path, FORMAT, _made)
        self._connection.execute("PRAGMA synchronous = NORMAL")  # it can be made again
        self._run = self._connection.execute
        self._words: dict[str, int] = {}
        self._texts: dict[int, str] = {}
        self._few: dict[int, bool] = {}

    def close(self) -> None:
        """Let go."""
        self._connection.close()

    def begin(self) -> None:
        """Begin a transaction."""
        self._run("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """End it."""
        self._run("COMMIT")

    def follow(self, index: Index) -> None:
        """What was matched with another index was matched with nothing."""
        (known,) = self._run("SELECT value FROM meta WHERE name = 'identity'").fetchone()
        if known != index.identity:
            self._run("UPDATE meta SET value = ? WHERE name = 'identity'", (index.identity,))
            self._run("UPDATE meta SET value = '0' WHERE name = 'judged'")
            self._run("UPDATE item SET verdict = NULL, changed = 0")
            self._run("UPDATE bill SET revision = -1")

    def missing(self, bills: Iterable[str]) -> list[str]:
        """Those of these bills that are not in it."""
        known = {row[0] for row in self._run("SELECT name FROM bill")}
        return [name for name in bills if name not in known]

    def keep_only(self, bills: Iterable[str]) -> int:
        """Drop all other bills; how many."""
        kept = set(bills)
        gone = [row for row in self._run("SELECT n, name FROM bill").fetchall() if row[1] not in kept]
        for n, _ in gone:
            self._run("DELETE FROM holds WHERE bill = ?", (n,))
            self._run("DELETE FROM bill WHERE n = ?", (n,))
        if gone:
            self._run("DELETE FROM item WHERE n NOT IN (SELECT item FROM holds)")
        return len(gone)

    def hold(self, name: str, contents: Contents, revision: int, touched_at: Callable[[str, str], int]) -> None:
        """Remember a bill of materials that was matched with a revision of the advisories; -1 for with none."""
        self._run("DELETE FROM holds WHERE bill = (SELECT n FROM bill WHERE name = ?)", (name,))
        self._run(
            "INSERT INTO bill (name, revision, tally) VALUES (?, ?, ?) ON CONFLICT (name)"
            " DO UPDATE SET revision = min(revision, excluded.revision), tally = excluded.tally",
            (name, revision, json.dumps(tally(contents))),
        )
        (bill,) = self._run("SELECT n FROM bill WHERE name = ?", (name,)).fetchone()
        rows = {
            (
                bill,
                self._item(question, touched_at),
                *map(self._word, (place.package, place.version, place.source, place.path, place.layer)),
            )
            for place, question in all_questions(contents)
        }
        self._connection.executemany("INSERT OR IGNORE INTO holds VALUES (?, ?, ?, ?, ?, ?, ?)", sorted(rows))

    def _item(self, question: Question, touched_at: Callable[[str, str], int]) -> int:
        scope = self._word("|".join(question.ecosystems))
        key = (scope, question.kind, question.name, question.version)
        found = self._run(
            "SELECT n FROM item WHERE scope = ? AND kind = ? AND name = ? AND version = ?", key
        ).fetchone()
        if found is not None:
            return int(found[0])
        changed = max(touched_at(ecosystem, question.name) for ecosystem in question.ecosystems)
        added = self._run(
            "INSERT INTO item (scope, kind, name, version, changed) VALUES (?, ?, ?, ?, ?)", (*key, changed)
        )
        assert added.lastrowid is not None
        return added.lastrowid

    def _word(self, text: str) -> int:
        if text not in self._words:
            self._run("INSERT OR IGNORE INTO word (text) VALUES (?)", (text,))
            (self._words[text],) = self._run("SELECT n FROM word WHERE text = ?", (text,)).fetchone()
        return self._words[text]

    def _text(self, word: int) -> str:
        if word not in self._texts:
            (self._texts[word],) = self._run("SELECT text FROM word WHERE n = ?", (word,)).fetchone()
        return self._texts[word]

    def judge(self, index: Index) -> int:
        """Look anew at every item that newer advisories speak of; of how many something else came than before."""
        judged = self.judged
        if judged == index.revision:
            return 0
        scopes: dict[str, list[int]] = {}
        for (scope,) in self._run("SELECT DISTINCT scope FROM item").fetchall():
            for ecosystem in self._text(scope).split("|"):
                scopes.setdefault(ecosystem, []).append(scope)
        changed = self._rejudge(index, judged, scopes)
        for ecosystem in index.uncovered(judged):
            for scope in scopes.get(ecosystem, ()):
                self._run("UPDATE item SET changed = ? WHERE scope = ?", (index.revision, scope))
        self._run("UPDATE meta SET value = ? WHERE name = 'judged'", (str(index.revision),))
        return changed

    def _rejudge(self, index: Index, judged: int, scopes: dict[str, list[int]]) -> int:
        ask = remembering(index.lookup)
        seen: set[int] = set()
        changed = 0
        for ecosystem, name in index.touched(judged):
            for scope in scopes.get(ecosystem, ()):
                found = self._run(
                    "SELECT n, kind, version, verdict FROM item WHERE scope = ? AND name = ?", (scope, name)
                ).fetchall()
                for n, kind, version, verdict in found:
                    if n in seen:
                        continue
                    seen.add(n)
                    question = Question(kind, tuple(self._text(scope).split("|")), name, version)
                    now = _verdict(ask(question))
                    if now != verdict:
                        self._run("UPDATE item SET verdict = ?, changed = ? WHERE n = ?", (now, index.revision, n))
                        changed += 1
        return changed

    @property
    def judged(self) -> int:
        """The revision of the advisories up to which it was looked at: what has changed behind it shows in no item."""
        (told,) = self._run("SELECT value FROM meta WHERE name = 'judged'").fetchone()
        return int(told)

    def due(self) -> list[str]:
        """The bills that something else comes of than when they were matched."""
        return [
            row[0]
            for row in self._run(
                "SELECT name FROM bill WHERE revision < 0 OR n IN (SELECT h.bill FROM item i JOIN holds h"
                " ON h.item = i.n JOIN bill b ON b.n = h.bill WHERE i.changed > b.revision) ORDER BY n"
            )
        ]

    def bill(self, name: str) -> tuple[int, int, Tally] | None:
        """(number, the revision that it was matched with, what is asked about it)."""
        row = self._run("SELECT n, revision, tally FROM bill WHERE name = ?", (name,)).fetchone()
        return (row[0], row[1], Tally(*json.loads(row[2]))) if row is not None else None

    def asked(self, bill: int, since: int) -> Iterator[tuple[Place, Question]]:
        """What is to be asked again about a bill that was matched with revision `since`: each place that one of its
        changed items is in, with all its questions."""
        # Where few items have changed, they are looked up in the bill, not the bill's among them.
        few = self._few_changed(since)
        tables = "item i CROSS JOIN holds h" if few else "holds h JOIN item i"
        select = (
            "SELECT i.scope, i.kind, i.name, i.version, h.package, h.version, h.source, h.path, h.layer"
            " FROM {} ON i.n = h.item WHERE h.bill = ?"
        )
        rows = self._run(select.format(tables) + " AND i.changed > ?", (bill, since)).fetchall()
        if any(row[1] == "rpm" for row in rows):  # the one kind with several questions a place
            places = {row[4:] for row in rows}
            every = self._run(select.format("holds h JOIN item i"), (bill,)).fetchall()
            rows = [row for row in every if row[4:] in places]
        for scope, kind, name, version, *place in rows:
            question = Question(kind, tuple(self._text(scope).split("|")), name, version)
            yield Place(kind, *map(self._text, place)), question

    def _few_changed(self, since: int) -> bool:
        if since not in self._few:
            found = self._run("SELECT 1 FROM item WHERE changed > ? LIMIT ?", (since, FEW + 1)).fetchall()
            self._few[since] = len(found) <= FEW
        return self._few[since]

    def matched(self, bills: Iterable[str], revision: int) -> None:
        """What came of these bills with a revision is written down where it belongs."""
        self._connection.executemany(
            "UPDATE bill SET revision = ? WHERE name = ? AND revision < ?",
            [(revision, name, revision) for name in bills],
        )


def _verdict(told: Answer) -> bytes:
    return (
        blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=8).digest() if told.findings or told.odd else b""
    )
