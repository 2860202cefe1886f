"""Deployments as they are told, stopped and rolled back; protection; account settings: against a real NATS."""

import msgspec
import pytest

from services.shared.errors import AwsError
from tests.builders.ecs import container, register
from tests.builders.waiting import until
from tests.integration.test_scheduler import Client, Stage, ready, web_service


@pytest.fixture
async def stage(nats_platform, tmp_path):
    stage = Stage(nats_platform, tmp_path)
    try:
        yield stage
    finally:
        await stage.close()


async def deployments(client: Client, **filters) -> list[dict]:
    return (await client("ListServiceDeployments", service="web", **filters))["serviceDeployments"]


async def described(client: Client, arn: str) -> dict:
    (found,) = (await client("DescribeServiceDeployments", serviceDeploymentArns=[arn]))["serviceDeployments"]
    return found


async def ended(client: Client, arn: str, status: str) -> dict:
    """Wait until a deployment has this status."""
    last: dict = {}

    async def look() -> bool:
        last.update(await described(client, arn))
        return last["status"] == status

    for _ in range(3000):
        if await look():
            return last
        await until_changed(client)
    raise AssertionError(f"{arn} is {last['status']}")


async def until_changed(client: Client) -> None:
    changed = []
    client.api.world.listen(changed.append)
    await until(lambda: changed, 30)


async def second_version(client: Client, **members) -> str:
    await client("RegisterTaskDefinition", **msgspec.to_builtins(register("web", container(), **members)))
    service = (await client("UpdateService", service="web", taskDefinition="web"))["service"]
    return service["currentServiceDeployment"]


async def test_a_deployment_is_told_with_the_revisions_it_leads_from_and_to(stage):
    _, client = await ready(stage)
    first = (await web_service(client, 2))["service"]["currentServiceDeployment"]
    await ended(client, first, "SUCCESSFUL")
    second = await second_version(client)
    done = await ended(client, second, "SUCCESSFUL")
    assert [d["status"] for d in await deployments(client)] == ["SUCCESSFUL", "SUCCESSFUL"]
    assert [d["serviceDeploymentArn"] for d in await deployments(client)] == [second, first]
    assert (await deployments(client, status=["IN_PROGRESS"])) == []
    target = done["targetServiceRevision"]
    assert (target["requestedTaskCount"], target["runningTaskCount"]) == (2, 2)
    assert done["finishedAt"] >= done["startedAt"]
    (source,) = done["sourceServiceRevisions"]
    answer = await client("DescribeServiceRevisions", serviceRevisionArns=[source["arn"], target["arn"]])
    old, new = answer["serviceRevisions"]
    assert [r["taskDefinition"].rsplit("/", 1)[1] for r in (old, new)] == ["web:1", "web:2"]
    assert new["containerImages"] == [{"containerName": "web", "image": "busybox", "imageDigest": "sha256:" + "0" * 64}]
    missing = await client("DescribeServiceDeployments", serviceDeploymentArns=[first[:-3] + "000"])
    assert [f["reason"] for f in missing["failures"]] == ["MISSING"]


async def test_a_deployment_that_is_stopped_goes_back_to_what_was_complete(stage):
    _, client = await ready(stage)
    first = (await web_service(client, 2))["service"]["currentServiceDeployment"]
    await ended(client, first, "SUCCESSFUL")
    stage.agents["n1"].behave = lambda task: "hang" if task.task_definition == "web:2" else "run"
    second = await second_version(client)
    assert (await client("StopServiceDeployment", serviceDeploymentArn=second)) == {"serviceDeploymentArn": second}
    done = await ended(client, second, "ROLLBACK_SUCCESSFUL")
    assert done["rollback"]["serviceRevisionArn"].rsplit("/", 1)[1] == first.rsplit("/", 1)[1]
    assert (await client.settled())["taskDefinition"].endswith("web:1")
    with pytest.raises(AwsError) as refusal:
        await client("StopServiceDeployment", serviceDeploymentArn=second)
    assert refusal.value.code == "ConflictException"
    with pytest.raises(AwsError) as refusal:
        await client("StopServiceDeployment", serviceDeploymentArn=second[:-3] + "000")
    assert refusal.value.code == "ServiceDeploymentNotFoundException"


async def test_a_broken_circuit_is_told_as_a_rollback(stage):
    _, client = await ready(stage)
    breaker = {"deploymentCircuitBreaker": {"enable": True, "rollback": True}}
    first = (await web_service(client, 1, deploymentConfiguration=breaker))["service"]["currentServiceDeployment"]
    await ended(client, first, "SUCCESSFUL")
    stage.agents["n1"].behave = lambda task: "crash" if task.task_definition == "web:2" else "run"
    done = await ended(client, await second_version(client), "ROLLBACK_SUCCESSFUL")
    breaker = done["deploymentCircuitBreaker"]
    assert (breaker["status"], breaker["threshold"]) == ("TRIGGERED", 3)
    assert breaker["failureCount"] >= 3


async def test_a_protected_task_outlives_scaling_in_until_it_is_protected_no_longer(stage):
    app, client = await ready(stage)
    await web_service(client, 2)
    await client.settled()
    tasks = await client.running()
    answer = await client(
        "UpdateTaskProtection", cluster="default", tasks=tasks, protectionEnabled=True, expiresInMinutes=60
    )
    assert [t["protectionEnabled"] for t in answer["protectedTasks"]] == [True, True]
    await client("UpdateService", service="web", desiredCount=0)
    await until(lambda: app.world.services.records()[0].desired_count == 0)
    asked = await client("GetTaskProtection", cluster="default")
    assert sorted(t["taskArn"] for t in asked["protectedTasks"]) == sorted(tasks)
    await client("UpdateTaskProtection", cluster="default", tasks=tasks[:1], protectionEnabled=False)
    await until(lambda: len(stage.agents["n1"].running()) == 1)
    assert await client.running() == tasks[1:]
    alone = (await client("RunTask", taskDefinition="web"))["tasks"][0]["taskArn"]
    refused = await client("UpdateTaskProtection", cluster="default", tasks=[alone, "x"], protectionEnabled=True)
    assert [f["reason"] for f in refused["failures"]] == ["TASK_NOT_VALID", "MISSING"]


async def test_insights_are_what_the_account_wants_unless_a_cluster_says_otherwise(stage):
    client = Client(await stage.scheduler())

    async def made(name: str, **members) -> list[dict]:
        return (await client("CreateCluster", clusterName=name, **members))["cluster"]["settings"]

    assert await made("plain") == [{"name": "containerInsights", "value": "disabled"}]
    await client("PutAccountSettingDefault", name="containerInsights", value="enhanced")
    assert await made("wanted") == [{"name": "containerInsights", "value": "enhanced"}]
    await client("PutAccountSetting", name="containerInsights", value="enabled")
    assert await made("mine") == [{"name": "containerInsights", "value": "enabled"}]
    own = [{"name": "containerInsights", "value": "disabled"}]
    assert await made("own", settings=own) == own
    listed = (await client("ListAccountSettings", effectiveSettings=True, name="containerInsights"))["settings"]
    assert [s["value"] for s in listed] == ["enabled"]
    await client("DeleteAccountSetting", name="containerInsights")
    assert await made("again") == [{"name": "containerInsights", "value": "enhanced"}]
    with pytest.raises(AwsError, match="must be one of"):
        await client("PutAccountSetting", name="taskLongArnFormat", value="disabled")
