"""What runs, as the scheduler and the agents tell it. Read when it is asked for: a view that is kept open costs
heartbeats all day, and this is needed only when a lifecycle policy has found something."""

from __future__ import annotations

import asyncio

from contracts.records.agent import TASK_STATUS
from contracts.records.scheduler import TASK, TASK_DEFINITION
from services.registry.decisions.uses import Use, uses
from services.shared.bus import Bus
from services.shared.state import View


class RunningTasks:
    """The RunningImages port on NATS."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def images(self) -> set[Use]:
        """See ports.RunningImages. Statuses are read last: a task that was placed in between is in either."""
        wanted = await View.open(self._bus, TASK, TASK_DEFINITION)
        try:
            actual = await View.open(self._bus, TASK_STATUS)
        except BaseException:
            await wanted.close()
            raise
        definitions = {
            (each.account, each.region, f"{each.family}:{each.revision}"): each
            for each in wanted.table(TASK_DEFINITION).records()
        }
        found = uses(wanted.table(TASK).records(), definitions, actual.table(TASK_STATUS).records())
        await asyncio.gather(wanted.close(), actual.close())
        return found
