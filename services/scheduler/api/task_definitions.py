"""Task definitions.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task_definitions.html
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from contracts.aws import ecs
from contracts.records.scheduler import TASK_DEFINITION, TaskDefinition
from services.scheduler.api.base import EcsBase
from services.scheduler.decisions import names, tags
from services.scheduler.decisions.pages import page
from services.scheduler.decisions.task_definitions import compatibilities, complete, required_attributes
from services.scheduler.handlers import next_revision
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError

_KEPT = tuple(name for name in ecs.RegisterTaskDefinitionRequest.__struct_fields__ if name != "tags")
_UNABLE = ("ClientException", "Unable to describe task definition.")


class TaskDefinitions(EcsBase):
    """RegisterTaskDefinition and its like."""

    async def register_task_definition(
        self, context: RequestContext, request: ecs.RegisterTaskDefinitionRequest
    ) -> ecs.RegisterTaskDefinitionResponse:
        """Store the next revision of a family: one write, which fails when another took the number."""
        self.world.require_connection()
        labels = tags.read(request.tags)
        definition = complete(request)
        record = TaskDefinition(
            account=context.account,
            region=context.region,
            family=request.family,
            revision=0,
            status="ACTIVE",
            definition=definition,
            registered_at=self.world.clock(),
            registered_by=context.principal_arn,
            requires_attributes=required_attributes(request),
            compatibilities=compatibilities(request),
            tags=labels,
        )
        record = await next_revision(self.world, record)
        kept = {name: getattr(request, name) for name in _KEPT}
        shape = _with_facts(ecs.TaskDefinition(**kept), record)
        return ecs.RegisterTaskDefinitionResponse(task_definition=shape, tags=request.tags or [])

    async def describe_task_definition(
        self, context: RequestContext, request: ecs.DescribeTaskDefinitionRequest
    ) -> ecs.DescribeTaskDefinitionResponse:
        """One revision, the latest ACTIVE one for a bare family."""
        self.world.require_connection()
        record = self._definition(context, request.task_definition)
        if record is None:
            raise AwsError(*_UNABLE)
        shown = tags.write(record.tags) if request.include and "TAGS" in request.include else None
        return ecs.DescribeTaskDefinitionResponse(task_definition=_shape(record), tags=shown)

    async def list_task_definitions(
        self, context: RequestContext, request: ecs.ListTaskDefinitionsRequest
    ) -> ecs.ListTaskDefinitionsResponse:
        """ARNs by family and revision; `familyPrefix` is a whole family here, as in ECS."""
        self.world.require_connection()
        status = request.status or "ACTIVE"
        prefix = [context.account, context.region, *([request.family_prefix] if request.family_prefix else [])]
        records = [r for r in self.world.definitions.records(*prefix) if r.status == status and not r.hidden]
        down = request.sort == "DESC"
        # Numbers are padded so that pages, which go by text, go by number.
        keys = sorted((f"{r.family}:{r.revision:010d}" for r in records), reverse=down)
        shown, token = page(keys, request.next_token, request.max_results, reverse=down)
        arns = []
        for key in shown:
            family, _, revision = key.rpartition(":")
            arns.append(names.task_definition_arn(context.account, context.region, family, int(revision)))
        return ecs.ListTaskDefinitionsResponse(task_definition_arns=arns, next_token=token)

    async def list_task_definition_families(
        self, context: RequestContext, request: ecs.ListTaskDefinitionFamiliesRequest
    ) -> ecs.ListTaskDefinitionFamiliesResponse:
        """Families: ACTIVE ones have an ACTIVE revision, INACTIVE ones have only others."""
        self.world.require_connection()
        active: dict[str, bool] = {}
        for record in self.world.definitions.records(context.account, context.region):
            if record.hidden:
                continue
            if record.status != "DELETED" and record.family.startswith(request.family_prefix or ""):
                active[record.family] = active.get(record.family, False) or record.status == "ACTIVE"
        wanted = request.status or "ALL"
        families = sorted(f for f, is_active in active.items() if wanted == "ALL" or is_active == (wanted == "ACTIVE"))
        shown, token = page(families, request.next_token, request.max_results)
        return ecs.ListTaskDefinitionFamiliesResponse(families=shown, next_token=token)

    async def deregister_task_definition(
        self, context: RequestContext, request: ecs.DeregisterTaskDefinitionRequest
    ) -> ecs.DeregisterTaskDefinitionResponse:
        """Make a revision INACTIVE; what runs of it goes on."""
        self.world.require_connection()
        _, revision = names.family_and_revision(request.task_definition)
        if revision is None:
            raise AwsError("ClientException", f"Invalid revision number. Number: {request.task_definition}")
        record = self._definition(context, request.task_definition)
        if record is None:
            raise AwsError("ClientException", "The specified task definition does not exist.")

        def change(old: TaskDefinition | None) -> TaskDefinition | None:
            if old is None or old.status != "ACTIVE":
                return old
            return replace(old, status="INACTIVE", deregistered_at=self.world.clock())

        key = TASK_DEFINITION.key_of(record)
        updated = await self.world.store.update(TASK_DEFINITION, key, change, "task_definition.deregistered.v1")
        return ecs.DeregisterTaskDefinitionResponse(task_definition=_shape(updated or record))

    async def delete_task_definitions(
        self, context: RequestContext, request: ecs.DeleteTaskDefinitionsRequest
    ) -> ecs.DeleteTaskDefinitionsResponse:
        """Begin to delete INACTIVE revisions; they go when nothing uses them any more."""
        self.world.require_connection()
        if not 1 <= len(request.task_definitions) <= 10:
            raise AwsError("InvalidParameterException", "Specify between 1 and 10 task definitions.")
        deleted, failures = [], []
        for reference in request.task_definitions:
            outcome = await self._delete(context, reference)
            if isinstance(outcome, ecs.Failure):
                failures.append(outcome)
            else:
                deleted.append(_shape(outcome))
        return ecs.DeleteTaskDefinitionsResponse(task_definitions=deleted, failures=failures)

    async def _delete(self, context: RequestContext, reference: str) -> TaskDefinition | ecs.Failure:
        try:
            family, revision = names.family_and_revision(reference)
        except AwsError as error:
            return ecs.Failure(arn=reference, reason=error.message)
        record = self._definition(context, reference) if revision is not None else None
        if record is None:
            return ecs.Failure(arn=reference, reason="The specified task definition does not exist.")
        if record.status == "ACTIVE":
            arn = names.task_definition_arn(context.account, context.region, family, record.revision)
            return ecs.Failure(arn=arn, reason="The specified task definition is still in ACTIVE status.")

        def change(old: TaskDefinition | None) -> TaskDefinition | None:
            if old is None or old.status != "INACTIVE":
                return old
            return replace(old, status="DELETE_IN_PROGRESS", delete_requested_at=self.world.clock())

        key = TASK_DEFINITION.key_of(record)
        updated = await self.world.store.update(TASK_DEFINITION, key, change, "task_definition.deleting.v1")
        return updated or record


def _shape(record: TaskDefinition) -> ecs.TaskDefinition:
    return _with_facts(msgspec.convert(record.definition, ecs.TaskDefinition), record)


def _with_facts(shape: ecs.TaskDefinition, record: TaskDefinition) -> ecs.TaskDefinition:
    shape.task_definition_arn = names.task_definition_arn(record.account, record.region, record.family, record.revision)
    shape.family = record.family
    shape.revision = record.revision
    shape.status = record.status  # type: ignore[assignment]
    shape.requires_attributes = [ecs.Attribute(name=name) for name in record.requires_attributes]
    shape.compatibilities = record.compatibilities  # type: ignore[assignment]
    shape.registered_at = record.registered_at
    shape.registered_by = record.registered_by or None
    shape.deregistered_at = record.deregistered_at
    shape.delete_requested_at = record.delete_requested_at
    return shape
