"""The main job, as docs/flow.md tells it: pushed, run, served, killed, replaced, rolled out; seen in one trace."""

import os
import signal
import subprocess
import urllib.error
import urllib.request

import pytest

from tests.builders.images import File, busybox_image
from tests.builders.platform import FARGATE, skopeo_push, until

CLUSTER = "flow"
SERVE = "#!/bin/sh\necho starting version $VERSION\nexec httpd -f -p 8080 -h /www\n"


def shop(version: str):
    files = {"/www/index.html": File(f"version {version}"), "/serve": File(SERVE, mode=0o755)}
    return busybox_image(files, command=["/serve"], environment={"VERSION": version})


def definition(uri: str) -> dict:
    logs = {
        "awslogs-group": "/flow/shop",
        "awslogs-region": "us-east-1",
        "awslogs-stream-prefix": "shop",
        "awslogs-create-group": "true",
    }
    web = {
        "name": "web",
        "image": uri,
        "essential": True,
        "stopTimeout": 2,
        "portMappings": [{"containerPort": 8080}],
        "logConfiguration": {"logDriver": "awslogs", "options": logs},
    }
    return {
        "family": "shop",
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "256",
        "memory": "512",
        "containerDefinitions": [web],
    }


def address(task: dict) -> str:
    return next(d["value"] for a in task["attachments"] for d in a["details"] if d["name"] == "privateIPv4Address")


def page(task: dict) -> str:
    """What it serves; RUNNING is the container, its server listens a moment later."""

    def fetched() -> str:
        try:
            with urllib.request.urlopen(f"http://{address(task)}:8080/", timeout=3) as answer:
                return answer.read().decode()
        except urllib.error.URLError:
            return ""

    return until(fetched)


@pytest.fixture(scope="module")
def ecs(platform):
    client = platform.client("ecs")
    client.create_cluster(clusterName=CLUSTER)
    return client


def running(ecs) -> list[dict]:
    arns = ecs.list_tasks(cluster=CLUSTER, serviceName="shop")["taskArns"]
    tasks = ecs.describe_tasks(cluster=CLUSTER, tasks=arns)["tasks"] if arns else []
    return [task for task in tasks if task["lastStatus"] == "RUNNING"]


@pytest.fixture(scope="module")
def service(platform, ecs):
    uri = skopeo_push(platform, shop("1"), "shop")
    ecs.register_task_definition(**definition(uri))
    ecs.create_service(
        cluster=CLUSTER,
        serviceName="shop",
        taskDefinition="shop",
        desiredCount=3,
        **FARGATE,
    )
    waiter = ecs.get_waiter("services_stable")
    waiter.wait(cluster=CLUSTER, services=["shop"], WaiterConfig={"Delay": 1, "MaxAttempts": 40})
    yield "shop"
    ecs.delete_service(cluster=CLUSTER, service="shop", force=True)
    inactive = ecs.get_waiter("services_inactive")
    inactive.wait(cluster=CLUSTER, services=["shop"], WaiterConfig={"Delay": 1, "MaxAttempts": 40})


def test_what_was_pushed_runs_spread_over_the_zones_and_serves(service, ecs):
    tasks = until(lambda: running(ecs))
    assert len({task["availabilityZone"] for task in tasks}) == 3
    assert {page(task) for task in tasks} == {"version 1"}


def test_tasks_reach_each_other_across_zones(service, ecs, platform, busybox):
    target = address(running(ecs)[0])
    ecs.register_task_definition(
        family="caller",
        networkMode="awsvpc",
        requiresCompatibilities=["FARGATE"],
        cpu="256",
        memory="512",
        containerDefinitions=[
            {
                "name": "main",
                "image": busybox,
                "essential": True,
                "command": ["wget", "-q", "-O", "/dev/null", f"http://{target}:8080/"],
            }
        ],
    )
    task = ecs.run_task(cluster=CLUSTER, taskDefinition="caller", **FARGATE)["tasks"][0]["taskArn"]

    def ended():
        found = ecs.describe_tasks(cluster=CLUSTER, tasks=[task])["tasks"][0]
        return found if found["lastStatus"] == "STOPPED" else None

    assert until(ended)["containers"][0]["exitCode"] == 0


def test_a_killed_container_is_replaced(service, ecs):
    before = {task["taskArn"]: task for task in until(lambda: len(running(ecs)) == 3 and running(ecs))}
    victim = next(iter(before.values()))
    pids = subprocess.run(["pgrep", "-f", "httpd -f -p 8080"], capture_output=True, text=True, check=True).stdout
    ip = address(victim)
    for pid in map(int, pids.split()):
        with open(f"/proc/{pid}/net/fib_trie") as file:
            if ip in file.read():
                os.kill(pid, signal.SIGKILL)
    new = until(lambda: [task for task in running(ecs) if task["taskArn"] not in before])
    assert page(new[0]) == "version 1"
    dead = ecs.describe_tasks(cluster=CLUSTER, tasks=[victim["taskArn"]])["tasks"][0]
    assert (dead["lastStatus"], dead["stopCode"], dead["containers"][0]["exitCode"]) == (
        "STOPPED",
        "EssentialContainerExited",
        137,
    )


def test_a_new_version_is_rolled_out_with_enough_tasks_all_the_time(service, ecs, platform):
    ecs.register_task_definition(**definition(skopeo_push(platform, shop("2"), "shop", "2")))
    ecs.update_service(
        cluster=CLUSTER,
        service="shop",
        taskDefinition="shop",
        deploymentConfiguration={"minimumHealthyPercent": 100, "maximumPercent": 200},
    )
    fewest = 3

    def done():
        nonlocal fewest
        fewest = min(fewest, len(running(ecs)))
        found = ecs.describe_services(cluster=CLUSTER, services=["shop"])["services"][0]
        return len(found["deployments"]) == 1 and found["runningCount"] == 3

    until(done)
    assert (fewest, {page(task) for task in running(ecs)}) == (3, {"version 2"})


def test_its_output_is_in_cloudwatch_logs(service, platform):
    logs = platform.client("logs")

    def first_lines():
        streams = logs.describe_log_streams(logGroupName="/flow/shop")["logStreams"]
        events = [
            logs.get_log_events(logGroupName="/flow/shop", logStreamName=s["logStreamName"], startFromHead=True)[
                "events"
            ]
            for s in streams
        ]
        found = {e[0]["message"] for e in events if e}
        return found if {"starting version 1", "starting version 2"} <= found else None

    assert until(first_lines) == {"starting version 1", "starting version 2"}


def test_a_task_is_one_trace_from_the_call_to_the_container(service, ecs, platform, busybox):
    trace = os.urandom(16).hex()

    def carry(request, **_):
        request.headers["traceparent"] = f"00-{trace}-{os.urandom(8).hex()}-01"

    client = platform.client("ecs")
    client.meta.events.register("before-send.ecs.RunTask", carry)
    task = client.run_task(cluster=CLUSTER, taskDefinition="shop", **FARGATE)["tasks"][0]["taskArn"]
    ecs.get_waiter("tasks_running").wait(cluster=CLUSTER, tasks=[task], WaiterConfig={"Delay": 1, "MaxAttempts": 20})

    def whole():
        text = platform.command("trace", trace, check=False)
        return text if "scheduler: " in text and "agent: " in text and "registry: " in text else None

    assert "ecs.RunTask" in until(whole)
    client.stop_task(cluster=CLUSTER, task=task)
