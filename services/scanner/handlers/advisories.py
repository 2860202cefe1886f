"""The index of advisories: changed by workers, a transaction an import or portion of a feed; followed here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import structlog

from services.scanner.adapters.files import Files
from services.scanner.adapters.workers import Workers
from services.scanner.ports import WorkerFailed
from services.shared.clock import Clock

log = structlog.get_logger()

IMPORT_S = 3600.0


class ImportFailed(Exception):
    """Nothing was imported; what was there before still is. The message says why."""


class Current(msgspec.Struct, frozen=True):
    """The index in force. `version` is empty when it has nothing; `newest` (epoch seconds) is its newest advisory's
    date; `told` is all that it says of itself."""

    arguments: tuple[str, ...] = ()
    version: str = ""
    newest: float = 0.0
    told: dict[str, Any] = {}


class Advisories:
    """The index, and how it changes. `changed` is called when it says something else than before."""

    def __init__(self, files: Files, workers: Workers, clock: Clock) -> None:
        self._files = files
        self._workers = workers
        self._clock = clock
        self._lock = asyncio.Lock()
        self.current = Current()
        self.changed: Callable[[], None] = lambda: None

    async def open(self) -> None:
        """Find what was imported. An index that can't be read counts as none, with an error in the log."""
        if not self._files.index.exists():
            return
        try:
            await self._look()
        except ImportFailed as error:
            log.error("advisories.unreadable", why=str(error))

    async def import_from(self, path: Path, *, replace: bool = False) -> dict[str, Any]:
        """Import all advisories that lie under a path, beside those of other sources or (`replace`) in their place;
        what the index then says. Raises ImportFailed: also when there is no usable record, since a source that became
        empty is more likely broken than right."""
        more = ("replace",) if replace else ()
        answer = await self._take_in("import", str(path), more)
        log.info("advisories.imported", **{k: answer[k] for k in ("path", "version", "used", "skipped", "newest")})
        return answer

    async def update(self, feeds: Iterable[str] = ()) -> list[dict[str, Any]]:
        """Take in what is new in feeds: in these, or in all that were ever named. What came of each; one that can't be
        read has `stopped` or `refused`, which says why, and keeps no other from being read."""
        answers = []
        for feed in dict.fromkeys(feeds or self.feeds()):
            try:
                answer = await self._take_in("update", feed, ())
            except ImportFailed as error:
                answer = {"path": feed, "refused": str(error), "problems": [str(error)], "skipped": 0}
            why = answer.get("refused") or answer.get("stopped")
            if why:
                log.error("advisories.not_updated", feed=feed, why=why)
            else:
                log.info("advisories.updated", feed=feed, version=answer["version"], changed=answer["changed"])
            answers.append(answer)
        return answers

    def feeds(self) -> list[str]:
        """The feeds that were named to an update."""
        return [each["name"] for each in self.current.told.get("sources", ()) if each["kind"] == "feed"]

    async def import_if_new(self, path: Path) -> bool:
        """Import, unless these very files are what was imported last; whether it did. Raises ImportFailed."""
        from services.scanner.adapters.records import fingerprint

        try:
            known = await asyncio.to_thread(fingerprint, path)
        except OSError as error:
            raise ImportFailed(str(error)) from error
        sources = self.current.told.get("sources", ())
        if any(each.get("path") == str(path) and each.get("fingerprint") == known for each in sources):
            return False
        await self.import_from(path)
        return True

    async def _take_in(self, mode: str, what: str, more: tuple[str, ...]) -> dict[str, Any]:
        async with self._lock:
            before = self.current.version
            try:
                answer = await self._answer(mode, what, str(self._files.index), str(self._clock()), *more)
            finally:
                if self._files.index.exists():
                    await self._look()
        for problem in answer["problems"]:
            log.warning("advisories.skipped", why=problem)
        if self.current.version != before:
            self.changed()
        return answer

    async def _look(self) -> None:
        told = await self._answer("meta", str(self._files.index))
        self.current = Current((str(self._files.index),), told["version"], seconds(told["newest"]), told)

    async def _answer(self, mode: str, *arguments: str) -> dict[str, Any]:
        apart = mode != "meta"
        try:
            text = await self._workers.run(mode, *arguments, timeout_s=IMPORT_S, apart=apart, proxied=mode == "update")
            answer = msgspec.json.decode(text)
        except (WorkerFailed, TimeoutError, msgspec.DecodeError) as error:
            raise ImportFailed(str(error) or "it took too long") from error
        if "refused" in answer:
            raise ImportFailed(answer["refused"])
        return dict(answer)


def seconds(moment: str) -> float:
    """An RFC 3339 time in seconds since the epoch; 0.0 for none."""
    try:
        return datetime.fromisoformat(moment).timestamp()
    except ValueError:
        return 0.0
