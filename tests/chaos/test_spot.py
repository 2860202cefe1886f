"""Spot capacity is taken back, and the agent of the node is killed in the middle of it: nothing is lost or doubled."""

import os

import pytest

from tests.builders.images import busybox_image
from tests.builders.platform import node_process, processes, roadstead, sleeper, until

ZONE = "us-east-1c"
NODE = f"node-{ZONE}"
SLEEP = "86413"
SPOT = {
    "capacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT", "weight": 1}],
    "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-local"]}},
}


@pytest.fixture
def platform():
    if os.geteuid() != 0:
        pytest.skip("real containers take root")
    with roadstead(runtime="oci", zones=2) as running:
        running.client("ecs").create_cluster(clusterName="spot")
        yield running


def spot_node(platform):
    """A node of kind FARGATE_SPOT as a process."""
    return node_process(platform.data, ZONE, ROADSTEAD_AGENT_CAPACITY_KIND="FARGATE_SPOT")


def tasks(platform, status: str) -> list[dict]:
    ecs = platform.client("ecs")
    arns = ecs.list_tasks(cluster="spot", serviceName="naps", desiredStatus=status)["taskArns"]
    return ecs.describe_tasks(cluster="spot", tasks=arns)["tasks"] if arns else []


def zones_of_running(platform) -> list[str]:
    return sorted(t["availabilityZone"][-1] for t in tasks(platform, "RUNNING") if t["lastStatus"] == "RUNNING")


def test_an_agent_that_is_killed_in_the_middle_of_an_interruption_ends_it_when_it_is_back(platform):
    uri = platform.push(busybox_image(), "busybox")
    ecs = platform.client("ecs")
    # A first process without a handler does not hear SIGTERM: only the end of the notice ends it.
    ecs.register_task_definition(**sleeper(uri, "sleep", SLEEP, stopTimeout=120))
    with spot_node(platform) as node:
        ecs.create_service(cluster="spot", serviceName="naps", taskDefinition="sleeper", desiredCount=2, **SPOT)
        until(lambda: zones_of_running(platform) == ["c", "c"])  # a node of the very kind comes first
        before = set(processes(platform.data, "sleep", SLEEP))
        printed = platform.command("spot", "interrupt", "--node", NODE, "--notice", "8")
        assert printed.count("is interrupted") == 2
        until(lambda: len(tasks(platform, "STOPPED")) == 2)
        node.kill()
    until(lambda: len(here := zones_of_running(platform)) == 2 and "c" not in here, 60)
    with spot_node(platform):
        until(lambda: not set(processes(platform.data, "sleep", SLEEP)) & before, 60)
        until(lambda: [t["lastStatus"] for t in tasks(platform, "STOPPED")] == ["STOPPED"] * 2)
        ended = {(t["stopCode"], t["stoppedReason"]) for t in tasks(platform, "STOPPED")}
        assert ended == {("SpotInterruption", "Your Spot Task was interrupted.")}
        assert len(processes(platform.data, "sleep", SLEEP)) == 2
        assert "c" not in zones_of_running(platform)
        platform.command("spot", "release", "--node", NODE)
        ecs.update_service(cluster="spot", service="naps", desiredCount=3)
        until(lambda: "c" in zones_of_running(platform))
    service = ecs.describe_services(cluster="spot", services=["naps"])["services"][0]
    assert sum("Spot interruption notice" in event["message"] for event in service["events"]) == 2


def test_a_task_that_hears_sigterm_ends_at_once_with_its_own_exit_code(platform):
    uri = platform.push(busybox_image(), "busybox")
    ecs = platform.client("ecs")
    listens = "trap 'exit 7' TERM; while :; do sleep 0.1; done"
    ecs.register_task_definition(**sleeper(uri, "sh", "-c", listens, stopTimeout=120))
    arn = ecs.run_task(cluster="spot", taskDefinition="sleeper", **SPOT)["tasks"][0]["taskArn"]
    described = lambda: ecs.describe_tasks(cluster="spot", tasks=[arn])["tasks"][0]  # noqa: E731
    until(lambda: described()["lastStatus"] == "RUNNING")
    platform.command("spot", "interrupt", arn)
    until(lambda: described()["lastStatus"] == "STOPPED")
    task = described()
    assert (task["stopCode"], task["containers"][0]["exitCode"]) == ("SpotInterruption", 7)
