"""Scale-in protection of tasks.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-scale-in-protection.html
"""

from __future__ import annotations

from msgspec.structs import replace

from contracts.aws import ecs
from contracts.records.scheduler import TASK, Cluster, Task
from services.scheduler.api.base import EcsBase
from services.scheduler.api.shapes import task_arn
from services.scheduler.decisions import life, names
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError

DEFAULT_MINUTES = 120
MOST_MINUTES = 2880
MOST_CHANGED = 10
MOST_ASKED = 100


class Protection(EcsBase):
    """GetTaskProtection and UpdateTaskProtection."""

    async def get_task_protection(
        self, context: RequestContext, request: ecs.GetTaskProtectionRequest
    ) -> ecs.GetTaskProtectionResponse:
        """Whether the named tasks are protected; all tasks of the cluster's services when none is named."""
        cluster = self._seen_cluster(context, request.cluster)
        where = (cluster.account, cluster.region, cluster.name)
        if len(request.tasks or ()) > MOST_ASKED:
            raise AwsError("InvalidParameterException", f"Specify at most {MOST_ASKED} tasks.")
        if request.tasks:
            wanted = [names.last_part(reference) for reference in request.tasks]
        else:
            joined = self.world.tasks_in(*where)
            wanted = sorted(t.id for t, s in joined if t.service and life.desired_status(t, s) == "RUNNING")
        found, failures = [], []
        for task_id in wanted:
            task = self._protectable(cluster, task_id)
            if isinstance(task, ecs.Failure):
                failures.append(task)
            else:
                found.append(self._protected_shape(task))
        return ecs.GetTaskProtectionResponse(protected_tasks=found, failures=failures)

    async def update_task_protection(
        self, context: RequestContext, request: ecs.UpdateTaskProtectionRequest
    ) -> ecs.UpdateTaskProtectionResponse:
        """Keep tasks from being stopped by scaling in and deployments for a while, or no longer."""
        cluster = self._seen_cluster(context, request.cluster)
        if not 1 <= len(request.tasks) <= MOST_CHANGED:
            raise AwsError("InvalidParameterException", f"Specify between 1 and {MOST_CHANGED} tasks.")
        minutes = request.expires_in_minutes
        if minutes is not None and not 1 <= minutes <= MOST_MINUTES:
            raise AwsError("InvalidParameterException", f"expiresInMinutes must be between 1 and {MOST_MINUTES}.")
        until = self.world.clock() + 60 * (minutes or DEFAULT_MINUTES) if request.protection_enabled else None

        def change(old: Task | None) -> Task | None:
            return old if old is None else replace(old, protected_until=until, version=old.version + 1)

        found, failures = [], []
        for reference in request.tasks:
            task = self._protectable(cluster, names.last_part(reference))
            if isinstance(task, ecs.Failure):
                failures.append(task)
                continue
            changed = await self.world.store.update(TASK, TASK.key_of(task), change, "task.protection_changed.v1")
            found.append(self._protected_shape(changed or task))
        return ecs.UpdateTaskProtectionResponse(protected_tasks=found, failures=failures)

    def _protectable(self, cluster: Cluster, task_id: str) -> Task | ecs.Failure:
        key = self.world.task_key(cluster.account, cluster.region, cluster.name, task_id)
        joined = self.world.joined(key) if key is not None else None
        if joined is None:
            arn = names.arn(cluster.account, cluster.region, "task", cluster.name, task_id)
            return ecs.Failure(arn=arn, reason="MISSING")
        task, status = joined
        if not task.service or life.desired_status(task, status) == "STOPPED":
            said = "Only running tasks of a service can be protected."
            return ecs.Failure(arn=task_arn(task), reason="TASK_NOT_VALID", detail=said)
        return task

    def _protected_shape(self, task: Task) -> ecs.ProtectedTask:
        until = task.protected_until
        enabled = until is not None and until > self.world.clock()
        return ecs.ProtectedTask(
            task_arn=task_arn(task), protection_enabled=enabled, expiration_date=until if enabled else None
        )
