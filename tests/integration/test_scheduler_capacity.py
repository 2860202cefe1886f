"""Capacity providers, container instances and their attributes, draining, daemons: against a real NATS."""

from collections import Counter

import msgspec
import pytest

from services.scheduler.decisions import life
from services.shared.errors import AwsError
from tests.builders.ecs import AWSVPC, container, register
from tests.builders.waiting import until
from tests.integration.test_scheduler import Client, Stage, ready, web_service

GROUP = "arn:aws:autoscaling:us-east-1:000000000000:autoScalingGroup:1:autoScalingGroupName/mine"


@pytest.fixture
async def stage(nats_platform, tmp_path):
    stage = Stage(nats_platform, tmp_path)
    try:
        yield stage
    finally:
        await stage.close()


async def instances(client: Client, **filters) -> list[str]:
    return (await client("ListContainerInstances", **filters))["containerInstanceArns"]


async def instance_of(client: Client, node: str) -> str:
    (arn,) = await instances(client, filter=f"ec2InstanceId == {node}")
    return arn


def tasks_of(agent) -> int:
    return len(agent.running())


async def fargate(client: Client) -> None:
    definition = register("web", container(), networkMode="awsvpc", cpu="256", memory="512")
    await client("RegisterTaskDefinition", **msgspec.to_builtins(definition))


async def test_seventy_to_thirty_lands_seven_and_three_of_ten(stage):
    _, client = await ready(stage)
    await stage.agent("spot", "us-east-1b", capacity_kind="FARGATE_SPOT")
    await fargate(client)
    await client("CreateCluster", clusterName="default")
    strategy = [{"capacityProvider": "FARGATE", "weight": 70}, {"capacityProvider": "FARGATE_SPOT", "weight": 30}]
    await client(
        "PutClusterCapacityProviders",
        cluster="default",
        capacityProviders=["FARGATE", "FARGATE_SPOT"],
        defaultCapacityProviderStrategy=strategy,
    )
    await web_service(client, 10, networkConfiguration=AWSVPC)
    await client.settled()
    await until(lambda: (tasks_of(stage.agents["n1"]), tasks_of(stage.agents["spot"])) == (7, 3))
    tasks = (await client("DescribeTasks", tasks=await client.running()))["tasks"]
    assert Counter(t["capacityProviderName"] for t in tasks) == {"FARGATE": 7, "FARGATE_SPOT": 3}


async def test_a_base_comes_before_the_weights(stage):
    _, client = await ready(stage)
    await stage.agent("spot", "us-east-1b", capacity_kind="FARGATE_SPOT")
    await fargate(client)
    strategy = [
        {"capacityProvider": "FARGATE", "base": 2, "weight": 0},
        {"capacityProvider": "FARGATE_SPOT", "weight": 1},
    ]
    ran = await client(
        "RunTask", taskDefinition="web", count=6, capacityProviderStrategy=strategy, networkConfiguration=AWSVPC
    )
    assert Counter(t["capacityProviderName"] for t in ran["tasks"]) == {"FARGATE": 2, "FARGATE_SPOT": 4}
    await until(lambda: (tasks_of(stage.agents["n1"]), tasks_of(stage.agents["spot"])) == (2, 4))


async def test_a_provider_of_ones_own_is_made_used_changed_and_deleted(stage):
    _, client = await ready(stage)
    await stage.agent("big", "us-east-1b", capacity_kind="mine")
    made = await client(
        "CreateCapacityProvider",
        name="mine",
        autoScalingGroupProvider={"autoScalingGroupArn": GROUP},
        tags=[{"key": "a", "value": "b"}],
    )
    provider = made["capacityProvider"]
    assert (provider["status"], provider["tags"]) == ("ACTIVE", [{"key": "a", "value": "b"}])
    for taken in ("mine", "fargate-x"):
        with pytest.raises(AwsError) as refusal:
            await client("CreateCapacityProvider", name=taken, autoScalingGroupProvider={"autoScalingGroupArn": GROUP})
        assert refusal.value.code == "InvalidParameterException"
    strategy = [{"capacityProvider": "mine", "weight": 1}]
    ran = await client("RunTask", taskDefinition="web", count=3, capacityProviderStrategy=strategy)
    assert {(t["capacityProviderName"], t["launchType"]) for t in ran["tasks"]} == {("mine", "EC2")}
    await until(lambda: tasks_of(stage.agents["big"]) == 3)
    await client("CreateCluster", clusterName="own", capacityProviders=["mine"])
    with pytest.raises(AwsError) as refusal:
        await client("DeleteCapacityProvider", capacityProvider="mine")
    assert refusal.value.code == "ResourceInUseException"
    await client("PutClusterCapacityProviders", cluster="own", capacityProviders=[], defaultCapacityProviderStrategy=[])
    draining = {"managedDraining": "ENABLED"}
    changed = await client("UpdateCapacityProvider", name="mine", autoScalingGroupProvider=draining)
    assert changed["capacityProvider"]["autoScalingGroupProvider"]["managedDraining"] == "ENABLED"
    deleted = (await client("DeleteCapacityProvider", capacityProvider=provider["capacityProviderArn"]))[
        "capacityProvider"
    ]
    assert (deleted["status"], deleted["updateStatus"]) == ("INACTIVE", "DELETE_COMPLETE")
    described = await client("DescribeCapacityProviders", capacityProviders=["FARGATE", "none"])
    assert [p["name"] for p in described["capacityProviders"]] == ["FARGATE"]
    assert [f["reason"] for f in described["failures"]] == ["MISSING"]
    with pytest.raises(AwsError, match="was not found"):
        await client("RunTask", taskDefinition="web", capacityProviderStrategy=strategy)


TEMPLATE = {
    "ec2InstanceProfileArn": "arn:aws:iam::000000000000:instance-profile/ecsInstanceRole",
    "networkConfiguration": {"subnets": ["subnet-1"]},
}
MANAGED = {
    "infrastructureRoleArn": "arn:aws:iam::000000000000:role/ecsInfrastructureRole",
    "instanceLaunchTemplate": TEMPLATE,
}


async def test_managed_instances_are_nodes_of_a_kind_of_their_provider_s_name_in_one_cluster(stage):
    _, client = await ready(stage)
    await fargate(client)
    await stage.agent("big", "us-east-1b", capacity_kind="large")
    for cluster in ("main", "other"):
        await client("CreateCluster", clusterName=cluster)
    made = await client("CreateCapacityProvider", name="large", cluster="main", managedInstancesProvider=MANAGED)
    provider = made["capacityProvider"]
    assert (provider["type"], provider["cluster"].rsplit("/", 1)[1]) == ("MANAGED_INSTANCES", "main")
    assert provider["managedInstancesProvider"]["instanceLaunchTemplate"] == TEMPLATE
    strategy = [{"capacityProvider": "large", "weight": 1}]
    web = {"taskDefinition": "web", "networkConfiguration": AWSVPC}
    ran = await client("RunTask", cluster="main", count=2, capacityProviderStrategy=strategy, **web)
    shown = {(t["launchType"], t["capacityProviderName"]) for t in ran["tasks"]}
    assert shown == {("MANAGED_INSTANCES", "large")}
    await until(lambda: tasks_of(stage.agents["big"]) == 2)
    await client(
        "CreateService", cluster="main", serviceName="w", desiredCount=1, capacityProviderStrategy=strategy, **web
    )
    await until(lambda: tasks_of(stage.agents["big"]) == 3)
    with pytest.raises(AwsError, match="was not found"):
        await client("RunTask", cluster="other", capacityProviderStrategy=strategy, **web)
    with pytest.raises(AwsError, match="cannot mix"):
        mixed = [*strategy, {"capacityProvider": "FARGATE", "weight": 1}]
        await client("RunTask", cluster="main", capacityProviderStrategy=mixed, **web)
    for call in (
        client("RunTask", launchType="MANAGED_INSTANCES", **web),
        client("CreateService", serviceName="x", launchType="MANAGED_INSTANCES", **web),
    ):
        with pytest.raises(AwsError, match="capacityProviderStrategy"):
            await call
    with pytest.raises(AwsError, match="A cluster must be specified"):
        await client("CreateCapacityProvider", name="none", managedInstancesProvider=MANAGED)
    with pytest.raises(AwsError, match="Specify either"):
        await client("CreateCapacityProvider", name="none")
    tagged = {**MANAGED, "propagateTags": "NONE"}
    changed = await client("UpdateCapacityProvider", name="large", cluster="main", managedInstancesProvider=tagged)
    assert changed["capacityProvider"]["managedInstancesProvider"]["propagateTags"] == "NONE"


async def test_attributes_are_put_listed_used_by_constraints_and_deleted(stage):
    _, client = await ready(stage, agents=3)
    await client("RunTask", taskDefinition="web", count=1)
    target = await instance_of(client, "n2")
    attribute = {"name": "stack", "value": "prod", "targetId": target}
    assert (await client("PutAttributes", attributes=[attribute]))["attributes"][0]["name"] == "stack"
    listed = (await client("ListAttributes", targetType="container-instance", attributeName="stack"))["attributes"]
    assert listed == [{"name": "stack", "value": "prod", "targetType": "container-instance", "targetId": target}]
    assert await instances(client, filter="attribute:stack == prod and agentConnected == true") == [target]
    constraint = {"type": "memberOf", "expression": "attribute:stack exists"}
    ran = await client("RunTask", taskDefinition="web", count=3, placementConstraints=[constraint])
    assert {t["containerInstanceArn"] for t in ran["tasks"]} == {target}
    await client("DeleteAttributes", attributes=[{"name": "stack", "targetId": target}])
    refused = await client("RunTask", taskDefinition="web", placementConstraints=[constraint])
    assert {f["reason"] for f in refused["failures"]} == {"MemberOf placement constraint unsatisfied"}
    with pytest.raises(AwsError) as refusal:
        await client("PutAttributes", attributes=[{"name": "a", "targetId": "none"}])
    assert refusal.value.code == "TargetNotFoundException"


async def test_a_drained_node_is_left_by_services_and_takes_nothing_until_it_is_active_again(stage):
    app, client = await ready(stage, agents=2)
    await web_service(client, 4)
    await client.settled()
    target = await instance_of(client, "n1")
    lowest = []
    app.world.listen(lambda change: lowest.append(sum(tasks_of(a) for a in stage.agents.values())))
    answer = await client("UpdateContainerInstancesState", containerInstances=[target, "x"], status="DRAINING")
    assert [i["status"] for i in answer["containerInstances"]] == ["DRAINING"]
    assert [f["reason"] for f in answer["failures"]] == ["MISSING"]
    await until(lambda: tasks_of(stage.agents["n2"]) == 4 and tasks_of(stage.agents["n1"]) == 0)
    await until(lambda: app.world.services.records()[0].steady)
    assert min(lowest) >= 4
    assert await instances(client, status="DRAINING") == [target]
    await client("UpdateService", service="web", desiredCount=6)
    await client.settled()
    assert tasks_of(stage.agents["n1"]) == 0
    await client("UpdateContainerInstancesState", containerInstances=[target], status="ACTIVE")
    await client("UpdateService", service="web", desiredCount=8)
    await until(lambda: tasks_of(stage.agents["n1"]) == 2)


async def test_a_daemon_has_a_task_on_each_node_that_suits_as_they_come_and_go(stage):
    app, client = await ready(stage, agents=2)
    expression = {"type": "memberOf", "expression": "not(attribute:quiet exists)"}
    await web_service_daemon(client, placementConstraints=[expression])

    def placed() -> dict[str, int]:
        return {name: tasks_of(agent) for name, agent in stage.agents.items()}

    await until(lambda: placed() == {"n1": 1, "n2": 1})
    await stage.agent("n3", "us-east-1c")
    await stage.agent("n4", "us-east-1a", attributes={"quiet": "yes"})
    await until(lambda: placed() == {"n1": 1, "n2": 1, "n3": 1, "n4": 0})
    (task,) = stage.agents["n2"].running()
    await stage.agents["n2"].end(task, exit_code=137)
    await until(lambda: placed() == {"n1": 1, "n2": 1, "n3": 1, "n4": 0})
    await until(
        lambda: (app.world.services.records()[0].desired_count, app.world.services.records()[0].steady) == (3, True)
    )
    await client("RegisterTaskDefinition", **msgspec.to_builtins(register("web")))
    await client("UpdateService", service="web", taskDefinition="web")
    await until(lambda: all(t.task_definition == "web:2" for t in running_tasks(app)) and len(running_tasks(app)) == 3)
    drained = await instance_of(client, "n3")
    await client("UpdateContainerInstancesState", containerInstances=[drained], status="DRAINING")
    await until(lambda: placed() == {"n1": 1, "n2": 1, "n3": 0, "n4": 0})
    service = await client.service()
    assert (service["schedulingStrategy"], service["deploymentConfiguration"]["maximumPercent"]) == ("DAEMON", 100)
    with pytest.raises(AwsError, match="does not support a desired count"):
        await client("UpdateService", service="web", desiredCount=2)
    await client("DeleteService", service="web")
    await until(lambda: sum(placed().values()) == 0)


def running_tasks(app) -> list:
    joined = app.world.tasks_in("000000000000", "us-east-1", "default")
    return [task for task, status in joined if life.desired_status(task, status) == "RUNNING"]


async def web_service_daemon(client: Client, **members):
    return await client(
        "CreateService", serviceName="web", taskDefinition="web", schedulingStrategy="DAEMON", **members
    )


async def test_zones_are_balanced_again_when_one_comes_back(stage):
    app, client = await ready(stage, agents=1)
    await web_service(client, 4, availabilityZoneRebalancing="ENABLED")
    await client.settled()
    await stage.agent("n2", "us-east-1b")
    await until(lambda: [tasks_of(a) for a in stage.agents.values()] == [2, 2])
    await until(lambda: app.world.services.records()[0].steady)
    told = [e.message for e in app.world.services.records()[0].events]
    assert any("rebalancing its tasks" in message for message in told)
