"""What an agent tells of its tasks' usage, into a real METRICS stream."""

import asyncio
import contextlib

import msgspec
import pytest

from contracts.records.metrics import UsageBatch
from contracts.subjects import METRICS_STREAM
from services.monitor.adapters.streams import StreamReader
from services.shared.errors import StateUnavailable
from tests.integration.test_agent import Stage

SECONDS = 60


@pytest.fixture
async def stage(nats_platform, tmp_path):
    made = Stage(nats_platform, tmp_path / "data")
    await made.open()
    yield made
    await made.close()


class Told:
    """The batches in the stream."""

    def __init__(self, bus) -> None:
        self._reader = StreamReader(bus, METRICS_STREAM)

    async def batches(self) -> list[UsageBatch]:
        read = self._reader.read("metrics.agent.*", 1)
        return [msgspec.json.decode(message.data, type=UsageBatch) async for message in read]

    async def until(self, many: int) -> list[UsageBatch]:
        async with asyncio.timeout(SECONDS):
            while len(found := await self.batches()) < many:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return found


@pytest.fixture
async def told(nats_platform):
    return Told(await nats_platform.bus("monitor"))


async def test_all_tasks_of_a_node_are_told_in_one_message(stage, told):
    await stage.agent(usage_s=0.2)
    for name in ("t1", "t2"):
        await stage.task(name, {"name": "web", "image": "shop:1"})
        await stage.reached(name, "RUNNING")
    already = len(await told.batches())
    batch = (await told.until(already + 2))[-1]
    assert (batch.node, [task.task for task in batch.tasks]) == ("n1", ["t1", "t2"])
    assert {(task.cluster, task.memory_mib) for task in batch.tasks} == {("main", 2.0)}
    assert 0 < batch.period_s < SECONDS


async def test_a_node_without_tasks_tells_nothing(stage, told):
    await stage.agent(usage_s=0.05)
    await stage.task("t1", {"name": "web", "image": "shop:1"})
    await stage.reached("t1", "RUNNING")
    assert (await told.until(1))[0].tasks[0].task == "t1", "nothing was told before the first task ran"


async def test_what_is_measured_while_nats_is_away_is_told_afterwards(stage, told, nats_platform):
    await stage.agent(usage_s=0.2)
    await stage.task("t1", {"name": "web", "image": "shop:1"})
    await stage.reached("t1", "RUNNING")
    await told.until(1)
    await nats_platform.server.stop()
    await asyncio.sleep(1.0)  # what is tested is that this time is told of
    await nats_platform.server.start()
    async with asyncio.timeout(SECONDS):
        while True:
            with contextlib.suppress(StateUnavailable):  # it comes back at its own pace
                if any(batch.period_s > 0.9 for batch in await told.batches()):
                    return
            await asyncio.sleep(0.05)
