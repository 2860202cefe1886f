"""The groups, and what the scheduler and the agents have of tasks. Those are read when somebody asks: following every
task for the sake of a rare question would cost each start of one."""

from __future__ import annotations

import asyncio

from contracts.records.agent import NODE, TASK_STATUS, Node, TaskStatus
from contracts.records.network import KINDS, SECURITY_GROUP, SecurityGroup, default_group, default_group_id
from contracts.records.scheduler import SERVICE, TASK, Service, Task
from services.network.settings import NetworkSettings
from services.shared.bus import Bus
from services.shared.clock import Clock
from services.shared.state import Store
from services.shared.views import View


class World:
    """Everything that the network service knows. Open it with `World.open`."""

    def __init__(self, bus: Bus, clock: Clock, settings: NetworkSettings, store: Store) -> None:
        self.bus = bus
        self.clock = clock
        self.settings = settings
        self.store = store
        self.table = store.table(SECURITY_GROUP)
        # Names are unique among the records of several keys, which no single compare-and-set can watch over.
        self.naming = asyncio.Lock()

    @classmethod
    async def open(cls, bus: Bus, clock: Clock, settings: NetworkSettings) -> World:
        """Read the groups. Raises StateUnavailable."""
        return cls(bus, clock, settings, await Store.open(bus, KINDS))

    async def close(self) -> None:
        """Stop following."""
        await self.store.close()

    def group(self, account: str, region: str, group_id: str) -> SecurityGroup | None:
        """By its id."""
        found = self.table.record(account, region, group_id)
        if found is None and group_id == default_group_id(account, region):
            return default_group(account, region)
        return found

    def groups(self, account: str, region: str) -> list[SecurityGroup]:
        """All of a region, the default one among them."""
        found = self.table.records(account, region)
        own = default_group_id(account, region)
        return found if any(group.id == own for group in found) else [default_group(account, region), *found]

    async def tasks(self, account: str, region: str) -> list[tuple[Task, TaskStatus | None]]:
        """The tasks of a region, as they are now. Raises StateUnavailable."""
        where = {"account": account, "region": region}
        wanted, known = await asyncio.gather(
            View.open(self.bus, TASK, filters=(TASK.filter(**where),)),
            View.open(self.bus, TASK_STATUS, filters=(TASK_STATUS.filter(**where),)),
        )
        statuses = known.table(TASK_STATUS)
        found = [(task, statuses.record(*TASK.key_of(task))) for task in wanted.table(TASK).records()]
        await asyncio.gather(wanted.close(), known.close())
        return found

    async def services(self, account: str, region: str) -> list[Service]:
        """The ECS services of a region, as they are now. Raises StateUnavailable."""
        view = await View.open(self.bus, SERVICE, filters=(SERVICE.filter(account=account, region=region),))
        found = view.table(SERVICE).records()
        await view.close()
        return found

    async def nodes(self) -> list[Node]:
        """The nodes on which tasks have addresses of their own. Raises StateUnavailable."""
        view = await View.open(self.bus, NODE)
        found = [node for node in view.table(NODE).records() if "awsvpc" in node.network_modes]
        await view.close()
        return found
