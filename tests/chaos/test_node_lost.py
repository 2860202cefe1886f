"""A node in a process of its own: it joins, it is lost with all that ran on it, it comes back."""

import os
import signal
import subprocess
from types import SimpleNamespace

import pytest

from services.testing.platform import CLI
from tests.builders.images import busybox_image
from tests.builders.platform import FARGATE, ROOT, node_process, processes, roadstead, sleeper, until

ZONE = "us-east-1c"
SLEEP = "86409"


@pytest.fixture
def platform():
    if os.geteuid() != 0:
        pytest.skip("real containers take root")
    with roadstead(runtime="oci", zones=2) as running:
        running.client("ecs").create_cluster(clusterName="zones")
        yield running


def joined(platform):
    """A node of zone c as a process."""
    return node_process(platform.data, ZONE)


def tasks(platform, **which):
    ecs = platform.client("ecs")
    arns = ecs.list_tasks(cluster="zones", serviceName="naps", **which)["taskArns"]
    return ecs.describe_tasks(cluster="zones", tasks=arns)["tasks"] if arns else []


def zones_of_running(platform) -> list[str]:
    return sorted(t["availabilityZone"][-1] for t in tasks(platform) if t["lastStatus"] == "RUNNING")


def test_a_zone_that_is_lost_has_its_tasks_moved_and_serves_again_when_it_is_back(platform):
    uri = platform.push(busybox_image(), "busybox")
    ecs = platform.client("ecs")
    ecs.register_task_definition(**sleeper(uri, "sleep", SLEEP))
    with joined(platform) as node:
        ecs.create_service(cluster="zones", serviceName="naps", taskDefinition="sleeper", desiredCount=3, **FARGATE)
        until(lambda: zones_of_running(platform) == ["a", "b", "c"])
        before = set(processes(platform.data, "sleep", SLEEP))
        node.kill()
        until(lambda: len(here := zones_of_running(platform)) == 3 and "c" not in here, 60)
        (lost,) = [t for t in tasks(platform, desiredStatus="STOPPED") if t["availabilityZone"] == ZONE]
        assert lost["stoppedReason"]
        assert len(set(processes(platform.data, "sleep", SLEEP)) & before) == 3  # nobody could stop what runs there
    with joined(platform):
        # It finds that its task was given up.
        until(lambda: len(set(processes(platform.data, "sleep", SLEEP)) & before) == 2)
        ecs.update_service(cluster="zones", service="naps", desiredCount=4)
        until(lambda: "c" in zones_of_running(platform))


def test_a_node_of_the_platform_s_own_or_one_that_runs_is_refused(platform):
    def refused(*options) -> str:
        run = subprocess.run(
            [*CLI, "node", "--data", str(platform.data), *options],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 1
        return run.stderr

    assert "own process" in refused("--zone", "us-east-1a")
    assert "small letters" in refused("--zone", "us-east-1c", "--name", "../x")
    with joined(platform):
        assert "runs already" in refused("--zone", ZONE)


def test_down_with_tasks_ends_the_node_processes_and_what_they_ran(platform):
    uri = platform.push(busybox_image(), "busybox")
    ecs = platform.client("ecs")
    ecs.register_task_definition(**sleeper(uri, "sleep", SLEEP))
    with joined(platform) as node:
        ecs.create_service(cluster="zones", serviceName="naps", taskDefinition="sleeper", desiredCount=3, **FARGATE)
        until(lambda: zones_of_running(platform) == ["a", "b", "c"])
        platform.command("down", "--tasks")
        assert node.wait(30) in (0, -signal.SIGTERM)
    assert processes(platform.data, "sleep", SLEEP) == []


def test_an_ephemeral_platform_takes_the_nodes_that_joined_it_along(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("real containers take root")
    anywhere = ("--port", "0", "--registry-port", "0", "--https-port", "0", "--zones", "1", "--runtime", "oci")
    up = subprocess.Popen(
        [*CLI, "up", "--data", str(tmp_path), "--ephemeral", *anywhere], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert "Roadstead is up" in up.stdout.readline()
        with joined(SimpleNamespace(data=tmp_path)) as node:
            up.send_signal(signal.SIGTERM)
            assert (up.wait(60), node.wait(60)) == (0, 0)
    finally:
        up.kill()
        up.wait()
        up.stdout.close()
