"""What a task's containers need from elsewhere before they can be made: images, the values of their secrets, their
environment files. Values are kept as long as the task runs, and nowhere but in memory."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from contracts.records.scheduler import Task
from services.agent.decisions.environment_files import joined
from services.agent.decisions.plan import ContainerPlan, TaskPlan, given_environment
from services.agent.node import NodeParts
from services.agent.ports import Image
from services.shared import telemetry


class Supplies:
    """Those of one task."""

    def __init__(self, node: NodeParts, task: Task, plan: TaskPlan) -> None:
        self._node = node
        self._task = task
        self._plan = plan
        self._values: dict[str, str] = {}

    async def image(self, container: ContainerPlan) -> Image:
        """Its image, on this node. Raises RuntimeFailure, PlanError."""
        login = None
        if container.registry_secret:
            login = await self._node.secrets.login(self._task, self._plan.execution_role_arn, container.registry_secret)
        return await self._node.images.pull(container.image, self._task, login)

    async def resolve(self, containers: Iterable[ContainerPlan]) -> None:
        """Get the values that these containers are to have in their environment, and that are not here yet. Raises
        PlanError."""
        containers = list(containers)
        secrets = {source for each in containers for source in each.secrets.values()} - self._values.keys()
        files = {file for each in containers for file in each.environment_files} - self._values.keys()
        if secrets or files:
            with telemetry.span("agent.resolve_secrets", count=len(secrets), files=len(files)):
                role = self._plan.execution_role_arn
                self._values |= await self._node.secrets.of(self._task, role, secrets, files)

    async def environment(self, container: ContainerPlan, credentials_id: str, *, metadata: bool) -> dict[str, str]:
        """All of a container's environment: what the definition says goes before its files, its secrets before both.
        Raises PlanError."""
        await self.resolve([container])
        of_files = joined(self._values[file] for file in container.environment_files)
        whole = replace(container, environment={**of_files, **container.environment})
        given = given_environment(self._plan, whole, credentials_id, metadata=metadata)
        return given | {name: self._values[source] for name, source in container.secrets.items()}
