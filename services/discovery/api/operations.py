"""Operations: what was done, by id. They are written after the deed, so all of them were a success."""

from __future__ import annotations

from contracts.aws import servicediscovery as sd
from contracts.records.discovery import OPERATION, Operation
from services.discovery.api.base import CloudMapBase, selected
from services.discovery.decisions import names
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError


class Operations(CloudMapBase):
    """GetOperation and ListOperations."""

    async def get_operation(
        self, context: RequestContext, request: sd.GetOperationRequest
    ) -> sd.GetOperationResponse:  # fmt: skip
        """One of them."""
        found = self.world.store.table(OPERATION).record(context.account, context.region, request.operation_id)
        if found is None:
            raise AwsError("OperationNotFound", f"There is no operation {request.operation_id}.")
        shape = sd.Operation_(
            id=found.id,
            owner_account=found.account,
            type=found.type,  # type: ignore[arg-type]
            status=found.status,  # type: ignore[arg-type]
            create_date=found.created_at,
            update_date=found.updated_at,
            targets=found.targets,  # type: ignore[arg-type]
        )
        return sd.GetOperationResponse(operation=shape)

    async def list_operations(
        self, context: RequestContext, request: sd.ListOperationsRequest
    ) -> sd.ListOperationsResponse:
        """Those that pass every filter."""
        found = [
            o
            for o in self.world.store.table(OPERATION).records(context.account, context.region)
            if all(selected(f.condition, f.values, _member(o, f.name)) for f in request.filters or ())
        ]
        shown, token = names.page(found, lambda o: o.id, request.max_results, request.next_token)
        summaries = [sd.OperationSummary(id=o.id, status=o.status) for o in shown]  # type: ignore[arg-type]
        return sd.ListOperationsResponse(operations=summaries, next_token=token)


def _member(operation: Operation, name: str) -> str | float:
    match name:
        case "NAMESPACE_ID":
            return operation.targets.get("NAMESPACE", "")
        case "SERVICE_ID":
            return operation.targets.get("SERVICE", "")
        case "STATUS":
            return operation.status
        case "TYPE":
            return operation.type
    return operation.updated_at
