"""Deployments by hand, and what has been done to a service."""

from __future__ import annotations

from contracts.aws import apprunner as ar
from contracts.records.app_runner_gateway import APP_SERVICE, AppOperation
from services.app_runner_gateway.api.base import AppRunnerBase
from services.app_runner_gateway.decisions import life, names
from services.app_runner_gateway.handlers.services import begin
from services.shared.aws.context import RequestContext


class Operations(AppRunnerBase):
    """StartDeployment and ListOperations."""

    async def start_deployment(
        self, context: RequestContext, request: ar.StartDeploymentRequest
    ) -> ar.StartDeploymentResponse:
        """Deploy what the image's tag names now."""
        service = self.service(context, request.service_arn)
        life.require(service, "START_DEPLOYMENT")
        image = await self.world.image_now(service.source["ImageRepository"]["ImageIdentifier"])
        updated = await begin(self.world, APP_SERVICE.key_of(service), "START_DEPLOYMENT", image)
        return ar.StartDeploymentResponse(operation_id=updated.operations[0].id)

    async def list_operations(
        self, context: RequestContext, request: ar.ListOperationsRequest
    ) -> ar.ListOperationsResponse:
        """The newest first."""
        service = self.service(context, request.service_arn)
        shown, token = names.page(service.operations, _newest_first, request.max_results, request.next_token)
        summaries = [
            ar.OperationSummary(
                id=o.id,
                type=o.type,  # type: ignore[arg-type]
                status=o.status,  # type: ignore[arg-type]
                target_arn=names.service_arn(service),
                started_at=o.started_at,
                ended_at=o.ended_at,
                updated_at=o.updated_at,
            )
            for o in shown
        ]
        return ar.ListOperationsResponse(operation_summary_list=summaries, next_token=token)


def _newest_first(operation: AppOperation) -> str:
    """A text that sorts the newest first: what is left until the year 5138, in microseconds."""
    return f"{10**17 - int(operation.started_at * 1e6):018d} {operation.id}"
