"""Replication backfills: started, worked on, stopped, and told of for a while."""

from __future__ import annotations

import asyncio
import uuid

import structlog
from msgspec.structs import replace

from contracts.records.registry import BACKFILL, BACKFILL_RESULT, Backfill, BackfillResult, Image
from services.registry.decisions.backfills import (
    ENDED,
    Refused,
    check_start,
    concerned,
    forgotten,
    target_of,
)
from services.registry.decisions.names import RepositoryId
from services.registry.handlers.images import Images
from services.registry.handlers.replication import Replication
from services.registry.handlers.settings import Settings
from services.shared.clock import Clock
from services.shared.errors import AwsError
from services.shared.state import Store

log = structlog.get_logger()


class Backfills:
    """The backfills of all registries."""

    def __init__(
        self, store: Store, settings: Settings, images: Images, replication: Replication, clock: Clock
    ) -> None:
        self._store = store
        self._settings = settings
        self._images = images
        self._replication = replication
        self._clock = clock
        self._starting = asyncio.Lock()
        self._table = store.table(BACKFILL)

    def all(self, account: str, region: str) -> list[Backfill]:
        """Those of a registry that are told of, in no order."""
        return [each for each in self._table.records(account, region) if not forgotten(each, self._clock())]

    def get(self, account: str, region: str, backfill_id: str) -> Backfill:
        """One. Raises ReplicationBackfillNotFoundException."""
        found = self._table.record(account, region, backfill_id)
        if found is None or forgotten(found, self._clock()):
            raise AwsError(
                "ReplicationBackfillNotFoundException", f"There is no replication backfill with id '{backfill_id}'"
            )
        return found

    def results(self, backfill: Backfill) -> list[BackfillResult]:
        """What became of the images, as far as it is."""
        return self._store.table(BACKFILL_RESULT).records(*BACKFILL.key_of(backfill))

    async def start(self, account: str, region: str, to_account: str, to_region: str) -> Backfill:
        """Start one. Raises InvalidParameterException, ReplicationBackfillInProgressException,
        LimitExceededException."""
        async with self._starting:
            rules = self._settings.get(account, region).replication
            try:
                check_start(rules, self._table.records(account, region), to_account, to_region)
            except Refused as refused:
                raise AwsError(refused.code, str(refused)) from None
            backfill = Backfill(
                account=account,
                region=region,
                id=str(uuid.uuid4()),
                to_account=to_account,
                to_region=to_region,
                started_at=self._clock(),
            )
            await self._store.put(BACKFILL, backfill, "backfill.started.v1", expect=0)
            return backfill

    async def stop(self, account: str, region: str, backfill_id: str) -> Backfill:
        """Stop one: what is on its way arrives. Raises ReplicationBackfillInvalidStatusException when it has ended."""
        known = self.get(account, region, backfill_id)

        def changed(old: Backfill | None) -> Backfill:
            found = old or known
            if found.status in ENDED:
                raise AwsError(
                    "ReplicationBackfillInvalidStatusException",
                    f"The replication backfill '{backfill_id}' can't be stopped: it is {found.status}",
                )
            return replace(found, status="STOPPING")

        stopped = await self._store.update(BACKFILL, BACKFILL.key_of(known), changed, "backfill.stopping.v1")
        return stopped or known

    def pending(self) -> list[Backfill]:
        """Those that are worked on, the oldest first."""
        going_on = [each for each in self._table.records() if each.status not in ENDED]
        return sorted(going_on, key=lambda each: (each.started_at, each.id))

    async def work(self, backfill: Backfill) -> None:
        """Do what is left of one; it may have been begun before. Raises StateUnavailable, Conflict: then it is to be
        done again."""
        left = self._left(backfill)
        if backfill.total < 0:
            total = sum(len(self._tags(source, image)) for source, _, image in left)
            await self._change(backfill, "backfill.prepared.v1", total=total, status="IN_PROGRESS")
        for source, target, image in left:
            now = self._table.record(*BACKFILL.key_of(backfill))
            if now is None or now.status == "STOPPING":
                break
            await self._bring(backfill, source, target, image)
        await self.end(backfill)

    def _left(self, backfill: Backfill) -> list[tuple[RepositoryId, RepositoryId, Image]]:
        rules = self._settings.get(backfill.account, backfill.region).replication
        found = []
        for image in concerned(
            self._images.of_registry(backfill.account, backfill.region), self.results(backfill), backfill
        ):
            source = RepositoryId(image.account, image.region, image.repository)
            target = target_of(rules, source, backfill)
            if target is not None:
                found.append((source, target, image))
        return found

    def _tags(self, source: RepositoryId, image: Image) -> list[str]:
        return self._images.tags_of(source, image.digest) or [""]

    async def _bring(self, backfill: Backfill, source: RepositoryId, target: RepositoryId, image: Image) -> None:
        outcomes = {}
        for tag in self._tags(source, image):
            outcomes[tag] = await self._replication.bring(source, target, image.digest, tag or None)
        await self._replication.settle(source, target, image.digest, [*outcomes.values()])
        result = BackfillResult(
            account=backfill.account,
            region=backfill.region,
            backfill=backfill.id,
            repository=image.repository,
            digest=image.digest,
            outcomes=outcomes,
        )
        await self._store.update(
            BACKFILL_RESULT, BACKFILL_RESULT.key_of(result), lambda _: result, "backfill_result.recorded.v1"
        )

    async def end(self, backfill: Backfill, failure_code: str = "") -> None:
        """It is over: stopped if that was asked for, failed with a code, or else complete."""
        now, key = self._clock(), BACKFILL.key_of(backfill)

        def changed(old: Backfill | None) -> Backfill | None:
            if old is None or old.status in ENDED:
                return old
            if old.status == "STOPPING":
                return replace(old, status="STOPPED", ended_at=now)
            if failure_code:
                return replace(old, status="FAILED", ended_at=now, failure_code=failure_code)
            # What was deleted or tagged since is counted as it came to be, not as it was expected.
            total = sum(len(each.outcomes) for each in self.results(old))
            return replace(old, status="COMPLETE", ended_at=now, total=total)

        await self._store.update(BACKFILL, key, changed, "backfill.ended.v1")

    async def _change(self, backfill: Backfill, event: str, *, total: int, status: str) -> None:
        def changed(old: Backfill | None) -> Backfill | None:
            if old is None or old.status != "PREPARING":
                return old
            return replace(old, total=total, status=status)

        await self._store.update(BACKFILL, BACKFILL.key_of(backfill), changed, event)

    async def forget(self) -> None:
        """Drop what ended long ago."""
        for each in self._table.records():
            if forgotten(each, self._clock()):
                for result in self.results(each):
                    key = BACKFILL_RESULT.key_of(result)
                    await self._store.delete(BACKFILL_RESULT, key, "backfill_result.forgotten.v1")
                await self._store.delete(BACKFILL, BACKFILL.key_of(each), "backfill.forgotten.v1")
