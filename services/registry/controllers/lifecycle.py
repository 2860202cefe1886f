"""Carries lifecycle policies out: soon after a change of a repository that has one, and once a day.

Level-triggered: a change only says which repository to look at. While nothing changes and nothing is due it sleeps.
"""

from __future__ import annotations

import asyncio

import structlog

from contracts.records.registry import IMAGE, IMAGE_TAG, REPOSITORY, Repository
from services.registry.decisions.lifecycle import DAY_S
from services.registry.decisions.names import RepositoryId
from services.registry.handlers.lifecycle import Lifecycle
from services.shared.clock import Clock
from services.shared.errors import StateUnavailable
from services.shared.state import Change, Conflict, Table
from services.shared.waiting import woken

log = structlog.get_logger()

RETRY_S = 5.0


class LifecycleController:
    """`heard` is a listener of the store; `run` works until cancelled.

    A change is acted upon `delay_s` after it, so that a push with its tags, and many pushes, are one evaluation.
    """

    def __init__(self, lifecycle: Lifecycle, repositories: Table[Repository], clock: Clock, delay_s: float) -> None:
        self._lifecycle = lifecycle
        self._repositories = repositories
        self._clock = clock
        self._delay_s = delay_s
        self._marked: dict[RepositoryId, float] = {}
        self._wake = asyncio.Event()

    def heard(self, change: Change) -> None:
        """Mark the repository that a change is about, if its lifecycle policy could see it."""
        old, new = change.old and change.old.record, change.new and change.new.record
        if change.kind is REPOSITORY:
            if new is not None and new.lifecycle and (old is None or old.lifecycle != new.lifecycle):
                self.mark(RepositoryId(*change.key))
        elif change.kind in (IMAGE, IMAGE_TAG):
            if change.kind is IMAGE and old is not None and new is not None and new.pulled_at != old.pulled_at:
                return  # a pull only makes an image younger: the daily round is enough
            self.mark(RepositoryId(*change.key[:3]))

    def mark(self, repository: RepositoryId, after_s: float | None = None) -> None:
        """Look at this repository soon."""
        record = self._repositories.record(repository.account, repository.region, repository.name)
        if record is None or not record.lifecycle or repository in self._marked:
            return
        delay = self._delay_s if after_s is None else after_s
        self._marked[repository] = asyncio.get_running_loop().time() + delay
        self._wake.set()

    async def run(self) -> None:
        """Look at every repository with a policy once, then at those that are marked or due."""
        for record in self._repositories.records():
            self.mark(_id(record))
        while True:
            self._wake.clear()
            await self._work()
            await woken(self._wake, self._until_next())

    async def _work(self) -> None:
        now = asyncio.get_running_loop().time()
        due = [repository for repository, when in self._marked.items() if when <= now]
        due += [_id(r) for r in self._repositories.records() if r.lifecycle and self._left(r) <= 0]
        for repository in dict.fromkeys(due):
            self._marked.pop(repository, None)
            try:
                await self._lifecycle.evaluate(repository)
            except (StateUnavailable, Conflict) as error:
                log.warning("lifecycle.not_evaluated", repository=repository.name, error=str(error))
                self.mark(repository, RETRY_S)
            except Exception:
                log.exception("lifecycle.failed", repository=repository.name, region=repository.region)
                self.mark(repository, 10 * RETRY_S)

    def _until_next(self) -> float | None:
        """Seconds until something is due; None: only a change can make it so."""
        now = asyncio.get_running_loop().time()
        times = [max(when - now, 0.0) for when in self._marked.values()]
        times += [
            max(self._left(record), RETRY_S)
            for record in self._repositories.records()
            if record.lifecycle and _id(record) not in self._marked
        ]
        return min(times, default=None)

    def _left(self, record: Repository) -> float:
        """Seconds until the daily round of a repository; one that is marked gets its turn by that."""
        if _id(record) in self._marked:
            return DAY_S
        return record.lifecycle_evaluated_at + DAY_S - self._clock()


def _id(record: Repository) -> RepositoryId:
    return RepositoryId(record.account, record.region, record.name)
