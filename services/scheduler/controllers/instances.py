"""The instance controller: gives up the tasks on nodes that were taken out of their cluster, and stops those of no
service on nodes that are not well without a critical daemon (a service's own are replaced elsewhere).

Of the former nobody hears any more if the node is an external one; a node of the platform's own stops them.
"""

from __future__ import annotations

from contracts.records.agent import NODE
from contracts.records.identity import MANAGED_NODE
from contracts.records.scheduler import CONTAINER_INSTANCE, TASK, Task
from services.scheduler.controllers.looking import Looking
from services.scheduler.decisions import life, managed_daemons
from services.scheduler.handlers import stop_task
from services.shared.state import Change

REASON = "Container instance deregistration forced by user"


class InstanceController(Looking):
    """Looks at what is on such nodes whenever one of them, or a task on one, has changed."""

    def heard(self, change: Change) -> None:
        """A node was taken out, or a task was placed on one that is."""
        placed_there = change.kind is TASK and change.new is not None and self._out(change.new.record)
        if placed_there or change.kind in (CONTAINER_INSTANCE, MANAGED_NODE, NODE):
            self._wake.set()

    def _out(self, task: Task) -> bool:
        return self._world.deregistered(task.account, task.region, task.cluster, task.node)

    async def look(self) -> float | None:
        """Give up what is on the nodes that were taken out, stop what is alone on those that are not well."""
        world = self._world
        named = {i.node for i in world.instances.records() if i.status == "INACTIVE"}
        named |= {m.node for m in world.managed.values() if m.status != "ACTIVE"}
        for node in sorted(named):
            for task, status in world.tasks_on(node):
                if self._out(task) and not life.over(task, status):
                    await stop_task(world, TASK.key_of(task), code="TerminationNotice", reason=REASON, lost=True)
        for (account, region, cluster), node in world.impaired.everywhere():
            reason = managed_daemons.impaired_reason(world.impaired.by(account, region, cluster, node))
            for task, _ in world.tasks_on(node):
                own = (task.account, task.region, task.cluster) == (account, region, cluster)
                if own and not task.service and task.desired_status == "RUNNING":
                    await stop_task(world, TASK.key_of(task), code="TerminationNotice", reason=reason)
        return None
