"""GPUs: counted, given to one container each, shown. Against a real NATS."""

import msgspec
import pytest

from services.shared.errors import AwsError
from tests.builders.ecs import container, register
from tests.builders.waiting import until
from tests.integration.test_scheduler import Client, Stage, ready


@pytest.fixture
async def stage(nats_platform, tmp_path):
    stage = Stage(nats_platform, tmp_path)
    try:
        yield stage
    finally:
        await stage.close()


def gpu(value: str) -> list[dict]:
    return [{"type": "GPU", "value": value}]


async def define(client: Client, *containers: dict, **members) -> None:
    definition = register("train", *containers, **members)
    await client("RegisterTaskDefinition", **msgspec.to_builtins(definition))


async def resources(client: Client, node: str) -> tuple[list[str], list[str]]:
    (arn,) = (await client("ListContainerInstances", filter=f"ec2InstanceId == {node}"))["containerInstanceArns"]
    shown = (await client("DescribeContainerInstances", containerInstances=[arn]))["containerInstances"][0]
    sides = (shown["registeredResources"], shown["remainingResources"])
    return tuple(next((r["stringSetValue"] for r in side if r["name"] == "GPU"), []) for side in sides)


async def test_each_gpu_is_one_container_s_and_free_again_when_its_task_is_over(stage):
    _, client = await ready(stage)
    await stage.agent("big", "us-east-1b", gpus=["g0", "g1", "g2"])
    await client("CreateCluster", clusterName="default")
    first = container("first", resourceRequirements=gpu("1"))
    await define(client, first, container("second", resourceRequirements=gpu("1")), container("third"))
    assert await resources(client, "n1") == ([], [])
    ran = await client("RunTask", taskDefinition="train", count=2)
    (task,) = ran["tasks"]
    shown = {c["name"]: c.get("gpuIds") for c in task["containers"]}
    assert shown == {"first": ["g0"], "second": ["g1"], "third": None}
    assert {f["reason"] for f in ran["failures"]} == {"RESOURCE:GPU"}
    assert await resources(client, "big") == (["g0", "g1", "g2"], ["g2"])
    override = {"containerOverrides": [{"name": "second", "resourceRequirements": gpu("0")}]}
    with pytest.raises(AwsError, match="number of GPUs"):
        await client("RunTask", taskDefinition="train", overrides=override)
    await until(lambda: stage.agents["big"].running())
    await client("StopTask", task=task["taskArn"])
    await until(lambda: not stage.agents["big"].running())
    again = await client("RunTask", taskDefinition="train")
    assert [c.get("gpuIds") for c in again["tasks"][0]["containers"]] == [["g0"], ["g1"], None]


async def test_another_scheduler_knows_which_are_taken(stage):
    _, client = await ready(stage, agents=0)
    await stage.agent("big", "us-east-1b", gpus=["g0", "g1"])
    await define(client, container(resourceRequirements=gpu("1")))
    await client("RunTask", taskDefinition="train")
    second = Client(await stage.scheduler("s2"))
    ran = await second("RunTask", taskDefinition="train", count=2)
    assert [t["containers"][0]["gpuIds"] for t in ran["tasks"]] == [["g1"]]
    assert {f["reason"] for f in ran["failures"]} == {"RESOURCE:GPU"}


@pytest.mark.parametrize(
    ("requirements", "said"),
    [
        ([{"type": "GPU", "value": "ALL"}], "number of GPUs"),
        ([{"type": "InferenceAccelerator", "value": "x"}], "InferenceAccelerator"),
        ([*gpu("1"), *gpu("2")], "only once"),
    ],
)
async def test_what_can_t_be_given_is_refused_when_it_is_registered(stage, requirements, said):
    _, client = await ready(stage)
    with pytest.raises(AwsError, match=said):
        await define(client, container(resourceRequirements=requirements))


async def test_fargate_has_none(stage):
    _, client = await ready(stage)
    fargate = {"requiresCompatibilities": ["FARGATE"], "networkMode": "awsvpc", "cpu": "256", "memory": "512"}
    with pytest.raises(AwsError, match="Fargate"):
        await define(client, container(resourceRequirements=gpu("1")), **fargate)
