"""Spot capacity that an operator takes back: tasks, nodes, what is placed meanwhile. Against a real NATS."""

import aiohttp
import msgspec
import pytest

from services.scheduler.decisions import life, spot
from services.scheduler.decisions.placement import CAPACITY
from services.scheduler.decisions.spot import BadInterruption, Interruption
from services.scheduler.handlers.spot import interrupt, release
from services.shared.runner import HttpServer
from tests.builders.ecs import AWSVPC, container, register
from tests.builders.waiting import until
from tests.integration.test_scheduler import Client, Stage, ready, web_service

SPOT = [{"capacityProvider": "FARGATE_SPOT", "weight": 1}]


@pytest.fixture
async def stage(nats_platform, tmp_path):
    stage = Stage(nats_platform, tmp_path)
    try:
        yield stage
    finally:
        await stage.close()


async def spot_service(client: Client, count: int, strategy=SPOT) -> None:
    definition = register("web", container(), networkMode="awsvpc", cpu="256", memory="512")
    await client("RegisterTaskDefinition", **msgspec.to_builtins(definition))
    await web_service(client, count, networkConfiguration=AWSVPC, capacityProviderStrategy=strategy)
    await client.settled()


def told(app) -> list[str]:
    return [event.message for event in reversed(app.world.services.records()[0].events)]


async def test_a_task_is_warned_of_stopped_and_replaced(stage):
    app, client = await ready(stage)
    events = []
    app.world.listen(lambda change: events.append(change))
    await spot_service(client, 1)
    (task_id,) = stage.agents["n1"].running()
    before = app.world.clock()
    assert await interrupt(app.world, Interruption(task=task_id[:12], notice_s=60)) == [task_id]
    await until(lambda: task_id not in stage.agents["n1"].running())
    await until(lambda: len(stage.agents["n1"].running()) == 1)
    shown = (await client("DescribeTasks", tasks=[task_id]))["tasks"][0]
    assert (shown["stopCode"], shown["stoppedReason"]) == ("SpotInterruption", "Your Spot Task was interrupted.")
    task, _ = app.world.joined(app.world.task_key("000000000000", "us-east-1", "default", task_id))
    assert before + 60 <= task.stop_by <= app.world.clock() + 60
    await until(lambda: any("has started 1 tasks" in m for m in told(app)[2:]))
    story = [m for m in told(app) if task_id in m]
    assert "has started" in story[0]
    assert "received a Spot interruption notice" in story[1]
    with pytest.raises(BadInterruption, match="no tasks"):
        await interrupt(app.world, Interruption(task=task_id))


async def test_what_is_left_takes_the_tasks_of_a_node_and_the_others_stay(stage):
    app, client = await ready(stage)
    await stage.agent("spot1", "us-east-1b", capacity_kind="FARGATE_SPOT")
    await stage.agent("spot2", "us-east-1c", capacity_kind="FARGATE_SPOT")
    mixed = [{"capacityProvider": "FARGATE", "weight": 1}, {"capacityProvider": "FARGATE_SPOT", "weight": 2}]
    await spot_service(client, 6, mixed)
    on_demand = set(stage.agents["n1"].running())
    assert [len(a.running()) for a in stage.agents.values()] == [2, 2, 2]
    gone = set(stage.agents["spot1"].running())
    assert set(await interrupt(app.world, Interruption(node="spot1"))) == gone
    await until(lambda: [len(a.running()) for a in stage.agents.values()] == [2, 0, 4])
    assert set(stage.agents["n1"].running()) == on_demand
    stopped = (await client("DescribeTasks", tasks=sorted(gone)))["tasks"]
    assert {t["stopCode"] for t in stopped} == {"SpotInterruption"}
    assert await release(app.world, "spot1")
    assert not await release(app.world, "spot1")
    await client("UpdateService", service="web", desiredCount=9)
    await until(lambda: [len(a.running()) for a in stage.agents.values()][1:] == [2, 4])


async def test_where_nothing_is_left_the_service_waits_for_spot_capacity_and_says_so(stage):
    app, client = await ready(stage)
    await spot_service(client, 2)
    await interrupt(app.world, Interruption(node="n1"))
    await until(lambda: stage.agents["n1"].running() == [])
    await until(lambda: any(CAPACITY in message for message in told(app)))
    refused = await client("RunTask", taskDefinition="web", capacityProviderStrategy=SPOT, networkConfiguration=AWSVPC)
    assert [f["reason"] for f in refused["failures"]] == [CAPACITY]
    ran = await client("RunTask", taskDefinition="web", launchType="FARGATE", networkConfiguration=AWSVPC)
    assert len(ran["tasks"]) == 1
    await release(app.world, "n1")
    await client.settled()


async def test_a_scheduler_that_died_is_followed_by_one_that_interrupts_the_rest(stage):
    first, client = await ready(stage)
    await spot_service(client, 4)
    await first.leader.stop()
    await interrupt(first.world, Interruption(node="n1"))
    await stage.kill(first)
    second = await stage.scheduler("s2")
    await until(lambda: stage.agents["n1"].running() == [])
    tasks = [task for task, _ in second.world.tasks_on("n1")]
    assert {task.stop_code for task in tasks} == {life.SPOT_INTERRUPTION}
    assert {task.stop_by for task in tasks} == {second.world.reclaims.record("n1").until}
    await until(lambda: len({message for message in told(second) if "interruption" in message}) == 4)


async def test_the_door_takes_the_key_and_names_what_is_wrong(stage):
    app, _ = await ready(stage)
    server = HttpServer(app)
    await server.start()
    await stage.agent("own", "us-east-1b", capacity_kind="mine")
    url = f"http://127.0.0.1:{server.port}/spot/interruptions"
    key = {"Authorization": f"Bearer {(stage.data / 'scheduler' / 'door.key').read_text()}"}
    try:
        async with aiohttp.ClientSession() as http:

            async def ask(method: str, body: dict, headers: dict = key) -> tuple[int, str]:
                async with http.request(method, url, json=body, headers=headers) as answer:
                    return answer.status, await answer.text()

            assert (await ask("POST", {"node": "n1"}, {}))[0] == 401
            assert (await ask("POST", {"node": "n1"}, {"Authorization": "Bearer x"}))[0] == 401
            for body, named in (
                ({"node": "n9"}, "no node n9"),
                ({"node": "own"}, "no spot capacity"),
                ({"task": "x"}, "no tasks begin"),
                ({"node": "n1", "notice_s": spot.MOST_NOTICE_S + 1}, "notice_s"),
            ):
                status, text = await ask("POST", body)
                assert (status, named in text) == (400, True)
            assert (await ask("DELETE", {"node": "n1"}))[0] == 404
            assert await ask("POST", {"node": "n1"}) == (200, '{"tasks":[]}')
            assert app.world.reclaims.record("n1") is not None
            assert (await ask("DELETE", {"node": "n1"}))[0] == 200
    finally:
        await server.stop()
