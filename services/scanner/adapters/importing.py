"""The import of advisories out of files, into the index in force. Runs in a worker process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from services.scanner.adapters.catalogue import PROBLEMS_TOLD, Catalogue
from services.scanner.adapters.index import Index
from services.scanner.adapters.records import Found, files, fingerprint, read

OLDER_LIMIT = 32 << 20
"""How many bytes of older copies are held until it is known whether there are newer ones."""


class NothingUsable(OSError):
    """There is no record that can be used; the message says why."""


class Intake:
    """Takes records of one source in, and counts what became of them."""

    def __init__(self, catalogue: Catalogue, source: int, run: int) -> None:
        self._catalogue, self._source, self._run = catalogue, source, run
        self.counts = {"used": 0, "unchanged": 0, "withdrawn": 0, "older": 0}
        self.skipped, self.whole = 0, False
        self.problems: list[str] = []
        self.exploited: dict[str, dict[str, str]] = {}
        self._older: list[Found] = []
        self._older_bytes = 0

    def take(self, found: Found) -> None:
        """Take in what a file has."""
        if found.problem:
            self.whole = self.whole or found.whole
            self.problem(f"{found.where}: {found.problem}")
        elif found.exploited is not None:
            self.exploited[found.exploited["cveID"]] = found.exploited
        else:
            self._put(found)

    def _put(self, found: Found, *, last: bool = False) -> None:
        try:
            became = self._catalogue.put(self._source, found.text, self._run, last=last)
        except ValueError as error:
            self.problem(f"{found.where}: {error}")
            self._keep(found.text)
            return
        if became == "older" and not last:
            self._older.append(found)
            self._older_bytes += len(found.text)
            if self._older_bytes > OLDER_LIMIT:
                self.settle()
        else:
            self.counts[became] += 1

    def settle(self) -> None:
        """Everything was read: an older copy counts where the source has no newer one any more."""
        for found in self._older:
            self._put(found, last=True)
        self._older, self._older_bytes = [], 0

    def problem(self, text: str) -> None:
        """Something was passed over."""
        self.skipped += 1
        if len(self.problems) < PROBLEMS_TOLD:
            self.problems.append(text[:300])

    def _keep(self, text: bytes) -> None:
        try:
            id_ = json.loads(text)["id"]
        except (ValueError, TypeError, LookupError, RecursionError):
            return
        if isinstance(id_, str):
            self._catalogue.keep(self._source, id_, self._run)

    @property
    def usable(self) -> int:
        """How many records say something."""
        return self.counts["used"] + self.counts["unchanged"] + len(self.exploited)


def import_files(index: Path, path: Path, now: float, *, replace: bool = False) -> dict[str, Any]:
    """Import all advisories under `path`: what came from there before and is gone goes, what came from elsewhere stays
    (`replace`: goes). What the index says then of itself and of this import.

    A record that can't be used is passed over and told of; when a whole file can't be read, nothing that came of it
    before is dropped. Raises NothingUsable, OSError, sqlite3.Error: then nothing has changed.
    """
    found = files(path)
    catalogue = Catalogue(index)
    try:
        with catalogue.changing():
            source = catalogue.source(str(path), "directory" if path.is_dir() else "file", now)
            told = catalogue.told(source)
            intake = Intake(catalogue, source, int(told.get("run", 0)) + 1)
            for each in found:
                for record in read(each):
                    intake.take(record)
            intake.settle()
            if not intake.usable:
                why = "; ".join(intake.problems[:3]) or "nothing in it"
                raise NothingUsable(f"{path} has no advisory that can be used: {why}")
            if intake.exploited or not intake.whole:
                catalogue.exploit(source, intake.exploited)
            dropped = 0 if intake.whole else catalogue.drop_unseen(source, int(told.get("run", 0)) + 1)
            if replace:
                catalogue.drop_other_sources(source)
            told |= {"run": int(told.get("run", 0)) + 1, "path": str(path), "fingerprint": fingerprint(path)}
            only_exploited = intake.exploited and not intake.usable - len(intake.exploited)
            if only_exploited:
                catalogue.source(str(path), "exploited", now)
            catalogue.updated(source, now, intake.skipped, intake.problems, told)
    finally:
        catalogue.close()
    return answer(index, str(path), now, intake, dropped)


def answer(index: Path, source: str, now: float, intake: Intake, dropped: int, **more: Any) -> dict[str, Any]:
    """What is told of an import."""
    opened = Index(index)
    try:
        meta = opened.meta()
    finally:
        opened.close()
    counts = intake.counts
    return {
        "version": meta["version"],
        "newest": meta["newest"],
        "ecosystems": meta["ecosystems"],
        "path": source,
        "imported_at": now,
        "records": sum(counts.values()) + intake.skipped,
        "used": counts["used"] + counts["unchanged"],
        "changed": counts["used"],
        "withdrawn": counts["withdrawn"],
        "exploited": len(intake.exploited),
        "dropped": dropped,
        "skipped": intake.skipped,
        "problems": intake.problems,
        **more,
    }
