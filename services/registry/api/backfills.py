"""ECR: replication backfills."""

from __future__ import annotations

from typing import Any

from contracts.aws import ecr
from contracts.records.registry import Backfill
from services.registry.api.base import EcrOperations
from services.registry.decisions.backfills import ENDED, progress
from services.registry.decisions.pages import BadToken, page
from services.registry.handlers import errors
from services.shared.aws.context import RequestContext

PAGE, LIST_PAGE = 100, 25


class BackfillOperations(EcrOperations):
    """StartReplicationBackfill and what goes with it."""

    async def start_replication_backfill(
        self, context: RequestContext, request: ecr.StartReplicationBackfillRequest
    ) -> ecr.StartReplicationBackfillResponse:
        """Bring what was pushed before to a destination of the rules."""
        account, to = self._account(context, request.registry_id), request.destination
        started = await self._backfills.start(account, context.region, to.registry_id, to.region)
        return ecr.StartReplicationBackfillResponse(**_shown(started, account))

    async def stop_replication_backfill(
        self, context: RequestContext, request: ecr.StopReplicationBackfillRequest
    ) -> ecr.StopReplicationBackfillResponse:
        """Bring no more."""
        account = self._account(context, request.registry_id)
        stopped = await self._backfills.stop(account, context.region, request.replication_backfill_id)
        return ecr.StopReplicationBackfillResponse(**_shown(stopped, account))

    async def list_replication_backfills(
        self, context: RequestContext, request: ecr.ListReplicationBackfillsRequest
    ) -> ecr.ListReplicationBackfillsResponse:
        """Those that go on, and those that ended in the last 90 days, in pages."""
        account = self._account(context, request.registry_id)
        try:
            taken, token = page(
                self._backfills.all(account, context.region),
                lambda each: (each.id,),
                request.max_results or LIST_PAGE,
                request.next_token,
            )
        except BadToken as error:
            raise errors.invalid_parameter("nextToken", str(error)) from None
        return ecr.ListReplicationBackfillsResponse(
            registry_id=account, backfills=[self._summary(each) for each in taken], next_token=token
        )

    async def describe_replication_backfill_results(
        self, context: RequestContext, request: ecr.DescribeReplicationBackfillResultsRequest
    ) -> ecr.DescribeReplicationBackfillResultsResponse:
        """How far one is, and when it has ended, what became of each image and tag, in pages."""
        account, wanted = self._account(context, request.registry_id), request.result_status_filter
        found = self._backfills.get(account, context.region, request.replication_backfill_id)
        rows = [
            (each.repository, each.digest, tag, code)
            for each in (self._backfills.results(found) if found.status in ENDED else ())
            for tag, code in each.outcomes.items()
            if wanted in (None, "FAILED" if code else "COMPLETE")
        ]
        try:
            taken, token = page(rows, lambda row: row[:3], request.max_results or PAGE, request.next_token)
        except BadToken as error:
            raise errors.invalid_parameter("nextToken", str(error)) from None
        summary = self._summary(found)
        return ecr.DescribeReplicationBackfillResultsResponse(
            registry_id=account,
            replication_backfill_id=found.id,
            destination=summary.destination,
            status=summary.status,
            failure_code=summary.failure_code,
            progress=summary.progress,
            results=[_result(*row) for row in taken] if found.status in ENDED else None,
            started_at=summary.started_at,
            ended_at=summary.ended_at,
            next_token=token,
        )

    def _summary(self, backfill: Backfill) -> ecr.ReplicationBackfillSummary:
        far = progress(backfill, self._backfills.results(backfill))
        told = far and ecr.ReplicationBackfillProgress(
            total_replication_count=far.total,
            completed_replication_count=far.completed,
            failed_replication_count=far.failed,
            failure_codes=far.codes,
        )
        return ecr.ReplicationBackfillSummary(
            replication_backfill_id=backfill.id,
            destination=_destination(backfill),
            status=backfill.status,  # type: ignore[arg-type]
            failure_code=backfill.failure_code or None,
            progress=told,
            started_at=backfill.started_at,
            ended_at=backfill.ended_at or None,
        )


def _shown(backfill: Backfill, account: str) -> dict[str, Any]:
    """What Start and Stop both answer of a backfill."""
    return {
        "replication_backfill_id": backfill.id,
        "registry_id": account,
        "destination": _destination(backfill),
        "status": backfill.status,
        "started_at": backfill.started_at,
    }


def _destination(backfill: Backfill) -> ecr.ReplicationDestination:
    return ecr.ReplicationDestination(region=backfill.to_region, registry_id=backfill.to_account)


def _result(repository: str, digest: str, tag: str, code: str) -> ecr.ReplicationBackfillResult:
    return ecr.ReplicationBackfillResult(
        repository_name=repository,
        image_id=ecr.ImageIdentifier(image_digest=digest, image_tag=tag or None),
        status="FAILED" if code else "COMPLETE",
        failure_code=code or None,
    )
