"""Deployments by stages against a real NATS: hooks over HTTP, pauses, alarms, a scheduler that dies on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from aiohttp import web

from contracts.records.monitor import METRIC_ALARM, MetricAlarm
from services.shared.errors import AwsError
from services.shared.state import Store
from tests.builders.ecs import ACCOUNT, REGION, container, register
from tests.builders.waiting import until
from tests.integration.test_scheduler import Client, Stage, ready, web_service
from tests.integration.test_scheduler_deployments import described, ended

STAGES = [
    "PRE_SCALE_UP",
    "POST_SCALE_UP",
    "TEST_TRAFFIC_SHIFT",
    "POST_TEST_TRAFFIC_SHIFT",
    "PRE_PRODUCTION_TRAFFIC_SHIFT",
    "PRODUCTION_TRAFFIC_SHIFT",
    "POST_PRODUCTION_TRAFFIC_SHIFT",
]
EARLY = {"enable": True, "healthyPercent": 99, "sourceServiceRevisionCleanup": "DEFERRED"}
Answer = Callable[[dict[str, Any]], Any]


class Target:
    """A hook's target: keeps what it is asked and answers as it is told to. An int is a status without a body."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.answer: Answer = lambda payload: {"hookStatus": "SUCCEEDED"}

    async def start(self) -> Target:
        app = web.Application()
        app.add_routes([web.post("/hook", self._handle)])
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/hook"
        return self

    async def stop(self) -> None:
        await self._runner.cleanup()

    def at(self, *stages: str, **members: Any) -> dict[str, Any]:
        return {"hookTargetArn": self.url, "lifecycleStages": list(stages), **members}

    async def _handle(self, request: web.Request) -> web.Response:
        payload = await request.json()
        self.asked.append(payload)
        answer = self.answer(payload)
        return web.Response(status=answer) if isinstance(answer, int) else web.json_response(answer)


@pytest.fixture
async def stage(nats_platform, tmp_path):
    stage = Stage(nats_platform, tmp_path)
    try:
        yield stage
    finally:
        await stage.close()


@pytest.fixture
async def target():
    target = await Target().start()
    yield target
    await target.stop()


async def complete(client: Client, count: int = 1, **configuration: Any) -> str:
    """A service whose first deployment is complete: that deployment's ARN."""
    configuration = {"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 0, **configuration}
    made = await web_service(client, count, deploymentConfiguration=configuration)
    first = made["service"]["currentServiceDeployment"]
    await ended(client, first, "SUCCESSFUL")
    return first


async def next_version(client: Client, **configuration: Any) -> str:
    await client("RegisterTaskDefinition", **msgspec.to_builtins(register("web", container())))
    more = {"deploymentConfiguration": configuration} if configuration else {}
    service = (await client("UpdateService", service="web", taskDefinition="web", **more))["service"]
    return service["currentServiceDeployment"]


async def comes_to(client: Client, arn: str, stage: str, *, paused: bool = False) -> dict[str, Any]:
    """Wait until a deployment is in a stage, or is paused there."""
    async with asyncio.timeout(30):
        while True:
            found = await described(client, arn)
            waits = any(d["status"] == "AWAITING_ACTION" for d in found.get("lifecycleHookDetails") or [])
            if found.get("lifecycleStage") == stage and waits >= paused:
                return found
            await asyncio.sleep(0.01)


def weights(found: dict[str, Any]) -> list[tuple[float, int]]:
    """(weight, running) of the sources and the target."""
    revisions = [*found["sourceServiceRevisions"], found["targetServiceRevision"]]
    return [(r["requestedProductionTrafficWeight"], r["runningTaskCount"]) for r in revisions]


async def test_each_stage_asks_its_hooks_with_what_ecs_tells_a_lambda_function(stage, target):
    _, client = await ready(stage)
    first = await complete(client, 2)
    hook = target.at(*STAGES, hookDetails={"bucket": "mine"})
    second = await next_version(client, lifecycleHooks=[hook])
    await ended(client, second, "SUCCESSFUL")
    assert [asked["lifecycleStage"] for asked in target.asked] == STAGES
    old, new = (arn.replace("service-deployment", "service-revision") for arn in (first, second))
    service = f"arn:aws:ecs:{REGION}:{ACCOUNT}:service/default/web"
    shift = target.asked[5]
    assert shift == {
        "executionDetails": {
            "testTrafficWeights": {},
            "productionTrafficWeights": {new: 100, old: 0},
            "serviceArn": service,
            "targetServiceRevisionArn": new,
        },
        "executionId": shift["executionId"],
        "lifecycleStage": "PRODUCTION_TRAFFIC_SHIFT",
        "resourceArn": second,
        "hookDetails": {"bucket": "mine"},
    }
    assert target.asked[2]["executionDetails"]["testTrafficWeights"] == {new: 100, old: 0}
    assert len({asked["executionId"] for asked in target.asked}) == len(STAGES)
    settled = await client.settled()
    assert (settled["taskDefinition"].endswith("web:2"), settled["runningCount"]) == (True, 2)


async def test_a_hook_is_asked_again_after_its_delay_with_what_it_gave_back(stage, target):
    _, client = await ready(stage)
    await complete(client)
    said = [503, {"hookStatus": "IN_PROGRESS", "callBackDelay": 1, "hookDetails": {"seen": 1}}]
    target.answer = lambda payload: said.pop(0) if said else {"hookStatus": "SUCCEEDED"}
    second = await next_version(client, lifecycleHooks=[target.at("POST_SCALE_UP")])
    await ended(client, second, "SUCCESSFUL")
    assert [asked.get("hookDetails") for asked in target.asked] == [None, None, {"seen": 1}]
    assert len({asked["executionId"] for asked in target.asked}) == 1


@pytest.mark.parametrize("answer", [{"hookStatus": "FAILED"}, {"hookStatus": "PERHAPS"}, [], 404])
async def test_a_hook_that_fails_takes_green_down_and_blue_is_not_touched(stage, target, answer):
    _, client = await ready(stage)
    first = await complete(client, 2)
    blue = await client.running()
    target.answer = lambda payload: answer
    second = await next_version(client, lifecycleHooks=[target.at("POST_TEST_TRAFFIC_SHIFT")])
    done = await ended(client, second, "ROLLBACK_SUCCESSFUL")
    assert target.url in done["statusReason"]
    assert done["rollback"]["serviceRevisionArn"] == first.replace("service-deployment", "service-revision")
    assert sorted(await client.running()) == sorted(blue)
    assert (await client.settled())["taskDefinition"].endswith("web:1")


async def test_a_paused_deployment_shows_both_revisions_and_goes_on_when_it_is_told_to(stage):
    _, client = await ready(stage)
    await complete(client, 2)
    pauses = [{"targetType": "PAUSE", "lifecycleStages": ["POST_TEST_TRAFFIC_SHIFT", "POST_PRODUCTION_TRAFFIC_SHIFT"]}]
    second = await next_version(client, lifecycleHooks=pauses)
    paused = await comes_to(client, second, "POST_TEST_TRAFFIC_SHIFT", paused=True)
    assert weights(paused) == [(100.0, 2), (0.0, 2)]
    assert paused["targetServiceRevision"]["requestedTestTrafficWeight"] == 100.0
    (hook,) = paused["lifecycleHookDetails"]
    assert (hook["targetType"], hook["timeoutAction"], hook.get("targetArn")) == ("PAUSE", "ROLLBACK", None)
    with pytest.raises(AwsError) as refusal:
        await client("ContinueServiceDeployment", serviceDeploymentArn=second, hookId="ecs-pause-another")
    assert refusal.value.code == "InvalidParameterException"
    await client("ContinueServiceDeployment", serviceDeploymentArn=second, hookId=hook["hookId"])
    shifted = await comes_to(client, second, "POST_PRODUCTION_TRAFFIC_SHIFT", paused=True)
    assert weights(shifted) == [(0.0, 2), (100.0, 2)]
    (hook,) = shifted["lifecycleHookDetails"]
    answer = await client(
        "ContinueServiceDeployment", serviceDeploymentArn=second, hookId=hook["hookId"], action="ROLLBACK"
    )
    assert answer == {"serviceDeploymentArn": second}
    done = await ended(client, second, "ROLLBACK_SUCCESSFUL")
    assert weights(done)[0] == (100.0, 2)
    assert (await client.settled())["taskDefinition"].endswith("web:1")


async def test_a_canary_is_stopped_and_all_traffic_goes_home(stage):
    _, client = await ready(stage)
    canary = {"canaryPercent": 5.0, "canaryBakeTimeInMinutes": 60}
    await complete(client, 2, strategy="CANARY", canaryConfiguration=canary)
    second = await next_version(client)

    assert weights(await comes_to(client, second, "PRODUCTION_TRAFFIC_SHIFT")) == [(95.0, 2), (5.0, 2)]
    await client("StopServiceDeployment", serviceDeploymentArn=second, stopType="ROLLBACK")
    assert weights(await described(client, second))[0] == (100.0, 2)
    await ended(client, second, "ROLLBACK_SUCCESSFUL")
    assert (await client.settled())["runningCount"] == 2


@pytest.mark.parametrize("strategy", ["ROLLING", "BLUE_GREEN"])
async def test_an_alarm_that_goes_off_in_the_bake_time_brings_the_version_before_back(stage, strategy):
    _, client = await ready(stage)
    monitor = await Store.open(await stage.platform.bus("monitor"), (METRIC_ALARM,))

    async def alarm(state: str, at: float) -> None:
        given = {"name": "errors", "request": {}, "configured_at": 1.0, "state": state, "state_changed_at": at}
        await monitor.put(METRIC_ALARM, MetricAlarm(account=ACCOUNT, region=REGION, **given), "alarm.changed.v1")

    alarms = {"enable": True, "rollback": True, "alarmNames": ["errors"]}
    seen = {"deploymentConfiguration": {"alarms": alarms}}
    await alarm("ALARM", 1.0)
    await until(lambda: client.api.world.alarmed(ACCOUNT, REGION, seen))
    first = await complete(client, strategy=strategy, alarms=alarms)
    assert (await described(client, first))["alarms"]["status"] == "DISABLED"
    await alarm("OK", 2.0)
    await until(lambda: not client.api.world.alarmed(ACCOUNT, REGION, seen))
    second = await next_version(client, bakeTimeInMinutes=60)
    found = await comes_to(client, second, "BAKE_TIME")
    assert (found["status"], found["alarms"]["status"]) == ("IN_PROGRESS", "MONITORING")
    await alarm("ALARM", found["startedAt"] + 1.0)
    done = await ended(client, second, "ROLLBACK_SUCCESSFUL")
    assert done["alarms"] == {"status": "TRIGGERED", "alarmNames": ["errors"], "triggeredAlarmNames": ["errors"]}
    assert (await client.settled())["taskDefinition"].endswith("web:1")
    await monitor.close()


async def test_a_scheduler_that_dies_while_a_hook_is_asked_is_followed_by_one_that_asks_it_again(stage, target):
    app, client = await ready(stage)
    await complete(client, 2)
    target.answer = lambda payload: {"hookStatus": "IN_PROGRESS", "callBackDelay": 1}
    second = await next_version(client, lifecycleHooks=[target.at("POST_SCALE_UP")])
    await until(lambda: target.asked)
    await stage.kill(app)
    follower = await stage.scheduler("s2")
    seen = len(target.asked)
    await until(lambda: len(target.asked) > seen)
    target.answer = lambda payload: {"hookStatus": "SUCCEEDED"}
    await ended(Client(follower), second, "SUCCESSFUL")
    assert len({asked["executionId"] for asked in target.asked}) == 1
    agent = stage.agents["n1"]
    assert (len(agent.started), len(agent.running())) == (4, 2)


@pytest.mark.parametrize(
    ("configuration", "code", "said"),
    [
        (
            {"lifecycleHooks": [{"hookTargetArn": "arn:aws:lambda:us-east-1:1:function:f", "lifecycleStages": STAGES}]},
            "UnsupportedFeatureException",
            "Lambda",
        ),
        ({"lifecycleHooks": [{"hookTargetArn": "ftp://x", "lifecycleStages": STAGES}]}, None, "hookTargetArn"),
        ({"lifecycleHooks": [{"hookTargetArn": "http://x"}]}, None, "lifecycleStages"),
        ({"lifecycleHooks": [{"targetType": "PAUSE", "lifecycleStages": STAGES}]}, None, "TEST_TRAFFIC_SHIFT"),
        ({"strategy": "LINEAR", "linearConfiguration": {"stepPercent": 2.0}}, None, "stepPercent"),
        ({"strategy": "CANARY", "canaryConfiguration": {"canaryPercent": 0.15}}, None, "canaryPercent"),
        ({"strategy": "CANARY", "linearConfiguration": {}, "bakeTimeInMinutes": 1441}, None, "bakeTimeInMinutes"),
        ({"strategy": "CANARY", "linearConfiguration": {"stepPercent": 5.0}}, None, "linearConfiguration"),
        ({"alarms": {"enable": True, "rollback": True, "alarmNames": []}}, None, "alarmNames"),
        ({"earlySuccessCriteria": {"enable": True}}, None, "ROLLING"),
        ({"strategy": "ROLLING", "earlySuccessCriteria": {"enable": True}}, None, "healthyPercent"),
        ({"strategy": "ROLLING", "earlySuccessCriteria": EARLY}, None, "minimumHealthyPercent"),
    ],
)
async def test_a_strategy_that_can_not_be_is_refused_with_the_member_s_name(stage, configuration, code, said):
    _, client = await ready(stage)
    await web_service(client, 1)
    configuration = {"strategy": "BLUE_GREEN", **configuration}
    for operation in ("CreateService", "UpdateService"):
        name = {"serviceName": "other"} if operation == "CreateService" else {"service": "web"}
        with pytest.raises(AwsError) as refusal:
            await client(operation, **name, taskDefinition="web", deploymentConfiguration=configuration)
        assert refusal.value.code == (code or "InvalidParameterException")
        assert said in refusal.value.message
