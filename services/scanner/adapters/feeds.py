"""Advisories out of a feed as OSV publishes them: a folder, here or over HTTP, with `modified_id.csv` (`time,id`, the
newest first), `<id>.json` beside it and, mostly, `all.zip`. https://google.github.io/osv.dev/data/

Only what is newer than what was seen is fetched, the oldest first and in portions, each a transaction with the place
that it reached: an update that is cut goes on from there. Runs in a worker process.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from services.scanner.adapters.catalogue import Catalogue, moment
from services.scanner.adapters.importing import Intake, answer
from services.scanner.adapters.records import RECORD_LIMIT, Found, read

PORTION = 500
"""How many records are one transaction."""
AT_ONCE = 8
TIMEOUT_S = 30.0
TRIES = 5
"""In how many updates a record that can't be had is tried for."""
ZIP_LIMIT = 4 << 30
WHOLE_FROM = 1000
"""From how many new records on all.zip is fetched instead, the first time."""

_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:+~-]*(?:/[A-Za-z0-9][A-Za-z0-9 ._:+~-]*)?\Z", re.ASCII)


class FeedFailed(OSError):
    """The feed can't be read; the message says why. What was taken in before it failed stays."""


class Gone(OSError):
    """The feed does not have it."""


class Feed:
    """A feed's files. `base`: a URL, or a folder."""

    def __init__(self, base: str) -> None:
        self._base = base.rstrip("/")
        self._local = None if re.match(r"https?://", base) else Path(base)

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[tuple[IO[bytes], int | None]]:
        """A file, and how many bytes it has if that is known. Raises Gone, OSError."""
        if self._local is not None:
            path = self._local / name
            if not path.exists():
                raise Gone(f"there is no {name} in {self._base}")
            with open(path, "rb") as file:
                yield file, None
            return
        try:
            url = f"{self._base}/{urllib.parse.quote(name)}"
            with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answered:
                length = answered.headers.get("Content-Length")
                yield answered, int(length) if length and length.isdigit() else None
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (404, 410):
                raise Gone(f"{self._base} has no {name}") from None
            raise OSError(f"{self._base}/{name}: {error.code} {error.reason}") from None
        except http.client.HTTPException as error:
            raise OSError(f"{self._base}/{name} was cut off: {error!r}") from None

    def record(self, path: str) -> bytes:
        """A record. Raises Gone, OSError, ValueError for one that is too large."""
        with self.open(f"{path}.json") as (file, length):
            text = file.read(RECORD_LIMIT + 1)
        if len(text) > RECORD_LIMIT:
            raise ValueError(f"it has more than {RECORD_LIMIT} bytes")
        if length is not None and len(text) != length:
            raise OSError(f"{path} was cut off: {len(text)} of {length} bytes")
        return text

    def listed(self, since: str, problem: Any) -> list[tuple[str, str]]:
        """(time, path) of what is not older than `since`, the newest first. Raises OSError when the list is cut off:
        what is missing of it would never be asked for. `problem` is told of lines that are none."""
        rows: list[tuple[str, str]] = []
        with self.open("modified_id.csv") as (file, length):
            size = 0
            for number, line in enumerate(iter(lambda: file.readline(4096), b""), 1):
                size += len(line)
                at, _, path = line.decode("utf-8", "replace").strip().partition(",")
                modified = moment(at)
                if not modified or _PATH.match(path) is None:
                    if line.strip():
                        problem(f"modified_id.csv:{number}: {line[:80]!r} is no `time,id`")
                    continue
                if modified < since:
                    return rows
                rows.append((modified, path))
            if length is not None and size != length:
                raise OSError(f"modified_id.csv was cut off: {size} of {length} bytes")
        return rows

    @contextlib.contextmanager
    def whole(self, folder: Path) -> Iterator[Path | None]:
        """all.zip as a file that is there for as long as it is needed, None when the feed has none. Raises OSError."""
        if self._local is not None:
            path = self._local / "all.zip"
            yield path if path.exists() else None
            return
        with tempfile.NamedTemporaryFile(dir=folder, prefix="all-", suffix=".zip") as copy:
            try:
                with self.open("all.zip") as (file, length):
                    size = 0
                    while part := file.read(1 << 20):
                        size += len(part)
                        if size > ZIP_LIMIT:
                            raise OSError(f"all.zip has more than {ZIP_LIMIT} bytes")
                        copy.write(part)
                    if length is not None and size != length:
                        raise OSError(f"all.zip was cut off: {size} of {length} bytes")
            except Gone:
                yield None
                return
            copy.flush()
            yield Path(copy.name)


def update(index: Path, base: str, now: float) -> dict[str, Any]:
    """Take in what is new in a feed; what the index then says of itself and of this update. Raises FeedFailed,
    sqlite3.Error."""
    feed = Feed(base)
    catalogue = Catalogue(index)
    try:
        with catalogue.changing():
            source = catalogue.source(base, "feed", now)
            told = catalogue.told(source)
        intake = Intake(catalogue, source, 0)
        stopped = ""
        try:
            rows = feed.listed(told.get("cursor", ""), intake.problem)
            if not told.get("cursor") and len(rows) >= WHOLE_FROM:
                rows = _whole(feed, catalogue, source, intake, told, rows, index.parent, now)
            _portions(feed, catalogue, source, intake, told, rows, now)
        except OSError as error:
            stopped = str(error) or type(error).__name__
            intake.problem(stopped)
            with catalogue.changing():
                catalogue.updated(source, told.get("updated_at", 0.0), intake.skipped, intake.problems, told)
    finally:
        catalogue.close()
    return answer(index, base, now, intake, 0, stopped=stopped)


def _whole(
    feed: Feed,
    catalogue: Catalogue,
    source: int,
    intake: Intake,
    told: dict[str, Any],
    rows: list[tuple[str, str]],
    folder: Path,
    now: float,
) -> list[tuple[str, str]]:
    """All there is, out of one file; what is still to be fetched by itself."""
    with feed.whole(folder) as path:
        if path is None:
            return rows
        with catalogue.changing():
            for found in read(path):
                intake.take(found._replace(where=found.where.replace(path.name, "all.zip")))
            if intake.whole:
                raise FeedFailed(f"all.zip of {feed._base} can't be read: {intake.problems[-1]}")
            told |= {"cursor": rows[0][0], "updated_at": now}
            catalogue.updated(source, now, intake.skipped, intake.problems, told)
    return []


def _portions(
    feed: Feed,
    catalogue: Catalogue,
    source: int,
    intake: Intake,
    told: dict[str, Any],
    rows: list[tuple[str, str]],
    now: float,
) -> None:
    """Fetch what is listed, and what failed the last time."""
    failed: dict[str, int] = dict(told.get("failed", {}))
    wanted = [("", path) for path in failed] + [row for row in reversed(rows) if row[1] not in failed]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for start in range(0, max(len(wanted), 1), PORTION):
            portion = wanted[start : start + PORTION]
            texts = list(pool.map(lambda row: _fetched(feed, row[1]), portion))
            away = [each for each in texts if isinstance(each, OSError) and not isinstance(each, Gone)]
            if len(away) == len(portion) > 1:
                raise FeedFailed(f"{feed._base} does not answer: {away[-1]}")
            with catalogue.changing():
                for (modified, path), text in zip(portion, texts, strict=True):
                    _take(catalogue, source, intake, path, text, failed)
                    told["cursor"] = max(told.get("cursor", ""), modified)
                told |= {"failed": failed, "updated_at": now}
                catalogue.updated(source, now, intake.skipped, intake.problems, told)


def _fetched(feed: Feed, path: str) -> bytes | Exception:
    try:
        return feed.record(path)
    except (OSError, ValueError) as error:
        return error


def _take(
    catalogue: Catalogue, source: int, intake: Intake, path: str, text: bytes | Exception, failed: dict[str, int]
) -> None:
    if isinstance(text, Gone):
        catalogue.drop(source, path.rpartition("/")[2])
        failed.pop(path, None)
        return
    before = intake.skipped
    intake.take(Found(path, text) if isinstance(text, bytes) else Found(path, problem=str(text) or "it did not come"))
    failed.pop(path, None) if intake.skipped == before else failed.update({path: failed.get(path, 0) + 1})
    if failed.get(path, 0) >= TRIES:
        failed.pop(path)
