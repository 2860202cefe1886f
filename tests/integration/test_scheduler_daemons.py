"""Daemons: one task on each node of their capacity providers, against a real NATS."""

import asyncio

import pytest

from contracts.records.monitor import METRIC_ALARM, MetricAlarm
from services.shared.errors import AwsError
from services.shared.state import Store
from tests.builders.ecs import ACCOUNT, REGION
from tests.builders.waiting import until
from tests.fakes.agent import crashes, hangs, runs
from tests.integration.test_scheduler import ready, stage

__all__ = ["stage"]

GROUP = "arn:aws:autoscaling:us-east-1:000000000000:autoScalingGroup:1:autoScalingGroupName/mine"
ARN = f"arn:aws:ecs:{REGION}:{ACCOUNT}"
CONTAINER = {"name": "agent", "image": "busybox", "memory": 64}


async def providers(client, *names: str) -> list[str]:
    group = {"autoScalingGroupArn": GROUP, "managedScaling": {"status": "DISABLED"}}
    return [
        (await client("CreateCapacityProvider", name=name, autoScalingGroupProvider=group))["capacityProvider"][
            "capacityProviderArn"
        ]
        for name in names
    ]


async def definition(client, **members) -> str:
    answer = await client(
        "RegisterDaemonTaskDefinition", family="watch", containerDefinitions=[{**CONTAINER, **members}]
    )
    return answer["daemonTaskDefinitionArn"]


async def a_daemon(client, arns, **members):
    reference = await definition(client)
    return await client(
        "CreateDaemon", daemonName="watch", daemonTaskDefinitionArn=reference, capacityProviderArns=arns, **members
    )


async def deployment(client, arn):
    return (await client("DescribeDaemonDeployments", daemonDeploymentArns=[arn]))["daemonDeployments"][0]


async def ended(client, arn, status="SUCCESSFUL"):
    """The deployment, once it has come to its end."""
    async with asyncio.timeout(30):
        while True:
            shape = await deployment(client, arn)
            if shape["status"] not in ("IN_PROGRESS", "ROLLBACK_IN_PROGRESS"):
                break
            await asyncio.sleep(0.01)
    assert shape["status"] == status, shape
    return shape


def went_off(name: str, at: float) -> MetricAlarm:
    return MetricAlarm(
        account=ACCOUNT, region=REGION, name=name, request={}, configured_at=1.0, state="ALARM", state_changed_at=at
    )


async def tasks(client):
    arns = await client.running()
    return (await client("DescribeTasks", tasks=arns, include=["TAGS"]))["tasks"] if arns else []


async def test_a_daemon_runs_one_task_on_each_node_of_its_providers_as_nodes_come(stage):
    _, client = await ready(stage, agents=2)
    await stage.agent("other", capacity_kind="EXTERNAL")
    await stage.agent("mine", capacity_kind="mine")
    (mine,) = await providers(client, "mine")
    made = await a_daemon(client, [mine], tags=[{"key": "team", "value": "a"}], propagateTags="DAEMON",
                          enableECSManagedTags=True)  # fmt: skip
    assert (made["daemonArn"], made["status"]) == (f"{ARN}:daemon/default/watch", "ACTIVE")
    done = await ended(client, made["deploymentArn"])
    assert done["targetDaemonRevision"]["totalRunningInstanceCount"] == 3
    await stage.agent("late", capacity_kind="mine")
    await until(lambda: len(stage.agents["late"].running()) == 1)
    where = {name: len(agent.running()) for name, agent in stage.agents.items()}
    assert where == {"n1": 1, "n2": 1, "other": 0, "mine": 1, "late": 1}
    for task in await tasks(client):
        assert (task["group"], task["capacityProviderName"]) == ("daemon:watch", "mine")
        assert task["taskDefinitionArn"] == f"{ARN}:daemon-task-definition/watch:1"
        assert {tag["key"]: tag["value"] for tag in task["tags"]} == {"team": "a", "aws:ecs:clusterName": "default"}


async def test_with_several_providers_each_node_is_its_own_providers(stage):
    _, client = await ready(stage, agents=0)
    for name, kind in (("a1", "alpha"), ("b1", "beta"), ("b2", "beta")):
        await stage.agent(name, capacity_kind=kind)
    arns = await providers(client, "alpha", "beta")
    made = await a_daemon(client, arns)
    await ended(client, made["deploymentArn"])
    (shown,) = (await client("DescribeDaemon", daemonArn=made["daemonArn"]))["daemon"]["currentRevisions"]
    counts = {each["arn"]: each["runningCount"] for each in shown["capacityProviders"]}
    assert (counts, shown["totalRunningCount"], shown["totalWithoutDaemonCount"]) == (
        {arns[0]: 1, arns[1]: 2}, 3, 0)  # fmt: skip


async def test_an_update_replaces_a_part_of_the_tasks_at_a_time(stage):
    _, client = await ready(stage, agents=4)
    arns = await providers(client, "mine")
    made = await a_daemon(client, arns, deploymentConfiguration={"drainPercent": 25.0})
    first = await ended(client, made["deploymentArn"])
    least = [4]

    def count(change) -> None:
        least[0] = min(least[0], sum(len(agent.running()) for agent in stage.agents.values()))

    stage.apps[0].world.listen(count)
    second = await definition(client, command=["sleep", "9"])
    updated = await client(
        "UpdateDaemon", daemonArn=made["daemonArn"], daemonTaskDefinitionArn=second, capacityProviderArns=arns,
        enableExecuteCommand=True,
    )  # fmt: skip
    shape = await ended(client, updated["deploymentArn"])
    assert least == [3]
    assert [r["arn"] for r in shape["sourceDaemonRevisions"]] == [first["targetDaemonRevision"]["arn"]]
    assert {task["taskDefinitionArn"] for task in await tasks(client)} == {second}
    listed = (await client("ListDaemonDeployments", daemonArn=made["daemonArn"]))["daemonDeployments"]
    assert [each["daemonDeploymentArn"] for each in listed] == [updated["deploymentArn"], made["deploymentArn"]]
    revisions = [each["targetDaemonRevisionArn"] for each in listed]
    shown = (await client("DescribeDaemonRevisions", daemonRevisionArns=revisions))["daemonRevisions"]
    assert [(r["daemonTaskDefinitionArn"][-1], r["enableExecuteCommand"]) for r in shown] == [("2", True), ("1", False)]


async def test_a_revision_that_fails_is_rolled_back(stage):
    _, client = await ready(stage, agents=1, backoff_base_s=0.05)
    arns = await providers(client, "mine")
    made = await a_daemon(client, arns)
    await ended(client, made["deploymentArn"])
    stage.agents["n1"].behave = lambda task: crashes(task) if task.task_definition.endswith(":2") else runs(task)
    second = await definition(client, command=["false"])
    updated = await client(
        "UpdateDaemon", daemonArn=made["daemonArn"], daemonTaskDefinitionArn=second, capacityProviderArns=arns
    )
    shape = await ended(client, updated["deploymentArn"], "ROLLBACK_SUCCESSFUL")
    assert shape["circuitBreaker"]["status"] == "TRIGGERED"
    assert shape["rollback"]["rollbackCapacityProviders"] == arns
    assert [task["taskDefinitionArn"][-2:] for task in await tasks(client)] == [":1"]


async def test_an_alarm_rolls_back_what_is_watched_for_its_bake_time(stage):
    app, client = await ready(stage, agents=2)
    arns = await providers(client, "mine")
    made = await a_daemon(client, arns)
    await ended(client, made["deploymentArn"])
    second = await definition(client, command=["sleep", "9"])
    watching = {"alarms": {"enable": True, "alarmNames": ["errors"]}, "bakeTimeInMinutes": 60}
    updated = await client(
        "UpdateDaemon", daemonArn=made["daemonArn"], daemonTaskDefinitionArn=second, capacityProviderArns=arns,
        deploymentConfiguration=watching,
    )  # fmt: skip
    of_second = lambda: [t.id for t in app.world.tasks.records() if t.task_definition.endswith(":2")]  # noqa: E731
    await until(lambda: {*of_second()} & {t for agent in stage.agents.values() for t in agent.running()})
    assert len(of_second()) == 1
    shape = await deployment(client, updated["deploymentArn"])
    assert (shape["status"], shape["alarms"]["status"]) == ("IN_PROGRESS", "MONITORING")
    assert shape["deploymentConfiguration"] == {"drainPercent": 25.0, **watching}
    monitor = await Store.open(await stage.platform.bus("monitor"), (METRIC_ALARM,))
    await monitor.put(METRIC_ALARM, went_off("errors", shape["startedAt"] + 1.0), "alarm.changed.v1")
    shape = await ended(client, updated["deploymentArn"], "ROLLBACK_SUCCESSFUL")
    assert shape["alarms"] == {"status": "TRIGGERED", "alarmNames": ["errors"], "triggeredAlarmNames": ["errors"]}
    assert {task["taskDefinitionArn"][-2:] for task in await tasks(client)} == {":1"}


async def test_a_node_whose_critical_daemon_has_failed_is_drained_until_it_is_well_again(stage):
    app, client = await ready(stage, agents=2, backoff_base_s=0.05)
    arns = await providers(client, "mine")
    made = await a_daemon(client, arns)
    await ended(client, made["deploymentArn"])
    await client("CreateService", serviceName="web", taskDefinition="web", desiredCount=2, launchType="EC2")
    await client.settled()
    await client(
        "RunTask", taskDefinition="web", count=2, placementStrategy=[{"type": "spread", "field": "instanceId"}]
    )
    await until(lambda: all(len(agent.running()) == 3 for agent in stage.agents.values()))
    ill, other = stage.agents["n1"], stage.agents["n2"]
    ill.behave = hangs

    def of(agent, service):
        return [t for t, s in app.world.tasks_on(agent.node.node) if t.service == service and t.id in agent.running()]

    (watch,) = of(ill, "daemon.watch")
    await ill.end(watch.id, exit_code=1)
    await until(lambda: ill.running() == [] and len(of(other, "web")) == 2)
    stopped = [t for t, _ in app.world.tasks_on("n1") if not t.service]
    assert [(t.stop_code, "critical daemon" in t.stopped_reason) for t in stopped] == [("TerminationNotice", True)]
    assert len(of(other, "")) == 1, "nobody stops what runs on a node that is well"
    arn = (await client("ListContainerInstances", status="DRAINING"))["containerInstanceArns"]
    (shown,) = (await client("DescribeContainerInstances", containerInstances=arn))["containerInstances"]
    assert (shown["ec2InstanceId"], shown["statusReason"]) == (
        "n1", "The node is drained until its critical daemon is well again: watch.")  # fmt: skip
    refused = await client("StartTask", taskDefinition="web", containerInstances=arn)
    assert [failure["reason"] for failure in refused["failures"]] == ["AGENT"]
    ill.behave = runs
    (hanging,) = [
        t for t, s in app.world.tasks_on("n1") if t.desired_status == "RUNNING" and s.last_status == "PENDING"
    ]
    await ill.end(hanging.id, exit_code=1)
    await until(lambda: len(of(ill, "daemon.watch")) == 1)
    assert (await client("ListContainerInstances", status="DRAINING"))["containerInstanceArns"] == []
    assert (await client("StartTask", taskDefinition="web", containerInstances=arn))["failures"] == []


async def test_a_daemon_that_is_not_critical_takes_nothing_with_it_and_the_next_scheduler_knows_who_did(stage):
    app, client = await ready(stage, agents=1)
    arns = await providers(client, "mine")
    made = await a_daemon(client, arns, critical=False)
    await ended(client, made["deploymentArn"])
    ran = (await client("RunTask", taskDefinition="web", launchType="EC2"))["tasks"][0]["taskArn"].rsplit("/", 1)[1]
    agent = stage.agents["n1"]
    await until(lambda: len(agent.running()) == 2)
    agent.behave = hangs
    (watch,) = {*agent.running()} - {ran}
    await agent.end(watch, exit_code=1)
    await until(lambda: len(agent.started) == 3)
    assert agent.running() == [ran] and not app.world.draining(ACCOUNT, REGION, "default", "n1")
    await client("UpdateDaemon", daemonArn=made["daemonArn"], capacityProviderArns=arns,
                 daemonTaskDefinitionArn="watch:1", critical=True)  # fmt: skip
    assert app.world.draining(ACCOUNT, REGION, "default", "n1")
    await stage.kill(app)
    assert (await stage.scheduler("s2")).world.draining(ACCOUNT, REGION, "default", "n1")


async def test_a_daemon_that_is_deleted_takes_its_tasks_with_it(stage):
    _, client = await ready(stage, agents=2)
    arns = await providers(client, "mine")
    made = await a_daemon(client, arns)
    await ended(client, made["deploymentArn"])
    gone = await client("DeleteDaemon", daemonArn=made["daemonArn"])
    assert gone["status"] == "DELETE_IN_PROGRESS"
    await until(lambda: not any(agent.running() for agent in stage.agents.values()))
    await until(lambda: stage.apps[0].world.services.records()[0].status == "INACTIVE")
    assert (await client("ListDaemons"))["daemonSummariesList"] == []
    with pytest.raises(AwsError) as error:
        await client("DescribeDaemon", daemonArn=made["daemonArn"])
    assert error.value.code == "DaemonNotFoundException"
    await a_daemon(client, arns)


async def test_daemons_and_services_are_listed_apart(stage):
    _, client = await ready(stage)
    arns = await providers(client, "mine")
    made = await a_daemon(client, arns)
    await client("CreateService", serviceName="watch", taskDefinition="web", desiredCount=0)
    assert [d["daemonArn"] for d in (await client("ListDaemons"))["daemonSummariesList"]] == [made["daemonArn"]]
    assert (await client("ListDaemons", capacityProviderArns=[f"{ARN}:capacity-provider/x"]))[
        "daemonSummariesList"] == []  # fmt: skip
    assert (await client("ListServices"))["serviceArns"] == [f"{ARN}:service/default/watch"]
    shown = await client("DescribeServices", services=["daemon.watch", f"{ARN}:service/default/daemon.watch"])
    assert [failure["reason"] for failure in shown["failures"]] == ["MISSING", "MISSING"]
    families = await client("ListTaskDefinitions")
    assert families["taskDefinitionArns"] == [f"{ARN}:task-definition/web:1"]


async def test_daemon_task_definitions_are_registered_shown_listed_and_deleted(stage):
    _, client = await ready(stage)
    first, second = await definition(client), await definition(client, command=["b"])
    other = (await client("RegisterDaemonTaskDefinition", family="other", containerDefinitions=[CONTAINER]))[
        "daemonTaskDefinitionArn"]  # fmt: skip
    shown = (await client("DescribeDaemonTaskDefinition", daemonTaskDefinition="watch"))["daemonTaskDefinition"]
    assert (shown["daemonTaskDefinitionArn"], shown["family"], shown["revision"], shown["status"]) == (
        second, "watch", 2, "ACTIVE")  # fmt: skip
    assert shown["containerDefinitions"][0]["command"] == ["b"]

    async def listed(**filters):
        answer = await client("ListDaemonTaskDefinitions", **filters)
        return [each["arn"] for each in answer["daemonTaskDefinitions"]]

    assert await listed() == [other, first, second]
    assert await listed(family="watch", sort="DESC") == [second, first]
    assert await listed(revision="LAST_REGISTERED") == [other, second]
    await client("DeleteDaemonTaskDefinition", daemonTaskDefinition="watch:1")
    assert await listed(familyPrefix="wa") == [second]
    assert await listed(status="DELETE_IN_PROGRESS") == [first]


async def test_a_daemon_that_shares_namespaces_shares_its_nodes(stage):
    app, client = await ready(stage)
    shared = {"family": "shares", "containerDefinitions": [CONTAINER], "pidMode": "shared", "ipcMode": "none"}
    await client("RegisterDaemonTaskDefinition", **shared)
    shown = (await client("DescribeDaemonTaskDefinition", daemonTaskDefinition="shares"))["daemonTaskDefinition"]
    assert (shown["pidMode"], shown["ipcMode"]) == ("shared", "none")
    (kept,) = app.world.definitions.records(ACCOUNT, REGION, "daemon.shares")
    assert (kept.definition["pidMode"], kept.definition.get("ipcMode")) == ("host", None)


@pytest.mark.parametrize(
    ("operation", "members", "code", "said"),
    [
        ("CreateDaemon", {"daemonName": "a/b"}, "InvalidParameterException", "Invalid daemon name."),
        ("CreateDaemon", {"capacityProviderArns": []}, "InvalidParameterException", "between 1 and 20"),
        ("CreateDaemon", {"capacityProviderArns": ["FARGATE"]}, "InvalidParameterException", "FARGATE"),
        ("CreateDaemon", {"capacityProviderArns": ["none"]}, "InvalidParameterException", "'none' was not found"),
        ("CreateDaemon", {"daemonTaskDefinitionArn": "gone"}, "ClientException", "does not exist"),
        ("CreateDaemon", {"daemonTaskDefinitionArn": f"{ARN}:task-definition/web:1"}, "ClientException", "invalid"),
        ("CreateDaemon", {"deploymentConfiguration": {"bakeTimeInMinutes": 1441}}, "InvalidParameterException", "1440"),
        ("CreateDaemon", {"deploymentConfiguration": {"alarms": {"enable": True}}}, "InvalidParameterException",
         "alarmNames"),
        ("UpdateDaemon", {"daemonArn": f"{ARN}:daemon/default/none"}, "DaemonNotFoundException", "not found"),
        ("UpdateDaemon", {"daemonArn": "none"}, "InvalidParameterException", "invalid"),
        ("DeleteDaemon", {"daemonArn": f"{ARN}:daemon/default/none"}, "DaemonNotFoundException", "not found"),
        ("DescribeDaemon", {"daemonArn": f"{ARN}:service/default/web"}, "InvalidParameterException", "invalid"),
        ("RegisterDaemonTaskDefinition", {"family": "a.b"}, "ClientException", "Family"),
        ("DeleteDaemonTaskDefinition", {"daemonTaskDefinition": "watch"}, "ClientException", "revision"),
    ],
)  # fmt: skip
async def test_what_makes_no_sense_is_refused_naming_what(stage, operation, members, code, said):
    _, client = await ready(stage)
    arns = await providers(client, "mine")
    reference = await definition(client)
    defaults = {
        "CreateDaemon": {"daemonName": "d", "daemonTaskDefinitionArn": reference, "capacityProviderArns": arns},
        "UpdateDaemon": {"daemonTaskDefinitionArn": reference, "capacityProviderArns": arns},
        "RegisterDaemonTaskDefinition": {"family": "d", "containerDefinitions": [CONTAINER]},
    }
    with pytest.raises(AwsError) as error:
        await client(operation, **{**defaults.get(operation, {}), **members})
    assert error.value.code == code
    assert said in error.value.message
