"""Reads what the node's tasks use and says it, all of them in one message a period."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from contracts.records.metrics import UsageBatch
from contracts.subjects import metrics
from services.agent.decisions.usage import task_usage
from services.agent.ports import Runtime, RuntimeFailure, Stats
from services.agent.tasks import TaskRunner
from services.shared.bus import Bus
from services.shared.clock import Clock
from services.shared.errors import StateUnavailable

log = structlog.get_logger()


class UsageReporter:
    """Samples at whole multiples of the period, so that what several nodes say belongs to the same periods.

    What can't be sent (NATS is away) is part of the next message, whose period is as much longer.
    """

    def __init__(
        self,
        bus: Bus,
        runtime: Runtime,
        node: str,
        period_s: float,
        clock: Clock,
        tasks: Callable[[], list[TaskRunner]],
    ) -> None:
        self._bus = bus
        self._runtime = runtime
        self._node = node
        self._period = period_s
        self._clock = clock
        self._tasks = tasks
        self._before: dict[str, Stats] = {}
        self._since = clock()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(max(0.05, self._period - self._clock() % self._period))
            if not self._tasks():
                self._since, self._before = self._clock(), {}
                continue
            try:
                await self.sample()
            except StateUnavailable as error:
                log.info("usage.delayed", error=error.message)
            except (RuntimeFailure, OSError) as error:
                log.warning("usage.not_read", error=str(error))

    async def sample(self) -> UsageBatch | None:
        """Read, and say what was used since the last time; None when nothing runs. Raises StateUnavailable."""
        runners = [(runner, started) for runner in self._tasks() if (started := runner.running())]
        now = await self._runtime.usage([identifier for _, started in runners for identifier in started])
        at = self._clock()
        period = max(at - self._since, 0.001)
        found = [
            task_usage(
                runner.task, started, self._before, now, self._since, period, own_network=runner.has_own_network()
            )
            for runner, started in runners
        ]
        batch = UsageBatch(node=self._node, at=at, period_s=period, tasks=[usage for usage in found if usage])
        if batch.tasks:
            await self._bus.publish(metrics("agent", self._node), msgspec.json.encode(batch))
        self._before, self._since = now, at
        return batch if batch.tasks else None
