"""Task sets against a real NATS: made, scaled, made primary, deleted."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from services.shared.errors import AwsError
from tests.builders.ecs import container, register
from tests.builders.waiting import until
from tests.integration.test_scheduler import Client, Stage, ready

OF = {"cluster": "default", "service": "web"}


@pytest.fixture
async def stage(nats_platform, tmp_path):
    stage = Stage(nats_platform, tmp_path)
    try:
        yield stage
    finally:
        await stage.close()


async def external(stage, count: int = 4) -> Client:
    _, client = await ready(stage)
    await client("RegisterTaskDefinition", **msgspec.to_builtins(register("web", container())))
    await client("CreateCluster", clusterName="default")
    controller = {"deploymentController": {"type": "EXTERNAL"}}
    made = await client("CreateService", serviceName="web", desiredCount=count, **controller)
    shown = made["service"]
    assert (shown["deploymentController"]["type"], shown["taskSets"], shown["deployments"]) == ("EXTERNAL", [], [])
    return client


async def create(client: Client, definition: str, percent: float, **members) -> dict:
    scale = {"value": percent, "unit": "PERCENT"}
    return (await client("CreateTaskSet", **OF, taskDefinition=definition, scale=scale, **members))["taskSet"]


async def sets(client: Client, *ids: str) -> list[dict]:
    return (await client("DescribeTaskSets", **OF, taskSets=list(ids)))["taskSets"]


async def steady(client: Client, count: int, *counts: int) -> list[dict]:
    """Wait until there are so many sets, all steady, with so many tasks each."""
    async with asyncio.timeout(30):
        while True:
            found = await sets(client)
            states = [(s["runningCount"], s["stabilityStatus"]) for s in found]
            if len(found) == count and states == [(c, "STEADY_STATE") for c in counts]:
                return found
            await asyncio.sleep(0.01)


async def test_a_deployment_by_task_sets_from_the_first_to_the_second(stage):
    client = await external(stage)
    first = await create(client, "web:1", 100.0, externalId="v1", tags=[{"key": "a", "value": "b"}])
    assert (first["status"], first["computedDesiredCount"], first["externalId"]) == ("ACTIVE", 4, "v1")
    assert first["taskSetArn"].endswith(f":task-set/default/web/{first['id']}")
    await steady(client, 1, 4)
    await client("TagResource", resourceArn=first["taskSetArn"], tags=[{"key": "c", "value": "d"}])
    await client("UntagResource", resourceArn=first["taskSetArn"], tagKeys=["a"])
    told = await client("DescribeTaskSets", **OF, include=["TAGS"])
    assert told["taskSets"][0]["tags"] == [{"key": "c", "value": "d"}]
    assert (await client("ListTagsForResource", resourceArn=first["taskSetArn"]))["tags"] == told["taskSets"][0]["tags"]
    with pytest.raises(AwsError) as refusal:
        await client("ListTagsForResource", resourceArn=f"{first['taskSetArn']}0")
    assert refusal.value.code == "ResourceNotFoundException"
    await client("UpdateServicePrimaryTaskSet", **OF, primaryTaskSet=first["taskSetArn"])
    second = await create(client, "web:2", 30.0)
    await steady(client, 2, 4, 2)
    service = await client.service()
    assert service["taskDefinition"].endswith("web:1")
    assert [(s["status"], s["computedDesiredCount"]) for s in service["taskSets"]] == [("PRIMARY", 4), ("ACTIVE", 2)]
    tasks = (await client("DescribeTasks", tasks=await client.running(startedBy=second["id"])))["tasks"]
    told = {(t["startedBy"], t["group"], t["taskDefinitionArn"].rsplit("/")[-1]) for t in tasks}
    assert (len(tasks), told) == (2, {(second["id"], "service:web", "web:2")})
    await client("UpdateTaskSet", **OF, taskSet=second["id"], scale={"value": 100.0, "unit": "PERCENT"})
    await client("UpdateServicePrimaryTaskSet", **OF, primaryTaskSet=second["id"])
    await steady(client, 2, 4, 4)
    with pytest.raises(AwsError) as refusal:
        await client("DeleteTaskSet", **OF, taskSet=first["id"])
    assert refusal.value.code == "InvalidParameterException"
    deleted = (await client("DeleteTaskSet", **OF, taskSet=first["id"], force=True))["taskSet"]
    assert (deleted["status"], deleted["computedDesiredCount"]) == ("DRAINING", 0)
    (left,) = await steady(client, 1, 4)
    assert (left["id"], left["status"]) == (second["id"], "PRIMARY")
    assert (await client.service())["taskDefinition"].endswith("web:2")
    await client("UpdateService", service="web", desiredCount=1)
    await steady(client, 1, 1)


async def test_a_task_of_a_set_that_dies_is_replaced_in_its_set_whoever_leads(stage):
    client = await external(stage, 2)
    first, second = await create(client, "web:1", 50.0), await create(client, "web:2", 50.0)
    await steady(client, 2, 1, 1)
    (victim,) = (arn.rsplit("/", 1)[1] for arn in await client.running(startedBy=first["id"]))
    await stage.kill(stage.apps[0])
    await stage.agents["n1"].end(victim, exit_code=1)
    client = Client(await stage.scheduler("s2"))
    await steady(client, 2, 1, 1)
    await until(lambda: len(stage.agents["n1"].started) == 3)
    assert [s["id"] for s in await sets(client)] == [first["id"], second["id"]]
    await client("DeleteService", service="web", force=True)
    await until(lambda: client.api.world.services.records()[0].status == "INACTIVE")
    assert stage.agents["n1"].running() == []


async def test_a_set_is_made_once_for_a_token_and_what_can_not_be_is_refused(stage):
    client = await external(stage, 1)
    one = await create(client, "web:1", 100.0, clientToken="t")
    assert (await create(client, "web:1", 100.0, clientToken="t"))["id"] == one["id"]
    assert (await client("DescribeTaskSets", **OF, taskSets=["ecs-svc/1"]))["failures"][0]["reason"] == "MISSING"

    async def refused(operation: str, **members) -> str:
        with pytest.raises(AwsError) as refusal:
            await client(operation, **members)
        return refusal.value.code

    assert await refused("UpdateService", service="web", taskDefinition="web") == "InvalidParameterException"
    assert await refused("UpdateService", service="web", forceNewDeployment=True) == "InvalidParameterException"
    assert await refused("CreateTaskSet", **OF, taskDefinition="none") == "ClientException"
    balancers = [{"containerName": "web", "containerPort": 80}]
    code = await refused("CreateTaskSet", **OF, taskDefinition="web", loadBalancers=balancers)
    assert code == "UnsupportedFeatureException"
    controller = {"deploymentController": {"type": "EXTERNAL"}}
    named = {"serviceName": "other", "taskDefinition": "web"}
    assert await refused("CreateService", **named, **controller) == "InvalidParameterException"
    controller = {"deploymentController": {"type": "CODE_DEPLOY"}}
    assert await refused("CreateService", **named, **controller) == "UnsupportedFeatureException"
    await client("CreateService", **named)
    other = {"cluster": "default", "service": "other"}
    assert await refused("CreateTaskSet", **other, taskDefinition="web") == "InvalidParameterException"
    gone = {"cluster": "default", "service": "gone"}
    assert await refused("CreateTaskSet", **gone, taskDefinition="web") == "ServiceNotFoundException"
