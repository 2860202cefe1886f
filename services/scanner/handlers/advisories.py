"""The index of advisories: imported by a worker, put in place whole, named by its version from then on."""

from __future__ import annotations

import asyncio
import contextlib
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
    """The index in force. `version` is empty when there is none; `newest` (epoch seconds) is its newest advisory's
    date; `told` is all that it says of itself."""

    arguments: tuple[str, ...] = ()
    version: str = ""
    newest: float = 0.0
    told: dict[str, Any] = {}


class Advisories:
    """The index, and how it changes."""

    def __init__(self, files: Files, workers: Workers, clock: Clock) -> None:
        self._files = files
        self._workers = workers
        self._clock = clock
        self._lock = asyncio.Lock()
        self.current = Current()

    async def open(self) -> None:
        """Find what was imported last. One that can't be read counts as none, with an error in the log."""
        if not self._files.index.exists():
            return
        try:
            self.current = _current(self._files.index, await self._answer("meta", str(self._files.index)))
        except ImportFailed as error:
            log.error("advisories.unreadable", why=str(error))

    async def import_from(self, path: Path) -> dict[str, Any]:
        """Import all that lies under a path; what the new index says of itself. Raises ImportFailed: also when there
        is no usable record, since an index of nothing would let everything pass."""
        async with self._lock:
            fresh = self._files.index.with_name("advisories.new")
            try:
                answer = await self._answer("import", str(path), str(fresh), str(self._clock()))
                if not answer.get("version"):
                    problems = "; ".join(answer.get("problems", [])[:3])
                    raise ImportFailed(f"{path} has no advisory that can be used: {problems or 'nothing in it'}")
                fresh.replace(self._files.index)
            finally:
                with contextlib.suppress(OSError):
                    fresh.unlink(missing_ok=True)
            self.current = _current(self._files.index, answer)
        log.info("advisories.imported", **{k: answer[k] for k in ("path", "version", "used", "skipped", "newest")})
        for problem in answer["problems"]:
            log.warning("advisories.skipped", why=problem)
        return answer

    async def import_if_new(self, path: Path) -> bool:
        """Import, unless these very files are what was imported last; whether it did. Raises ImportFailed."""
        from services.scanner.adapters.importing import fingerprint  # SQLite's weight, only for those who name a path

        try:
            known = await asyncio.to_thread(fingerprint, path)
        except OSError as error:
            raise ImportFailed(str(error)) from error
        if self.current.told.get("fingerprint") == known:
            return False
        await self.import_from(path)
        return True

    async def _answer(self, mode: str, *arguments: str) -> dict[str, Any]:
        try:
            answer = msgspec.json.decode(await self._workers.run(mode, *arguments, timeout_s=IMPORT_S))
        except (WorkerFailed, TimeoutError, msgspec.DecodeError) as error:
            raise ImportFailed(str(error) or "it took too long") from error
        if "refused" in answer:
            raise ImportFailed(answer["refused"])
        return dict(answer)


def _current(path: Path, told: dict[str, Any]) -> Current:
    try:
        newest = datetime.fromisoformat(str(told["newest"])).timestamp()
    except (KeyError, ValueError):
        newest = float(told.get("imported_at", 0.0))
    return Current((str(path),), str(told.get("version", "")), newest, told)
