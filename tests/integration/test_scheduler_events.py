"""What EventBridge would be told of ECS, on NATS: derived from the event log, once a change."""

import asyncio

import msgspec

from contracts.records.events import AwsEvent
from contracts.subjects import AWS_EVENTS_STREAM, aws_event
from services.scheduler.decisions import names
from services.shared.tails import Tail
from tests.builders.ecs import ACCOUNT, REGION
from tests.builders.waiting import until
from tests.fakes.agent import crashes
from tests.integration.test_scheduler import ready, stage, web_service

__all__ = ["stage"]

SERVICE_ARN = f"arn:aws:ecs:{REGION}:{ACCOUNT}:service/default/web"
CLUSTER_ARN = f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/default"


class Told:
    """Everything that is told, in the order of the stream."""

    def __init__(self) -> None:
        self.events: list[AwsEvent] = []

    @classmethod
    async def listen(cls, platform, **filters) -> "Told":
        told = cls()
        bus = await platform.bus("events")
        told.tail = Tail(bus, AWS_EVENTS_STREAM, aws_event(**filters), told._take)
        await told.tail.start(1)
        told.bus = bus
        return told

    async def flowing(self) -> None:
        """Return when NATS copies the scheduler's and the agents' changes into the log: fresh streams take a moment,
        and what is changed twice before is copied once."""
        async with asyncio.timeout(30):
            for owner in ("scheduler", "agent"):
                copied = {}
                while not copied:
                    info = await self.bus.api("STREAM.INFO.EVENTS", {"subjects_filter": f"events.{owner}.>"})
                    copied = info["state"].get("subjects")
                    await asyncio.sleep(0.01)

    def _take(self, subject: str, data: bytes, sequence: int) -> None:
        self.events.append(msgspec.json.decode(data, type=AwsEvent))

    def details(self, detail_type: str) -> list[dict]:
        return [event.detail for event in self.events if event.detail_type == detail_type]

    def statuses(self) -> dict[int, str]:
        """What the tasks were, by the version of their detail: which tells the order, not the order of the events."""
        return {d["version"]: d["lastStatus"] for d in self.details("ECS Task State Change")}

    def named(self) -> list[str]:
        return [event.detail["eventName"] for event in self.events if "eventName" in event.detail]


async def test_a_task_is_told_of_from_its_placing_to_its_end_as_describe_tasks_shows_it(stage):
    told = await Told.listen(stage.platform, source="aws.ecs", detail_type="ECS Task State Change")
    _, client = await ready(stage)
    await told.flowing()
    (task,) = (await client("RunTask", taskDefinition="web", startedBy="me"))["tasks"]
    await until(lambda: told.statuses() == {1: "PROVISIONING", 2: "RUNNING"})
    shown = (await client("DescribeTasks", tasks=[task["taskArn"]]))["tasks"][0]
    event = next(event for event in told.events if event.detail["version"] == 2)
    assert (event.source, event.account, event.region, event.version) == ("aws.ecs", ACCOUNT, REGION, "0")
    assert event.resources == [task["taskArn"]]
    assert event.detail["version"] == shown["version"] == 2
    assert event.detail["startedAt"].endswith("Z")
    assert set(shown) - {"tags"} - {k for k, v in shown.items() if v is None} == set(event.detail) - {"updatedAt"}
    same = ("taskArn", "clusterArn", "taskDefinitionArn", "group", "launchType", "cpu", "memory", "startedBy")
    assert {name: event.detail[name] for name in same} == {name: shown[name] for name in same}
    await client("StopTask", task=task["taskArn"], reason="enough")
    await until(lambda: told.statuses() == {1: "PROVISIONING", 2: "RUNNING", 3: "RUNNING", 4: "STOPPED"})
    last = next(event.detail for event in told.events if event.detail["version"] == 4)
    assert (last["stopCode"], last["stoppedReason"], last["desiredStatus"]) == ("UserInitiated", "enough", "STOPPED")


async def test_a_service_is_told_of_from_its_deployment_to_its_steady_state(stage):
    told = await Told.listen(stage.platform)
    _, client = await ready(stage)
    await told.flowing()
    await web_service(client, 2)
    await until(lambda: "SERVICE_STEADY_STATE" in told.named())
    assert told.named() == ["SERVICE_DEPLOYMENT_IN_PROGRESS", "SERVICE_DEPLOYMENT_COMPLETED", "SERVICE_STEADY_STATE"]
    begun, done, steady = (event for event in told.events if "eventName" in event.detail)
    (deployment,) = (await client.service())["deployments"]
    assert {begun.detail_type, done.detail_type} == {"ECS Deployment State Change"}
    assert done.detail == {
        "eventType": "INFO",
        "eventName": "SERVICE_DEPLOYMENT_COMPLETED",
        "deploymentId": deployment["id"],
        "updatedAt": done.detail["updatedAt"],
        "reason": f"ECS deployment {deployment['id']} completed.",
    }
    assert steady.detail_type == "ECS Service Action"
    assert steady.detail == {
        "eventType": "INFO",
        "eventName": "SERVICE_STEADY_STATE",
        "clusterArn": CLUSTER_ARN,
        "createdAt": steady.detail["createdAt"],
    }
    assert {tuple(event.resources) for event in (begun, done, steady)} == {(SERVICE_ARN,)}


async def test_a_service_without_a_place_says_which_instance_came_nearest_and_what_it_lacks(stage):
    told = await Told.listen(stage.platform, detail_type="ECS Service Action")
    _, client = await ready(stage)
    await told.flowing()
    await client("RegisterTaskDefinition", family="huge", cpu="256", memory="90000", containerDefinitions=[
        {"name": "main", "image": "busybox"}])  # fmt: skip
    await client("CreateService", serviceName="web", taskDefinition="huge", desiredCount=1)
    await until(lambda: told.events)
    detail = told.events[0].detail
    instance = f"arn:aws:ecs:{REGION}:{ACCOUNT}:container-instance/default/{names.container_instance_id('n1')}"
    assert detail == {
        "eventType": "ERROR",
        "eventName": "SERVICE_TASK_PLACEMENT_FAILURE",
        "clusterArn": CLUSTER_ARN,
        "containerInstanceArns": [instance],
        "reason": "RESOURCE:MEMORY",
        "createdAt": detail["createdAt"],
    }


async def test_a_crash_loop_is_told_as_a_warning_and_a_broken_circuit_as_an_error(stage):
    told = await Told.listen(stage.platform)
    _, client = await ready(stage, backoff_base_s=0.05)
    await told.flowing()
    stage.agents["n1"].behave = crashes
    await web_service(client, 1)
    await until(lambda: "SERVICE_TASK_START_IMPAIRED" in told.named())
    warned = next(e.detail for e in told.events if e.detail.get("eventName") == "SERVICE_TASK_START_IMPAIRED")
    assert warned["eventType"] == "WARN"
    breaker = {"deploymentCircuitBreaker": {"enable": True, "rollback": False}}
    await client("UpdateService", service="web", forceNewDeployment=True, deploymentConfiguration=breaker)
    await until(lambda: "SERVICE_DEPLOYMENT_FAILED" in told.named())
    failed = next(e.detail for e in told.events if e.detail.get("eventName") == "SERVICE_DEPLOYMENT_FAILED")
    assert (failed["eventType"], failed["reason"]) == (
        "ERROR", "ECS deployment circuit breaker: tasks failed to start.")  # fmt: skip


async def test_a_node_that_registers_or_is_drained_is_told_as_a_container_instance(stage):
    told = await Told.listen(stage.platform, detail_type="ECS Container Instance State Change")
    _, client = await ready(stage)
    await told.flowing()
    await client("CreateCluster", clusterName="default")
    (arn,) = (await client("ListContainerInstances"))["containerInstanceArns"]
    await client("UpdateContainerInstancesState", containerInstances=[arn], status="DRAINING")
    await until(lambda: [event.detail["status"] for event in told.events][-1:] == ["DRAINING"])
    (shown,) = (await client("DescribeContainerInstances", containerInstances=[arn]))["containerInstances"]
    detail = told.events[-1].detail
    assert told.events[-1].resources == [arn]
    assert (detail["clusterArn"], detail["version"]) == (CLUSTER_ARN, shown["version"])
    assert (detail["ec2InstanceId"], detail["agentConnected"]) == ("n1", True)
    await stage.agent("n2")
    await until(lambda: told.events[-1].detail["ec2InstanceId"] == "n2")
    assert told.events[-1].detail["status"] == "ACTIVE"


async def test_a_node_that_falls_silent_and_speaks_again_is_told_as_one_whose_agent_is_not_connected(stage):
    told = await Told.listen(stage.platform, detail_type="ECS Container Instance State Change")
    _, client = await ready(stage, node_silence_s=2.0)
    await client("CreateCluster", clusterName="default")
    stage.agents["n1"].silence()
    await until(lambda: [event.detail["agentConnected"] for event in told.events][-1:] == [False])
    stage.agents["n1"].speak()
    await until(lambda: told.events[-1].detail["agentConnected"])
    assert {event.detail["ec2InstanceId"] for event in told.events} == {"n1"}


async def test_what_happened_while_no_scheduler_ran_is_told_once_by_the_next(stage):
    told = await Told.listen(stage.platform, detail_type="ECS Task State Change")
    app, client = await ready(stage)
    await told.flowing()
    (task,) = (await client("RunTask", taskDefinition="web"))["tasks"]
    await until(lambda: len(told.events) == 2)
    await stage.kill(app)
    await stage.agents["n1"].end(names.last_part(task["taskArn"]), 3)
    await stage.scheduler("s2")
    await until(lambda: told.events[-1].detail["lastStatus"] == "STOPPED")
    assert told.events[-1].detail["containers"][0]["exitCode"] == 3
    assert len({event.id for event in told.events}) == len(told.events)


async def test_two_schedulers_tell_of_each_change_once(stage):
    told = await Told.listen(stage.platform)
    _, client = await ready(stage)
    await told.flowing()
    await stage.scheduler("s2")
    await web_service(client, 4)
    await until(lambda: "SERVICE_STEADY_STATE" in told.named())
    running = lambda: [d for d in told.details("ECS Task State Change") if d["lastStatus"] == "RUNNING"]  # noqa: E731
    await until(lambda: len(running()) == 4)
    assert len({detail["taskArn"] for detail in running()}) == 4
    assert told.named().count("SERVICE_STEADY_STATE") == 1


async def test_a_change_that_is_told_again_has_the_same_id_and_is_refused(stage):
    app, client = await ready(stage)
    told = await Told.listen(stage.platform, detail_type="ECS Task State Change")
    await told.flowing()
    await client("RunTask", taskDefinition="web")
    await until(lambda: len(told.events) == 2)
    subject = aws_event(ACCOUNT, REGION, "aws.ecs", "ECS Task State Change")
    event = told.events[-1]
    await asyncio.gather(
        *(app.host.bus.publish(subject, msgspec.json.encode(event), {"Nats-Msg-Id": event.id}) for _ in range(2))
    )
    await client("RunTask", taskDefinition="web")
    await until(lambda: len(told.events) == 4)
