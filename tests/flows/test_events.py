"""What EventBridge would be told of a task, told to a webhook by a platform that really runs the task."""

import json
import time

import pytest

from tests.builders.platform import FARGATE, sleeper, until
from tests.builders.webhooks import Target

CLUSTER = "told"
PATTERN = {"source": ["aws.ecs"], "detail": {"clusterArn": [{"suffix": f"cluster/{CLUSTER}"}]}}


@pytest.fixture(scope="module")
def ecs(platform, busybox):
    client = platform.client("ecs")
    client.create_cluster(clusterName=CLUSTER)
    client.register_task_definition(**{**sleeper(busybox), "family": "told"})
    return client


@pytest.fixture
def target(platform):
    target = Target()
    yield target
    platform.command("webhooks", "remove", "flow")
    target.close()


def states(target, task) -> list[str]:
    told = [e["detail"] for e in target.taken() if e["resources"] == [task]]
    return [detail["lastStatus"] for detail in sorted(told, key=lambda detail: detail["version"])]


def test_a_webhook_is_told_that_a_task_runs_and_that_it_was_stopped(platform, ecs, target):
    said = platform.command("webhooks", "add", "flow", target.url, "--pattern", json.dumps(PATTERN))
    secret = said.split()[-1]
    began = time.time()
    (task,) = ecs.run_task(cluster=CLUSTER, taskDefinition="told", startedBy="flow", **FARGATE)["tasks"]
    arn = task["taskArn"]
    until(lambda: "RUNNING" in states(target, arn))
    shown = ecs.describe_tasks(cluster=CLUSTER, tasks=[arn])["tasks"][0]
    told = next(e for e in target.taken() if e["resources"] == [arn] and e["detail"]["lastStatus"] == "RUNNING")
    same = ("taskArn", "taskDefinitionArn", "startedBy", "availabilityZone", "cpu", "memory", "launchType")
    assert {name: told["detail"][name] for name in same} == {name: shown[name] for name in same}
    (container,) = told["detail"]["containers"]
    assert container["runtimeId"] == shown["containers"][0]["runtimeId"]
    (attachment,) = told["detail"]["attachments"]
    address = shown["containers"][0]["networkInterfaces"][0]["privateIpv4Address"]
    assert (attachment["type"], {"name": "privateIPv4Address", "value": address} in attachment["details"]) == (
        "eni", True)  # fmt: skip
    assert told["time"] >= time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began))
    ecs.stop_task(cluster=CLUSTER, task=arn, reason="seen enough")
    until(lambda: "STOPPED" in states(target, arn))
    last = next(e for e in target.taken() if e["resources"] == [arn] and e["detail"]["lastStatus"] == "STOPPED")
    assert (last["detail"]["stopCode"], last["detail"]["stoppedReason"]) == ("UserInitiated", "seen enough")
    assert "exitCode" in last["detail"]["containers"][0]
    assert all(one.signed_with(secret) for one in target.received)
    assert f"flow (000000000000, {platform.region}): {target.url}" in platform.command("webhooks", "list")


def test_the_command_line_shows_what_matches_a_pattern(platform, ecs, target):
    platform.command("webhooks", "add", "flow", target.url)
    (task,) = ecs.run_task(cluster=CLUSTER, taskDefinition="told", **FARGATE)["tasks"]
    ecs.stop_task(cluster=CLUSTER, task=task["taskArn"])
    pattern = json.dumps({"resources": [task["taskArn"]], "detail": {"lastStatus": ["STOPPED"]}})
    until(lambda: platform.command("events", "--pattern", pattern), every=0.2)
    lines = platform.command("events", "--lines", "1", "--pattern", pattern).splitlines()
    assert [json.loads(line)["detail"]["taskArn"] for line in lines] == [task["taskArn"]]
