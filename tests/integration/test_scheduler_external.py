"""External nodes as the scheduler sees them, and nodes that are taken out of a cluster. Against a real NATS."""

import pytest

from contracts.records.identity import MANAGED_NODE, ManagedNode
from services.shared.errors import AwsError
from services.shared.state import Store
from tests.builders.ecs import ACCOUNT, REGION
from tests.builders.waiting import until
from tests.integration.test_scheduler import Client, Stage, ready, web_service

NAME = "mi-0123456789abcdef0"
SILENCE = {"node_silence_s": 1.0}


@pytest.fixture
async def stage(nats_platform, tmp_path):
    stage = Stage(nats_platform, tmp_path)
    try:
        yield stage
    finally:
        await stage.close()


async def external(stage, name: str = NAME, cluster: str = "default") -> None:
    """A machine that has joined, with its agent."""
    store = await Store.open(await stage.platform.bus("identity"), (MANAGED_NODE,))
    record = ManagedNode(
        account=ACCOUNT,
        region=REGION,
        activation="a-1",
        slot=len(stage.agents) + 1,
        node=name,
        cluster=cluster,
        secret_digest="",
        registered_at=1.0,
    )
    await store.put(MANAGED_NODE, record, "managed_node.registered.v1")
    for app in stage.apps:
        await until(lambda app=app: name in app.world.managed)
    await stage.agent(name, "external", capacity_kind="FARGATE")  # what it says of itself does not count


async def instance(client: Client, node: str, cluster: str = "default") -> str:
    found = await client("ListContainerInstances", cluster=cluster, filter=f"ec2InstanceId == {node}")
    return found["containerInstanceArns"][0] if found["containerInstanceArns"] else ""


def on(stage, name: str) -> int:
    return len(stage.agents[name].running())


async def test_external_tasks_go_to_the_external_nodes_of_their_cluster_and_nothing_else_does(stage):
    _, client = await ready(stage)
    await external(stage)
    ran = await client("RunTask", taskDefinition="web", count=4, launchType="EXTERNAL", enableExecuteCommand=True)
    (agent,) = ran["tasks"][0]["containers"][0]["managedAgents"]
    assert (agent["lastStatus"], "external nodes" in agent["reason"]) == ("STOPPED", True)
    await client("RunTask", taskDefinition="web", count=4, launchType="EC2")
    await until(lambda: (on(stage, "n1"), on(stage, NAME)) == (4, 4))
    await client("CreateCluster", clusterName="other")
    refused = await client("RunTask", cluster="other", taskDefinition="web", launchType="EXTERNAL")
    assert {failure["reason"] for failure in refused["failures"]} == {"ATTRIBUTE"}
    assert await instance(client, NAME, "other") == ""
    counts = (await client("DescribeClusters", clusters=["default", "other"]))["clusters"]
    assert [c["registeredContainerInstancesCount"] for c in counts] == [2, 1]
    shown = await client("DescribeContainerInstances", containerInstances=[await instance(client, NAME)])
    assert {"name": "ecs.capability.external", "value": ""} in shown["containerInstances"][0]["attributes"]
    started = await client("StartTask", taskDefinition="web", containerInstances=[await instance(client, NAME)])
    assert started["tasks"][0]["launchType"] == "EXTERNAL"


async def test_a_name_of_an_external_node_without_a_registration_takes_nothing(stage):
    _, client = await ready(stage, agents=0)
    await stage.agent(NAME, "external", capacity_kind="EXTERNAL")
    refused = await client("RunTask", taskDefinition="web", launchType="EXTERNAL")
    assert {failure["reason"] for failure in refused["failures"]} == {"AGENT"}


async def test_an_external_node_that_is_silent_keeps_its_tasks_and_takes_no_new_ones(stage):
    app, client = await ready(stage, **SILENCE)
    await external(stage)
    await web_service(client, 2, launchType="EXTERNAL")
    await client.settled()
    before = set(stage.agents[NAME].running())
    stage.agents[NAME].silence()
    await until(lambda: not app.world.connected(NAME))
    await client("UpdateService", service="web", desiredCount=3)
    await until(lambda: any("has the agent disconnected" in e.message for e in app.world.services.records()[0].events))
    assert set(stage.agents[NAME].running()) == before
    assert (await client.service())["runningCount"] == 2
    stage.agents[NAME].speak()
    await client.settled()
    assert before < set(stage.agents[NAME].running())


async def test_one_that_was_written_off_stops_what_it_had_when_it_is_back(stage):
    _, client = await ready(stage, external_silence_s=1.0, **SILENCE)
    await external(stage)
    await external(stage, "mi-00000000000000001")
    await web_service(client, 2, launchType="EXTERNAL")
    await client.settled()
    lost = stage.agents[NAME]
    before = set(lost.running())
    assert len(before) == 1
    lost.silence()
    await until(lambda: on(stage, "mi-00000000000000001") == 2)
    await until(lambda: not set(lost.running()) & before)  # it hears that they are to stop
    lost.speak()
    await client("UpdateService", service="web", desiredCount=4)
    await client.settled()
    assert on(stage, NAME) + on(stage, "mi-00000000000000001") == 4


async def test_a_node_is_taken_out_with_force_and_is_back_when_its_agent_registers_anew(stage):
    _, client = await ready(stage, agents=2)
    await web_service(client, 2)
    await client.settled()
    arn = await instance(client, "n1")
    with pytest.raises(AwsError, match="Found running tasks"):
        await client("DeregisterContainerInstance", containerInstance=arn)
    gone = (await client("DeregisterContainerInstance", containerInstance=arn, force=True))["containerInstance"]
    assert (gone["status"], gone["agentConnected"]) == ("INACTIVE", False)
    await until(lambda: (on(stage, "n1"), on(stage, "n2")) == (0, 2))
    stopped = (await client("ListTasks", desiredStatus="STOPPED"))["taskArns"]
    (task,) = (await client("DescribeTasks", tasks=stopped))["tasks"]
    assert task["stoppedReason"] == "Container instance deregistration forced by user"
    described = await client("DescribeContainerInstances", containerInstances=[arn])
    assert [f["reason"] for f in described["failures"]] == ["MISSING"]
    with pytest.raises(AwsError, match="does not exist"):
        await client("DeregisterContainerInstance", containerInstance=arn)
    await stage.agent("n1", session="s2")
    assert await instance(client, "n1") == arn
    await client("UpdateService", service="web", desiredCount=4)
    await until(lambda: (on(stage, "n1"), on(stage, "n2")) == (2, 2))
    again = await client("UpdateContainerInstancesState", containerInstances=[arn], status="DRAINING")
    assert again["containerInstances"][0]["status"] == "DRAINING"


async def test_amazon_s_own_agent_is_told_that_it_can_t_join(stage):
    _, client = await ready(stage)
    await client("RunTask", taskDefinition="web")
    arn = await instance(client, "n1")
    for operation in (
        "RegisterContainerInstance",
        "DiscoverPollEndpoint",
        "SubmitTaskStateChange",
        "SubmitContainerStateChange",
    ):
        with pytest.raises(AwsError, match="roadstead node") as refusal:
            await client(operation)
        assert refusal.value.code == "ClientException"
    with pytest.raises(AwsError, match="roadstead node"):
        await client("SubmitAttachmentStateChanges", attachments=[])
    with pytest.raises(AwsError) as refusal:
        await client("UpdateContainerAgent", containerInstance=arn)
    assert refusal.value.code == "NoUpdateAvailableException"
    with pytest.raises(AwsError, match="does not exist"):
        await client("UpdateContainerAgent", containerInstance="none")
