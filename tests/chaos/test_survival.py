"""What must survive: the platform killed at any moment, NATS away, two writers at once."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import botocore.exceptions
import pytest

from tests.builders.images import busybox_image
from tests.builders.platform import FARGATE, processes, roadstead, sleeper, until
from tests.builders.processes import stall

CLUSTER = "chaos"
RUN = Path("/run/roadstead")


@pytest.fixture
def platform():
    if os.geteuid() != 0:
        pytest.skip("real containers take root")
    with roadstead(runtime="oci", zones=2) as running:
        running.client("ecs").create_cluster(clusterName=CLUSTER)
        yield running


def serve(platform, count: int, seconds: str) -> None:
    """A service of `count` tasks that sleep `seconds` (which tells their processes apart)."""
    uri = platform.push(busybox_image(), "busybox")
    ecs = platform.client("ecs")
    ecs.register_task_definition(**sleeper(uri, "sleep", seconds))
    ecs.create_service(cluster=CLUSTER, serviceName="naps", taskDefinition="sleeper", desiredCount=count, **FARGATE)
    until(lambda: len(running(ecs)) == count)


def running(ecs) -> set[str]:
    arns = ecs.list_tasks(cluster=CLUSTER, serviceName="naps")["taskArns"]
    tasks = ecs.describe_tasks(cluster=CLUSTER, tasks=arns)["tasks"] if arns else []
    return {task["taskArn"] for task in tasks if task["lastStatus"] == "RUNNING"}


def test_tasks_that_survived_the_platform_are_adopted_and_those_that_did_not_replaced(platform):
    serve(platform, 4, "86401")
    before, pids = running(platform.client("ecs")), processes(platform.data, "sleep", "86401")
    platform.kill()
    os.kill(pids[0], signal.SIGKILL)
    until(lambda: sorted(processes(platform.data, "sleep", "86401")) == sorted(pids[1:]))
    platform.up("--zones", "2", "--runtime", "oci")
    ecs = platform.client("ecs")
    until(lambda: len(now := running(ecs)) == 4 and len(now & before) == 3)  # at first it knows not who died meanwhile
    assert set(pids[1:]) <= set(processes(platform.data, "sleep", "86401"))
    dead = ecs.list_tasks(cluster=CLUSTER, serviceName="naps", desiredStatus="STOPPED")["taskArns"]
    (task,) = ecs.describe_tasks(cluster=CLUSTER, tasks=dead)["tasks"]
    assert (task["taskArn"] in before, task["containers"][0]["exitCode"]) == (True, 137)


def test_a_task_that_shares_processes_survives_the_platform_and_leaves_nothing(platform):
    uri, ecs = platform.push(busybox_image(), "busybox"), platform.client("ecs")
    definition = {**sleeper(uri, "sleep", "86403"), "pidMode": "task"}
    (main,) = definition["containerDefinitions"]
    definition["containerDefinitions"].append({**main, "name": "other", "command": ["sleep", "86404"]})
    ecs.register_task_definition(**definition)
    ecs.create_service(cluster=CLUSTER, serviceName="naps", taskDefinition="sleeper", desiredCount=1, **FARGATE)
    (arn,) = until(lambda: running(ecs))
    pause = ("/pause", arn.rsplit("/", 1)[1])

    def standing():
        return [processes(platform.data, *argv) for argv in (pause, ("sleep", "86403"), ("sleep", "86404"))]

    until(lambda: [len(pids) for pids in standing()] == [1, 1, 1])
    before = standing()
    platform.kill()
    platform.up("--zones", "2", "--runtime", "oci")
    ecs = platform.client("ecs")
    until(lambda: running(ecs) == {arn})
    assert standing() == before
    ecs.delete_service(cluster=CLUSTER, service="naps", force=True)
    until(lambda: standing() == [[], [], []])


def test_nothing_that_was_acknowledged_is_lost_when_the_platform_is_killed(platform):
    acknowledged: list[int] = []

    def register() -> None:
        ecs = platform.client("ecs")
        try:
            while True:
                answer = ecs.register_task_definition(**sleeper("busybox:1"))
                acknowledged.append(answer["taskDefinition"]["revision"])
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
            return

    writers = [threading.Thread(target=register) for _ in range(4)]
    for writer in writers:
        writer.start()
    until(lambda: len(acknowledged) > 100)
    platform.kill()
    for writer in writers:
        writer.join(30)
    platform.up("--zones", "2", "--runtime", "oci")
    pages = platform.client("ecs").get_paginator("list_task_definitions").paginate(familyPrefix="sleeper")
    kept = {int(arn.rsplit(":", 1)[1]) for page in pages for arn in page["taskDefinitionArns"]}
    assert len(acknowledged) == len(set(acknowledged)), "a revision was given out twice"
    assert set(acknowledged) <= kept


def test_while_nats_is_away_calls_fail_clearly_and_then_come_back(platform):
    serve(platform, 2, "86402")
    ecs, tasks = platform.client("ecs"), running(platform.client("ecs"))
    stall(platform.info["nats_pid"])
    try:
        began = time.monotonic()
        codes = set()
        while time.monotonic() - began < 10:
            try:
                ecs.create_cluster(clusterName="meanwhile")
            except botocore.exceptions.ClientError as error:
                codes.add(error.response["ResponseMetadata"]["HTTPStatusCode"])
    finally:
        os.kill(platform.info["nats_pid"], signal.SIGCONT)
    assert codes == {503}
    until(lambda: _created(ecs))
    assert running(ecs) == tasks
    assert len(processes(platform.data, "sleep", "86402")) == 2


def _created(ecs) -> bool:
    try:
        return ecs.create_cluster(clusterName="afterwards")["cluster"]["status"] == "ACTIVE"
    except botocore.exceptions.ClientError:
        return False


def test_a_nats_that_was_killed_is_started_again_and_nothing_is_lost(platform):
    serve(platform, 2, "86403")
    ecs, tasks = platform.client("ecs"), running(platform.client("ecs"))
    os.kill(platform.info["nats_pid"], signal.SIGKILL)
    until(lambda: _created(ecs))
    assert running(ecs) == tasks
    (victim, _) = processes(platform.data, "sleep", "86403")
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(running(ecs)) == 2 and running(ecs) != tasks)


def test_of_two_that_create_the_same_repository_at_once_one_is_told(platform):
    outcomes: list[str] = []
    barrier = threading.Barrier(6)

    def create() -> None:
        ecr = platform.client("ecr")
        barrier.wait()
        try:
            ecr.create_repository(repositoryName="same")
            outcomes.append("created")
        except ecr.exceptions.RepositoryAlreadyExistsException:
            outcomes.append("exists")

    threads = [threading.Thread(target=create) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["created", *["exists"] * 5]


def test_down_leaves_the_tasks_and_down_with_tasks_leaves_nothing(platform):
    serve(platform, 2, "86404")
    platform.command("down")
    assert len(processes(platform.data, "sleep", "86404")) == 2
    platform.up("--zones", "2", "--runtime", "oci")
    until(lambda: len(running(platform.client("ecs"))) == 2)
    keys = [claim.name for claim in claims(platform)]
    assert len(keys) == 2 and len(kernel_objects(keys)) == 8
    platform.command("down", "--tasks")
    assert processes(platform.data, "sleep", "86404") == []
    assert str(platform.data) not in Path("/proc/mounts").read_text()
    assert (claims(platform), kernel_objects(keys)) == ([], [])


def claims(platform) -> list[Path]:
    """The subnets that nodes of this platform hold on this machine."""
    return [claim for claim in RUN.glob("subnets/*") if str(platform.data) in claim.read_text()]


def kernel_objects(keys: list[str]) -> list[str]:
    """What nodes with these keys have: a directory of namespaces, a bridge, packet rules, groups."""
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout.split()
    found = [path for key in keys for path in (RUN / key, Path(f"/sys/class/net/rsbr{key}")) if path.exists()]
    groups = {key for key in keys if any(path.exists() for path in Path("/sys/fs/cgroup").glob(f"**/roadstead/{key}"))}
    return [*map(str, found), *(f"roadstead_{key}" for key in keys if f"roadstead_{key}" in tables), *sorted(groups)]
