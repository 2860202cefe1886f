"""Nodes that run nothing: they register, beat, report tasks as running and what they use, as real agents do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import msgspec

from contracts.records.agent import Node
from contracts.records.metrics import TaskUsage, UsageBatch
from contracts.records.scheduler import TASK
from contracts.subjects import metrics
from services.cli.layout import Layout
from services.cli.platform import passwords
from services.shared import logs
from services.shared.clock import system_clock
from tests.bench.beside import agents_bus, beside
from tests.builders.platform import Roadstead
from tests.fakes.agent import FakeAgent

BEAT_S = 2.0
REPORT_S = 10.0


@contextlib.contextmanager
def simulated_nodes(platform: Roadstead, count: int) -> Iterator[None]:
    """`count` nodes over three zones, each with room for hundreds of tasks, in a thread of this process."""
    logs.configure(logs.FileSink(platform.data / "simulated"))
    with beside(_nodes(platform, count)):
        yield


@contextlib.asynccontextmanager
async def _nodes(platform: Roadstead, count: int) -> AsyncIterator[None]:
    password = passwords(Layout(platform.data))["agent"]
    async with agents_bus(platform.info["nats_url"], password) as bus:
        agents = [FakeAgent(bus, _node(number), beat_s=BEAT_S) for number in range(count)]
        await asyncio.gather(*(agent.start() for agent in agents))
        reports = [bus.spawn(_report(agent), "report") for agent in agents]
        try:
            yield
        finally:
            for report in reports:
                report.cancel()


def _node(number: int) -> Node:
    return Node(
        node=f"simulated-{number}",
        zone=f"us-east-1{'abc'[number % 3]}",
        cpu_units=1024 * 1024,
        memory_mib=4 * 1024 * 1024,
        registered_at=system_clock(),
        session=f"session-{number}",
    )


async def _report(agent: FakeAgent) -> None:
    name = agent.node.node
    while True:
        await asyncio.sleep(REPORT_S)
        running = set(agent.running())
        tasks = [t for t in agent.view.table(TASK).records() if t.id in running]
        usage = [
            TaskUsage(
                account=t.account,
                region=t.region,
                cluster=t.cluster,
                service=t.service,
                task=t.id,
                cpu_units=16.0,
                memory_mib=64.0,
                cpu_reserved=t.cpu_units,
                memory_reserved=t.memory_mib,
                rx_bytes=1000,
                tx_bytes=1000,
            )
            for t in tasks
        ]
        if usage:
            batch = UsageBatch(node=name, at=system_clock(), period_s=REPORT_S, tasks=usage)
            await agent.bus.tell(metrics("agent", name), msgspec.json.encode(batch))
