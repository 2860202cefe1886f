"""Nodes that run nothing: they register, beat, report tasks as running and what they use, as real agents do."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

import msgspec

from contracts.records.agent import Node
from contracts.records.metrics import TaskUsage, UsageBatch
from contracts.records.scheduler import TASK
from contracts.subjects import metrics
from services.cli.layout import Layout
from services.cli.platform import passwords
from services.shared import logs
from services.shared.bus import Bus
from services.shared.clock import system_clock
from tests.builders.platform import Roadstead
from tests.fakes.agent import FakeAgent

BEAT_S = 2.0
REPORT_S = 10.0


@contextlib.contextmanager
def simulated_nodes(platform: Roadstead, count: int) -> Iterator[None]:
    """`count` nodes over three zones, each with room for hundreds of tasks, in a thread of this process."""
    logs.configure(logs.FileSink(platform.data / "simulated"))
    ready, done = threading.Event(), threading.Event()
    failed: list[BaseException] = []

    def work() -> None:
        try:
            asyncio.run(_run(platform, count, ready, done))
        except BaseException as error:
            failed.append(error)
            ready.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    ready.wait()
    try:
        if failed:
            raise failed[0]
        yield
    finally:
        done.set()
        thread.join()


async def _run(platform: Roadstead, count: int, ready: threading.Event, done: threading.Event) -> None:
    password = passwords(Layout(platform.data))["agent"]
    bus = await Bus.connect(platform.info["nats_url"], "agent", user="agent", password=password, wait_s=20)
    agents = [FakeAgent(bus, _node(number), beat_s=BEAT_S) for number in range(count)]
    try:
        await asyncio.gather(*(agent.start() for agent in agents))
        reports = [bus.spawn(_report(agent), "report") for agent in agents]
        ready.set()
        await asyncio.to_thread(done.wait)
        for report in reports:
            report.cancel()
    finally:
        await bus.close()


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
