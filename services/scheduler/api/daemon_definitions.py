"""Daemon task definitions.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/managed-daemons.html
"""

from __future__ import annotations

from msgspec.structs import replace

from contracts.aws import ecs
from contracts.records.scheduler import TASK_DEFINITION, TaskDefinition
from services.scheduler.api.base import EcsBase
from services.scheduler.decisions import managed_daemons, names, tags
from services.scheduler.decisions.names import DAEMON
from services.scheduler.decisions.pages import page
from services.scheduler.decisions.task_definitions import compatibilities, complete, required_attributes
from services.scheduler.handlers import next_revision
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError

_NOT_FOUND = ("ClientException", "The specified daemon task definition does not exist.")


class DaemonDefinitions(EcsBase):
    """RegisterDaemonTaskDefinition and its like."""

    async def register_daemon_task_definition(
        self, context: RequestContext, request: ecs.RegisterDaemonTaskDefinitionRequest
    ) -> ecs.RegisterDaemonTaskDefinitionResponse:
        """Store the next revision of a family."""
        self.world.require_connection()
        labels = tags.read(request.tags)
        wanted = managed_daemons.definition(request)
        definition = complete(wanted)
        record = TaskDefinition(
            account=context.account,
            region=context.region,
            family=f"{DAEMON}{request.family}",
            revision=0,
            status="ACTIVE",
            definition=definition,
            registered_at=self.world.clock(),
            registered_by=context.principal_arn,
            requires_attributes=required_attributes(wanted),
            compatibilities=compatibilities(wanted),
            tags=labels,
            hidden=True,
        )
        return ecs.RegisterDaemonTaskDefinitionResponse(
            daemon_task_definition_arn=_arn(await next_revision(self.world, record))
        )

    def _daemon_definition(self, context: RequestContext, text: str) -> TaskDefinition:
        """The revision that a reference means; without a number the latest ACTIVE one. Raises ClientException."""
        found = self._revision_of(context, *managed_daemons.reference(text))
        if found is None:
            raise AwsError(*_NOT_FOUND)
        return found

    async def describe_daemon_task_definition(
        self, context: RequestContext, request: ecs.DescribeDaemonTaskDefinitionRequest
    ) -> ecs.DescribeDaemonTaskDefinitionResponse:
        """One revision, the latest ACTIVE one for a bare family."""
        self.world.require_connection()
        record = self._daemon_definition(context, request.daemon_task_definition)
        shape = managed_daemons.shown(record.definition)
        shape.daemon_task_definition_arn = _arn(record)
        shape.family = names.daemon_name(record.family)
        shape.revision = record.revision
        shape.status = record.status  # type: ignore[assignment]
        shape.registered_at = record.registered_at
        shape.registered_by = record.registered_by or None
        shape.delete_requested_at = record.delete_requested_at
        return ecs.DescribeDaemonTaskDefinitionResponse(daemon_task_definition=shape)

    async def list_daemon_task_definitions(
        self, context: RequestContext, request: ecs.ListDaemonTaskDefinitionsRequest
    ) -> ecs.ListDaemonTaskDefinitionsResponse:
        """Revisions by family and number, all but for the given family, beginning of one, and status."""
        self.world.require_connection()
        if request.family and request.family_prefix:
            raise AwsError("InvalidParameterException", "Specify either family or familyPrefix.")
        wanted = request.status or "ACTIVE"
        found: dict[str, TaskDefinition] = {}
        for record in self.world.definitions.records(context.account, context.region):
            family = names.daemon_name(record.family)
            if family is None or record.status == "DELETED" or wanted not in ("ALL", record.status):
                continue
            if family.startswith(request.family_prefix or "") and request.family in (None, family):
                found[f"{family}:{record.revision:010d}"] = record
        if request.revision == "LAST_REGISTERED":
            latest = {record.family: key for key, record in sorted(found.items())}
            found = {key: found[key] for key in latest.values()}
        down = request.sort == "DESC"
        keys = sorted(found, reverse=down)
        shown, token = page(keys, request.next_token, request.max_results, reverse=down)
        summaries = [_summary(found[key]) for key in shown]
        return ecs.ListDaemonTaskDefinitionsResponse(daemon_task_definitions=summaries, next_token=token)

    async def delete_daemon_task_definition(
        self, context: RequestContext, request: ecs.DeleteDaemonTaskDefinitionRequest
    ) -> ecs.DeleteDaemonTaskDefinitionResponse:
        """Begin to delete an ACTIVE revision; daemons that use it go on, and it goes when none does any more."""
        self.world.require_connection()
        if managed_daemons.reference(request.daemon_task_definition)[1] is None:
            raise AwsError("ClientException", "The revision of the daemon task definition must be specified.")
        record = self._daemon_definition(context, request.daemon_task_definition)

        def change(old: TaskDefinition | None) -> TaskDefinition | None:
            if old is None or old.status != "ACTIVE":
                raise AwsError("ClientException", "The specified daemon task definition is not in ACTIVE status.")
            return replace(old, status="DELETE_IN_PROGRESS", delete_requested_at=self.world.clock())

        key = TASK_DEFINITION.key_of(record)
        await self.world.store.update(TASK_DEFINITION, key, change, "task_definition.deleting.v1")
        return ecs.DeleteDaemonTaskDefinitionResponse(daemon_task_definition_arn=_arn(record))


def _arn(record: TaskDefinition) -> str:
    return names.task_definition_arn(record.account, record.region, record.family, record.revision)


def _summary(record: TaskDefinition) -> ecs.DaemonTaskDefinitionSummary:
    return ecs.DaemonTaskDefinitionSummary(
        arn=_arn(record),
        registered_at=record.registered_at,
        registered_by=record.registered_by or None,
        delete_requested_at=record.delete_requested_at,
        status=record.status,  # type: ignore[arg-type]
    )
