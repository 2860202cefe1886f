"""The scheduler against a real NATS, with agents that have no runtime."""

import asyncio

import msgspec
import pytest

from contracts.aws import ecs
from contracts.records.scheduler import SERVICE, TASK
from contracts.rpc.scheduler import SET_DESIRED_COUNT, DesiredCountSet, SetDesiredCount
from services.scheduler.api import Ecs
from services.scheduler.app import SchedulerApp
from services.scheduler.settings import SchedulerSettings
from services.shared.bus import CommandRefused
from services.shared.errors import AwsError, StateUnavailable
from services.shared.runner import Host
from tests.builders.ecs import ACCOUNT, REGION, container, context, node, register
from tests.builders.waiting import until
from tests.fakes.agent import FakeAgent, crashes


class Stage:
    """Schedulers and agents on one NATS."""

    def __init__(self, platform, data) -> None:
        self.platform, self.data = platform, data
        self.apps: list[SchedulerApp] = []
        self.agents: dict[str, FakeAgent] = {}

    async def scheduler(self, instance: str = "s1", **settings) -> SchedulerApp:
        settings = {"node_silence_s": 30.0, "settled_s": 0.5, "backoff_base_s": 0.2, "lease_ttl_s": 2.0, **settings}
        bus = await self.platform.bus("scheduler")
        app = SchedulerApp(Host(bus, self.data, instance=instance), SchedulerSettings(**settings))
        await app.start()
        self.apps.append(app)
        return app

    async def kill(self, app: SchedulerApp) -> None:
        """As kill -9 does: nothing is told, nothing is finished."""
        self.apps.remove(app)
        await app.host.bus.close()

    async def agent(self, name: str = "n1", zone: str = "us-east-1a", behave=None, **members) -> FakeAgent:
        agent = FakeAgent(await self.platform.bus("agent"), node(name, zone, **members))
        if behave is not None:
            agent.behave = behave
        await agent.start()
        self.agents[name] = agent
        for app in self.apps:
            await until(lambda app=app: app.world.nodes.get(name))
        return agent

    async def close(self) -> None:
        for app in self.apps:
            await app.stop()


@pytest.fixture
async def stage(nats_platform, tmp_path):
    stage = Stage(nats_platform, tmp_path)
    try:
        yield stage
    finally:
        await stage.close()


class Client:
    """The operations, with requests in wire form and answers as plain JSON."""

    def __init__(self, app: SchedulerApp) -> None:
        self.api: Ecs = app.aws_services[0]

    async def __call__(self, operation: str, **members):
        known = ecs.API.operations[operation]
        answer = await getattr(self.api, known.method)(context(operation), msgspec.convert(members, known.input))
        return msgspec.to_builtins(answer)

    async def service(self, name: str = "web"):
        return (await self("DescribeServices", services=[name]))["services"][0]

    async def settled(self, name: str = "web", seconds: float = 30.0):
        """As the waiter services_stable: one deployment, and as many tasks running as are wanted."""
        async with asyncio.timeout(seconds):
            while True:
                service = await self.service(name)
                if len(service["deployments"]) == 1 and service["runningCount"] == service["desiredCount"]:
                    return service
                await asyncio.sleep(0.01)

    async def running(self, **filters):
        return (await self("ListTasks", **filters))["taskArns"]


async def ready(stage, agents: int = 1, **settings) -> tuple[SchedulerApp, Client]:
    app = await stage.scheduler(**settings)
    for number in range(agents):
        await stage.agent(f"n{number + 1}", f"us-east-1{'abc'[number % 3]}")
    client = Client(app)
    await client("RegisterTaskDefinition", **msgspec.to_builtins(register("web")))
    return app, client


async def web_service(client: Client, count: int, **members):
    return await client("CreateService", serviceName="web", taskDefinition="web", desiredCount=count, **members)


async def test_a_task_runs_stops_and_says_why(stage):
    app, client = await ready(stage)
    ran = await client("RunTask", taskDefinition="web", startedBy="me", tags=[{"key": "a", "value": "b"}])
    arn = ran["tasks"][0]["taskArn"]
    assert (ran["tasks"][0]["lastStatus"], ran["tasks"][0]["desiredStatus"]) == ("PROVISIONING", "RUNNING")
    task_id = arn.rsplit("/", 1)[1]
    await until(lambda: stage.agents["n1"].running() == [task_id])
    await client("StopTask", task=arn, reason="enough")
    await until(lambda: not app.world.ledger.usage("n1").tasks)
    described = await client("DescribeTasks", tasks=[arn, "0" * 32], include=["TAGS"])
    task = described["tasks"][0]
    shown = {k: task[k] for k in ("lastStatus", "desiredStatus", "stopCode", "stoppedReason", "startedBy", "tags")}
    assert shown == {
        "lastStatus": "STOPPED",
        "desiredStatus": "STOPPED",
        "stopCode": "UserInitiated",
        "stoppedReason": "enough",
        "startedBy": "me",
        "tags": [{"key": "a", "value": "b"}],
    }
    assert task["containers"][0]["exitCode"] == 0
    assert [f["reason"] for f in described["failures"]] == ["MISSING"]


async def test_tasks_spread_over_zones_and_what_does_not_fit_is_told(stage):
    _, client = await ready(stage, agents=3)
    ran = await client("RunTask", taskDefinition="web", count=6)
    assert sorted(t["availabilityZone"] for t in ran["tasks"]) == [f"us-east-1{z}" for z in "aabbcc"]
    await client("RegisterTaskDefinition", **msgspec.to_builtins(register("big", container(memory=9000))))
    refused = await client("RunTask", taskDefinition="big")
    assert (refused["tasks"], {f["reason"] for f in refused["failures"]}) == ([], {"RESOURCE:MEMORY"})


async def test_a_client_token_starts_its_tasks_once(stage):
    _, client = await ready(stage)
    request = {"taskDefinition": "web", "count": 2, "clientToken": "once"}
    answers = await asyncio.gather(*(client("RunTask", **request) for _ in range(3)))
    assert len({t["taskArn"] for answer in answers for t in answer["tasks"]}) == 2
    with pytest.raises(AwsError) as refusal:
        await client("RunTask", **{**request, "startedBy": "another"})
    assert refusal.value.code == "ConflictException"


async def test_two_schedulers_give_out_each_revision_once(stage):
    clients = [Client(await stage.scheduler(name)) for name in ("s1", "s2")]
    request = msgspec.to_builtins(register("web"))
    answers = await asyncio.gather(*(clients[i % 2]("RegisterTaskDefinition", **request) for i in range(20)))
    assert sorted(a["taskDefinition"]["revision"] for a in answers) == list(range(1, 21))


async def test_a_service_reaches_its_count_and_replaces_a_task_that_is_killed(stage):
    _, client = await ready(stage, agents=3)
    app = stage.apps[0]
    await web_service(client, 3)
    await until(lambda: app.world.services.records()[0].steady)
    agent = stage.agents["n2"]
    victim = agent.running()[0]
    await agent.end(victim, exit_code=137)
    await until(lambda: sum("steady state" in e.message for e in app.world.services.records()[0].events) == 2)
    assert agent.running() != [victim]
    service = await client.settled()
    told = [event["message"].partition(":")[0] for event in service["events"]]
    assert told == [
        "(service web) has reached a steady state.",
        "(service web) has started 1 tasks",
        "(service web) has reached a steady state.",
        f"(service web) (deployment {service['deployments'][0]['id']}) deployment completed.",
        "(service web) has started 3 tasks",
    ]


async def test_an_unhealthy_task_is_stopped_and_replaced(stage):
    _, client = await ready(stage)
    checked = register("web", container(healthCheck={"command": ["CMD", "true"]}))
    await client("RegisterTaskDefinition", **msgspec.to_builtins(checked))
    await web_service(client, 1)
    agent = stage.agents["n1"]
    first = (await until(agent.running))[0]
    assert (await client.service())["deployments"][0]["rolloutState"] == "IN_PROGRESS"
    await agent.health(first, "UNHEALTHY")
    second = (await until(lambda: [t for t in agent.running() if t != first]))[0]
    await agent.health(second, "HEALTHY")
    await client.settled()
    task = (await client("DescribeTasks", tasks=[first]))["tasks"][0]
    assert (task["stopCode"], task["stoppedReason"]) == (
        "ServiceSchedulerInitiated",
        "Task failed container health checks",
    )


async def test_a_rolling_update_replaces_every_task_and_keeps_within_its_limits(stage):
    app, client = await ready(stage, agents=2)
    await web_service(client, 4, deploymentConfiguration={"minimumHealthyPercent": 50, "maximumPercent": 125})
    await client.settled()
    counts = []
    app.world.listen(lambda change: counts.append(_alive(app)))
    await client("RegisterTaskDefinition", **msgspec.to_builtins(register("web")))
    await client("UpdateService", service="web", taskDefinition="web")
    service = await client.settled()
    assert service["taskDefinition"].endswith("web:2")
    tasks = (await client("DescribeTasks", tasks=await client.running(serviceName="web")))["tasks"]
    assert {t["taskDefinitionArn"].rsplit("/", 1)[1] for t in tasks} == {"web:2"}
    assert max(counts) <= 5


def _alive(app) -> int:
    return sum(
        m.state in ("pending", "running") for m in app.world.members("000000000000", "us-east-1", "default", "web")
    )


async def test_a_lost_node_costs_its_tasks_and_finds_them_unwanted_when_it_comes_back(stage):
    _, client = await ready(stage, agents=2, node_silence_s=3.0)
    await web_service(client, 2)
    await client.settled()
    lost = stage.agents["n1"]
    (task_id,) = lost.running()
    lost.silence()
    await until(lambda: len(stage.agents["n2"].running()) == 2)
    task = (await client("DescribeTasks", tasks=[task_id]))["tasks"][0]
    assert (task["lastStatus"], task["stopCode"]) == ("STOPPED", "TerminationNotice")
    lost.speak()
    await until(lambda: lost.running() == [])
    await client.settled()


async def test_a_crash_loop_is_slowed_down_and_told(stage):
    _, client = await ready(stage, agents=1)
    agent = stage.agents["n1"]
    agent.behave = crashes
    await web_service(client, 1)

    def told():
        service = stage.apps[0].world.services.records()[0]
        return [e for e in service.events if "is unable to consistently start tasks successfully" in e.message]

    await until(told)
    assert len(agent.started) < 8
    assert (await client.service())["deployments"][0]["failedTasks"] >= 3
    agent.behave = lambda task: "run"
    await client.settled()


async def test_the_circuit_breaker_brings_back_what_worked(stage):
    _, client = await ready(stage)
    breaker = {"deploymentCircuitBreaker": {"enable": True, "rollback": True}}
    await web_service(client, 2, deploymentConfiguration=breaker)
    await until(lambda: stage.apps[0].world.services.records()[0].deployments[0].rollout_state == "COMPLETED")
    first = (await client.settled())["deployments"][0]["id"]
    await client("RegisterTaskDefinition", **msgspec.to_builtins(register("web")))
    stage.agents["n1"].behave = lambda task: "crash" if task.task_definition == "web:2" else "run"
    await client("UpdateService", service="web", taskDefinition="web:2")
    told = f"(service web) rolling back to deployment {first}."
    await until(lambda: any(e.message == told for e in stage.apps[0].world.services.records()[0].events))
    service = await client.settled()
    assert (service["taskDefinition"].rsplit("/", 1)[1], service["deployments"][0]["id"]) == ("web:1", first)


async def test_what_has_no_place_is_told_and_placed_when_there_is_room(stage):
    _, client = await ready(stage)
    await client("RegisterTaskDefinition", **msgspec.to_builtins(register("web", container(memory=5000))))
    await web_service(client, 2)
    await until(lambda: len(stage.agents["n1"].running()) == 1)
    said = "was unable to place a task because no container instance met all of its requirements"
    await until(lambda: any(said in e.message for e in stage.apps[0].world.services.records()[0].events))
    await stage.agent("n2", "us-east-1b")
    await client.settled()


async def test_a_deleted_service_drains_and_becomes_inactive(stage):
    _, client = await ready(stage)
    await web_service(client, 2)
    await client.settled()
    with pytest.raises(AwsError, match="scaled above 0"):
        await client("DeleteService", service="web")
    assert (await client("DeleteService", service="web", force=True))["service"]["status"] == "DRAINING"
    await until(lambda: stage.apps[0].world.services.records()[0].status == "INACTIVE")
    assert stage.agents["n1"].running() == []
    await web_service(client, 1)
    await client.settled()
    with pytest.raises(AwsError) as refusal:
        await client("DeleteCluster", cluster="default")
    assert refusal.value.code == "ClusterContainsServicesException"


async def test_a_scheduler_killed_in_mid_rollout_is_followed_by_one_that_finishes(stage):
    app, client = await ready(stage, agents=2)
    await web_service(client, 6)
    await client.settled()
    await client("RegisterTaskDefinition", **msgspec.to_builtins(register("web")))
    await client("UpdateService", service="web", taskDefinition="web")
    await until(lambda: len(app.world.tasks) > 6)
    await stage.kill(app)
    other = await stage.scheduler("s2")
    client = Client(other)
    service = await client.settled()
    assert service["taskDefinition"].endswith("web:2")
    await until(lambda: sum(len(a.running()) for a in stage.agents.values()) == 6)


async def test_without_nats_everything_answers_503_and_goes_on_when_it_is_back(stage):
    _, client = await ready(stage)
    await web_service(client, 2)
    await client.settled()
    await stage.platform.server.stop()
    await until(lambda: not stage.apps[0].host.bus.connected.is_set())
    for operation, request in (("DescribeClusters", {}), ("RunTask", {"taskDefinition": "web"})):
        with pytest.raises(StateUnavailable):
            await client(operation, **request)
    await stage.platform.server.start()
    await until(lambda: stage.apps[0].host.bus.connected.is_set())
    await until(lambda: stage.agents["n1"].bus.connected.is_set())
    await client("UpdateService", service="web", desiredCount=3)
    await client.settled()
    assert [t.stop_code for t in stage.apps[0].world.tasks.records()] == [None] * 3


async def test_stopped_tasks_are_forgotten_after_a_while(stage):
    app, client = await ready(stage, keep_stopped_s=0.2)
    await client("RunTask", taskDefinition="web")
    agent = stage.agents["n1"]
    (task_id,) = await until(agent.running)
    await agent.end(task_id)
    await until(lambda: app.world.store.table(TASK).all_keys() == [])
    await until(lambda: agent.status(task_id) is None)


async def test_two_tasks_never_share_a_host_port(stage):
    _, client = await ready(stage)
    mapped = container(portMappings=[{"containerPort": 80, "hostPort": 8080}])
    await client("RegisterTaskDefinition", **msgspec.to_builtins(register("web", mapped)))
    answers = await asyncio.gather(*(client("RunTask", taskDefinition="web") for _ in range(3)))
    outcomes = sorted("placed" if a["tasks"] else a["failures"][0]["reason"] for a in answers)
    assert outcomes == ["RESOURCE:PORTS", "RESOURCE:PORTS", "placed"]


async def test_another_service_sets_the_desired_count_with_one_write_and_says_why(stage):
    app, client = await ready(stage)
    await web_service(client, 1)
    await client.settled()
    bus = await stage.platform.bus("autoscaler")
    told = []
    app.world.listen(lambda change: told.append(change.new.record.desired_count) if change.kind is SERVICE else None)

    async def ask(count, **where):
        place = {"account": ACCOUNT, "region": REGION, "cluster": "default", "service": "web", **where}
        return await bus.call(SET_DESIRED_COUNT, SetDesiredCount(**place, desired_count=count, cause="policy busy"))

    assert await ask(3) == DesiredCountSet(previous=1, desired_count=3)
    service = await client.settled()
    await until(lambda: app.world.services.records()[0].steady)
    assert (service["desiredCount"], [d["desiredCount"] for d in service["deployments"]]) == (3, [3])
    writes = len(told)
    assert await ask(3) == DesiredCountSet(previous=3, desired_count=3)
    assert (len(told), set(told)) == (writes, {3})
    refused = []
    for count, where in ((1, {"cluster": "nowhere"}), (1, {"service": "nobody"}), (-1, {})):
        with pytest.raises(CommandRefused) as refusal:
            await ask(count, **where)
        refused.append(refusal.value.code)
    assert refused == ["ClusterNotFoundException", "ServiceNotFoundException", "InvalidParameterException"]
