"""A gateway without a proxy: it says where it would answer, and of which tasks it would say what."""

from __future__ import annotations

from contracts.records.app_runner_gateway import INGRESS, TARGET, Ingress, Target
from contracts.records.scheduler import TASK, Task
from services.shared.bus import Bus
from services.shared.state import Store, View

INGRESS_HERE = Ingress(name="https", port=8443, domain="localhost", most_tasks=32)


class FakeGateway:
    """Tells nothing by itself: `says` is the test's."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus

    async def start(self, ingress: Ingress | None = INGRESS_HERE) -> None:
        """Say where it is, unless it has not said so yet."""
        self.store = await Store.open(self.bus, (INGRESS, TARGET))
        self.tasks = await View.open(self.bus, TASK)
        if ingress is not None:
            await self.store.put(INGRESS, ingress, "ingress.changed.v1")

    async def says(self, task_id: str, state: str) -> None:
        """Of this task, from now on."""
        task = next(task for task in self.tasks.table(TASK).records() if task.id == task_id)
        await self.store.put(TARGET, _target(task, state), f"target.{state}.v1")

    async def close(self) -> None:
        """Stop following."""
        await self.tasks.close()
        await self.store.close()


def _target(task: Task, state: str) -> Target:
    return Target(
        account=task.account,
        region=task.region,
        cluster=task.cluster,
        node=task.node,
        task=task.id,
        service=task.service,
        state=state,
        since=task.created_at,
    )
