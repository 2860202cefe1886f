"""ECS operations against a real NATS: what they answer, and what they refuse."""

import asyncio

import msgspec
import pytest

from contracts.records.network import SECURITY_GROUP, SecurityGroup
from services.shared.errors import AwsError
from services.shared.state import Store
from tests.builders.ecs import ACCOUNT, AWSVPC, REGION, container, register
from tests.builders.waiting import until
from tests.integration.test_scheduler import Client, Stage, ready, web_service

ARN = "arn:aws:ecs:us-east-1:000000000000"


@pytest.fixture
async def stage(nats_platform, tmp_path):
    stage = Stage(nats_platform, tmp_path)
    try:
        yield stage
    finally:
        await stage.close()


async def refused(client, operation: str, **request) -> tuple[str, str]:
    with pytest.raises(AwsError) as refusal:
        await client(operation, **request)
    return refusal.value.code, refusal.value.message


async def test_clusters_are_made_described_changed_and_deleted(stage):
    client = Client(await stage.scheduler())
    tags = [{"key": "a", "value": "b"}]
    await client("CreateCluster", clusterName="main", tags=tags)
    await client("UpdateClusterSettings", cluster="main", settings=[{"name": "containerInsights", "value": "enabled"}])
    strategy = [{"capacityProvider": "FARGATE", "weight": 1}]
    await client(
        "PutClusterCapacityProviders",
        cluster="main",
        capacityProviders=["FARGATE"],
        defaultCapacityProviderStrategy=strategy,
    )
    described = await client("DescribeClusters", clusters=["main", "other"], include=["SETTINGS", "TAGS", "STATISTICS"])
    assert described["failures"] == [{"arn": f"{ARN}:cluster/other", "reason": "MISSING"}]
    (cluster,) = described["clusters"]
    assert {s["name"] for s in cluster.pop("statistics")} >= {"runningFargateTasksCount", "activeEC2ServiceCount"}
    assert cluster == {
        "clusterArn": f"{ARN}:cluster/main",
        "clusterName": "main",
        "status": "ACTIVE",
        "registeredContainerInstancesCount": 0,
        "runningTasksCount": 0,
        "pendingTasksCount": 0,
        "activeServicesCount": 0,
        "tags": tags,
        "settings": [{"name": "containerInsights", "value": "enabled"}],
        "capacityProviders": ["FARGATE"],
        "defaultCapacityProviderStrategy": strategy,
    }
    assert (await client("DeleteCluster", cluster=f"{ARN}:cluster/main"))["cluster"]["status"] == "INACTIVE"
    assert (await client("ListClusters"))["clusterArns"] == []
    assert await refused(client, "DeleteCluster", cluster="main") == ("ClusterNotFoundException", "Cluster not found.")


async def test_the_default_cluster_is_there_once_a_node_is(stage):
    app = await stage.scheduler()
    client = Client(app)
    await client("RegisterTaskDefinition", **msgspec.to_builtins(register("web")))
    assert (await refused(client, "RunTask", taskDefinition="web"))[0] == "ClusterNotFoundException"
    await stage.agent("n1")
    assert len((await client("RunTask", taskDefinition="web"))["tasks"]) == 1
    assert (await client("ListClusters"))["clusterArns"] == [f"{ARN}:cluster/default"]


async def test_every_member_of_a_task_definition_is_given_back(stage):
    client = Client(await stage.scheduler())
    given = container(
        command=["sh", "-c", "true"],
        entryPoint=["/bin/sh"],
        ulimits=[{"name": "nofile", "softLimit": 10, "hardLimit": 20}],
        dockerLabels={"a": "b"},
        secrets=[{"name": "S", "valueFrom": "arn:aws:ssm:x"}],
        stopTimeout=5,
        linuxParameters={"initProcessEnabled": True, "tmpfs": [{"containerPath": "/t", "size": 5}]},
        logConfiguration={"logDriver": "awslogs", "options": {"awslogs-group": "g", "mode": "non-blocking"}},
    )
    volumes = [{"name": "v", "efsVolumeConfiguration": {"fileSystemId": "fs-1", "transitEncryption": "ENABLED"}}]
    members = {"taskRoleArn": "arn:aws:iam::1:role/r", "ephemeralStorage": {"sizeInGiB": 30}, "pidMode": "task"}
    request = msgspec.to_builtins(register("web", given, volumes=volumes, **members))
    answer = (await client("RegisterTaskDefinition", **request))["taskDefinition"]
    described = (await client("DescribeTaskDefinition", taskDefinition="web"))["taskDefinition"]
    assert described == answer
    assert {k: described["containerDefinitions"][0][k] for k in given} == given
    assert {k: described[k] for k in members} == members
    assert (described["volumes"], described["revision"], described["taskDefinitionArn"]) == (
        volumes,
        1,
        f"{ARN}:task-definition/web:1",
    )


async def test_revisions_go_from_active_to_deleted_and_their_numbers_are_not_used_again(stage):
    app = await stage.scheduler(keep_stopped_s=0.05)
    client = Client(app)
    request = msgspec.to_builtins(register("web"))
    for _ in range(2):
        await client("RegisterTaskDefinition", **request)
    assert (await client("ListTaskDefinitions", familyPrefix="web", sort="DESC", maxResults=1))[
        "taskDefinitionArns"
    ] == [f"{ARN}:task-definition/web:2"]
    failures = (await client("DeleteTaskDefinitions", taskDefinitions=["web:2"]))["failures"]
    assert "still in ACTIVE status" in failures[0]["reason"]
    await client("DeregisterTaskDefinition", taskDefinition="web:2")
    assert (await client("DescribeTaskDefinition", taskDefinition="web"))["taskDefinition"]["revision"] == 1
    assert await refused(client, "RunTask", taskDefinition="web:2", cluster="none") == (
        "ClusterNotFoundException",
        "Cluster not found.",
    )
    deleted = (await client("DeleteTaskDefinitions", taskDefinitions=["web:2"]))["taskDefinitions"]
    assert deleted[0]["status"] == "DELETE_IN_PROGRESS"
    await until(lambda: app.world.definitions.record("000000000000", "us-east-1", "web", "2").status == "DELETED")
    assert (await refused(client, "DescribeTaskDefinition", taskDefinition="web:2"))[0] == "ClientException"
    later = Client(await stage.scheduler("s2"))
    assert (await later("RegisterTaskDefinition", **request))["taskDefinition"]["revision"] == 3
    assert (await later("ListTaskDefinitionFamilies"))["families"] == ["web"]


async def test_tasks_are_listed_by_every_filter(stage):
    _, client = await ready(stage, agents=2)
    await client("RegisterTaskDefinition", **msgspec.to_builtins(register("job")))
    web = (await client("RunTask", taskDefinition="web", startedBy="me"))["tasks"][0]
    job = (await client("RunTask", taskDefinition="job"))["tasks"][0]
    await client("StopTask", task=job["taskArn"])

    async def found(**filters):
        return (await client("ListTasks", **filters))["taskArns"]

    assert await found() == [web["taskArn"]]
    assert await found(desiredStatus="STOPPED") == [job["taskArn"]]
    assert await found(startedBy="me") == await found(family="web") == await found(launchType="EC2") == [web["taskArn"]]
    assert await found(family="job") == await found(launchType="FARGATE") == []
    assert await found(containerInstance=web["containerInstanceArn"]) == [web["taskArn"]]
    assert await refused(client, "ListTasks", serviceName="none") == ("ServiceNotFoundException", "Service not found.")


async def test_a_task_can_be_started_on_a_node_of_ones_choice(stage):
    _, client = await ready(stage, agents=2)
    await client("CreateCluster")
    arns = (await client("ListContainerInstances"))["containerInstanceArns"]
    missing = f"{ARN}:container-instance/default/{'0' * 32}"
    answer = await client("StartTask", taskDefinition="web", containerInstances=[arns[1], missing])
    assert [t["containerInstanceArn"] for t in answer["tasks"]] == [arns[1]]
    assert answer["failures"] == [{"arn": missing, "reason": "MISSING"}]
    (instance,) = (await client("DescribeContainerInstances", containerInstances=[arns[1]]))["containerInstances"]
    memory = next(r for r in instance["remainingResources"] if r["name"] == "MEMORY")
    assert (memory["integerValue"], instance["agentConnected"], instance["status"]) == (8192 - 64, True, "ACTIVE")


async def test_an_awsvpc_task_shows_its_network_interface(stage):
    app, client = await ready(stage)
    fargate = {"requiresCompatibilities": ["FARGATE"], "networkMode": "awsvpc", "cpu": "256", "memory": "512"}
    await client("RegisterTaskDefinition", **msgspec.to_builtins(register("far", **fargate)))
    run = {"taskDefinition": "far", "launchType": "FARGATE"}
    assert "Network Configuration must be provided" in (await refused(client, "RunTask", **run))[1]
    arn = (await client("RunTask", **run, networkConfiguration=AWSVPC))["tasks"][0]["taskArn"]
    await until(stage.agents["n1"].running)
    await until(lambda: app.world.statuses.records())
    task = (await client("DescribeTasks", tasks=[arn]))["tasks"][0]
    (attachment,) = task["attachments"]
    details = {d["name"]: d["value"] for d in attachment["details"]}
    assert (attachment["type"], attachment["status"]) == ("ElasticNetworkInterface", "ATTACHED")
    assert (details["privateIPv4Address"], details["subnetId"]) == ("10.77.0.5", "subnet-1")
    assert task["containers"][0]["networkInterfaces"][0]["privateIpv4Address"] == "10.77.0.5"
    assert (task["cpu"], task["memory"], task["platformVersion"]) == ("256", "512", "1.4.0")
    assert "containerInstanceArn" not in task


async def test_a_security_group_that_is_not_there_is_refused_and_a_new_one_can_be_used_at_once(stage):
    _, client = await ready(stage)
    fargate = {"requiresCompatibilities": ["FARGATE"], "networkMode": "awsvpc", "cpu": "256", "memory": "512"}
    await client("RegisterTaskDefinition", **msgspec.to_builtins(register("far", **fargate)))
    groups = await Store.open(await stage.platform.bus("network"), (SECURITY_GROUP,))
    given = {**AWSVPC["awsvpcConfiguration"], "securityGroups": ["sg-00000001"]}
    run = {"taskDefinition": "far", "networkConfiguration": {"awsvpcConfiguration": given}}
    fargate_run = {**run, "launchType": "FARGATE"}
    service = {**fargate_run, "serviceName": "far", "desiredCount": 0}
    for operation, request in (("RunTask", fargate_run), ("CreateService", service)):
        code, message = await refused(client, operation, **request)
        assert (code, "'sg-00000001' does not exist" in message) == ("InvalidParameterException", True)
    made = {"id": "sg-00000001", "name": "web", "description": "d"}
    await groups.put(SECURITY_GROUP, SecurityGroup(account=ACCOUNT, region=REGION, **made), "security_group.created.v1")
    await client("RunTask", **fargate_run)
    await client("CreateService", **service)
    given["securityGroups"] = ["sg-00000002"]
    changed = {"service": "far", "networkConfiguration": {"awsvpcConfiguration": given}}
    assert "'sg-00000002' does not exist" in (await refused(client, "UpdateService", **changed))[1]
    await groups.close()


@pytest.mark.parametrize(
    ("operation", "request_", "code", "said"),
    [
        ("RunTask", {"taskDefinition": "none"}, "ClientException", "TaskDefinition not found."),
        ("RunTask", {"taskDefinition": "web", "count": 11}, "InvalidParameterException", "between 1 and 10"),
        (
            "RunTask",
            {"taskDefinition": "web", "launchType": "FARGATE"},
            "InvalidParameterException",
            "Task definition does not support launch_type FARGATE.",
        ),
        (
            "RunTask",
            {"taskDefinition": "web", "overrides": {"containerOverrides": [{"name": "x"}]}},
            "InvalidParameterException",
            "Override for container named x is not a container in the TaskDefinition.",
        ),
        (
            "RunTask",
            {"taskDefinition": "web", "placementConstraints": [{"type": "memberOf", "expression": "a > b"}]},
            "InvalidParameterException",
            "is invalid.",
        ),
        ("StopTask", {"task": "0" * 32}, "InvalidParameterException", "The referenced task was not found."),
        ("DescribeTasks", {"tasks": []}, "InvalidParameterException", "Tasks cannot be empty."),
        ("UpdateService", {"service": "none"}, "ServiceNotFoundException", "Service not found."),
        ("DeleteService", {"service": "none"}, "ServiceNotFoundException", "Service not found."),
        ("ListTagsForResource", {"resourceArn": f"{ARN}:cluster/none"}, "ResourceNotFoundException", "not be found"),
    ],
)
async def test_bad_requests_are_refused_in_the_words_of_ecs(stage, operation, request_, code, said):
    _, client = await ready(stage)
    await client("CreateCluster")
    answer = await refused(client, operation, **request_)
    assert (answer[0], said in answer[1]) == (code, True), answer


async def test_two_updates_at_once_both_count(stage):
    _, client = await ready(stage)
    other = Client(await stage.scheduler("s2"))
    await until(lambda: other.api.world.definitions.records())
    await web_service(client, 0)
    await until(lambda: other.api.world.services.records())
    await asyncio.gather(
        client("UpdateService", service="web", desiredCount=2),
        other("UpdateService", service="web", healthCheckGracePeriodSeconds=7),
    )
    await until(lambda: stage.agents["n1"].running())
    service = await client.settled()
    assert (service["desiredCount"], service["healthCheckGracePeriodSeconds"]) == (2, 7)


async def test_creating_a_service_twice_is_refused_unless_the_token_is_the_same(stage):
    _, client = await ready(stage)
    await web_service(client, 1, clientToken="t")
    await web_service(client, 1, clientToken="t")
    assert (await refused(client, "CreateService", serviceName="web", taskDefinition="web"))[1] == (
        "Creation of service was not idempotent."
    )


async def test_tags_are_added_changed_and_taken_away(stage):
    _, client = await ready(stage)
    await client("CreateCluster")
    await web_service(client, 0)
    task = (await client("RunTask", taskDefinition="web"))["tasks"][0]["taskArn"]
    for arn in (f"{ARN}:cluster/default", f"{ARN}:service/default/web", f"{ARN}:task-definition/web:1", task):
        await client("TagResource", resourceArn=arn, tags=[{"key": "a", "value": "1"}, {"key": "b", "value": "2"}])
        await client("TagResource", resourceArn=arn, tags=[{"key": "a", "value": "3"}])
        await client("UntagResource", resourceArn=arn, tagKeys=["b"])
        assert (await client("ListTagsForResource", resourceArn=arn))["tags"] == [{"key": "a", "value": "3"}]
