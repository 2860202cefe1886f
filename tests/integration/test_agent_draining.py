"""A task that gets requests through the gateway is stopped when none is left on it: an agent against a real NATS."""

import msgspec
import pytest

from contracts.records.app_runner_gateway import TARGET, Target
from contracts.records.scheduler import TASK
from services.shared.state import Store
from tests.builders.waiting import until
from tests.integration.test_agent import ACCOUNT, REGION, Stage, key

SHOP = {"name": "web", "image": "shop:1"}


@pytest.fixture
async def stage(nats_platform, tmp_path):
    made = Stage(nats_platform, tmp_path / "data")
    await made.open()
    made.targets = await Store.open(await nats_platform.bus("app_runner_gateway"), (TARGET,))
    yield made
    await made.close()
    await made.targets.close()


async def says(stage, state):
    target = Target(account=ACCOUNT, region=REGION, cluster="main", node="n1", task="t1", service="web", state=state,
                    since=1.0)  # fmt: skip
    await stage.targets.put(TARGET, target, f"target.{state}.v1")


async def running(stage, drain_s):
    await stage.task("t1", SHOP)
    change = lambda task: msgspec.structs.replace(task, drain_s=drain_s)  # noqa: E731
    await stage.tasks.update(TASK, key("t1"), change, "task.placed.v1")
    await stage.reached("t1", "RUNNING")
    await says(stage, "healthy")


def alive(stage):
    return [c.name for c in stage.status("t1").containers if c.last_status == "RUNNING"]


async def test_it_runs_until_the_gateway_says_that_nothing_is_left_on_it(stage):
    await stage.agent()
    await running(stage, 600.0)
    await stage.ask_stop("t1")
    await stage.reached("t1", "DEACTIVATING")
    assert alive(stage) == ["web"]
    await says(stage, "drained")
    status = await stage.reached("t1", "STOPPED")
    assert [c.exit_code for c in status.containers] == [143]


async def test_it_is_stopped_in_time_though_nobody_says_so(stage):
    await stage.agent()
    await running(stage, 0.2)
    await stage.ask_stop("t1")
    await stage.reached("t1", "STOPPED")


async def test_the_next_agent_waits_on(stage):
    await stage.agent()
    await running(stage, 600.0)
    await stage.ask_stop("t1")
    await stage.reached("t1", "DEACTIVATING")
    stage.kill(stage.agents[0])
    app = await stage.agent()
    await until(lambda: len(app._supervisor) == 1)
    assert alive(stage) == ["web"]
    await says(stage, "drained")
    await stage.reached("t1", "STOPPED")


async def test_one_that_ended_by_itself_is_not_waited_for(stage):
    await stage.agent()
    await running(stage, 600.0)
    stage.runtime.finish("t1-0", 1)
    await stage.reached("t1", "STOPPED")
