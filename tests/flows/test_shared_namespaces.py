"""Containers of one task share processes (pidMode) and memory (ipcMode), as the task definition says."""

import pytest

from tests.builders.platform import FARGATE, sleeper, until
from tests.flows.test_containers import CLUSTER, LOGGED, output, run

KILL_SLEEP = (
    "until grep -q pause /proc/1/comm; do :; done; "
    'while true; do for p in /proc/[0-9]*; do [ "$(cat $p/comm 2>/dev/null)" = sleep ] && cat /proc/1/comm '
    "&& kill -9 ${p#/proc/} && exit 0; done; done"
)


@pytest.fixture(scope="module")
def ecs(platform):
    client = platform.client("ecs")
    client.create_cluster(clusterName=CLUSTER)
    return client


def pair(busybox: str, family: str, main: str, helper: str, **members) -> dict:
    """A task definition of two containers that write to CloudWatch Logs; the helper is not essential."""
    definition = {**sleeper(busybox, "sh", "-c", main, **LOGGED), "family": family, **members}
    (container,) = definition["containerDefinitions"]
    script = {"command": ["sh", "-c", helper], "name": "helper", "essential": False}
    definition["containerDefinitions"] = [container, {**container, **script}]
    return definition


def run_on_instances(ecs, definition: dict) -> dict:
    """Run a task definition of launch type EC2 to its end; the stopped task."""
    definition |= {"networkMode": "bridge", "requiresCompatibilities": ["EC2"]}
    arn = ecs.register_task_definition(**definition)["taskDefinition"]["taskDefinitionArn"]
    (task,) = ecs.run_task(cluster=CLUSTER, taskDefinition=arn, launchType="EC2")["tasks"]

    def ended():
        (found,) = ecs.describe_tasks(cluster=CLUSTER, tasks=[task["taskArn"]])["tasks"]
        return found if found["lastStatus"] == "STOPPED" else None

    return until(ended, 40)


def test_with_pid_mode_task_a_container_ends_another_s_process(ecs, platform, busybox):
    task = run(ecs, pair(busybox, "pid-task", "exec sleep 3600", KILL_SLEEP, pidMode="task"))
    assert {c["name"]: c["exitCode"] for c in task["containers"]} == {"main": 137, "helper": 0}
    assert output(platform, task, "helper") == ["pause"]


def test_with_ipc_mode_task_containers_share_memory(ecs, platform, busybox):
    main = "until [ -s /dev/shm/words ]; do sleep 0.02; done; cat /dev/shm/words"
    definition = pair(busybox, "ipc-task", main, "echo shared > /dev/shm/words", ipcMode="task")
    assert output(platform, run_on_instances(ecs, definition)) == ["shared"]


def test_a_task_in_the_node_s_namespaces_sees_its_processes(ecs, platform, busybox):
    script = f"cat /proc/{platform.info['nats_pid']}/comm"
    definition = pair(busybox, "on-the-node", script, "true", pidMode="host", ipcMode="host")
    assert output(platform, run_on_instances(ecs, definition)) == ["nats-server"]


def test_max_swap_is_told_to_the_kernel(ecs, platform, busybox):
    groups = "/sys/fs/cgroup"
    both = f"cat {groups}/memory/memory.memsw.limit_in_bytes 2>/dev/null"
    script = f"{both} || echo $(( $(cat {groups}/memory.swap.max) + $(cat {groups}/memory.max) ))"
    members = {"memory": 64, "linuxParameters": {"maxSwap": 32, "swappiness": 10}}
    definition = {**sleeper(busybox, "sh", "-c", script, **members, **LOGGED), "family": "swapping"}
    assert output(platform, run_on_instances(ecs, definition)) == [str(96 << 20)]


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"pidMode": "host"}, "do not support pidMode 'host'. The supported value for pidMode is 'task'."),
        ({"ipcMode": "task"}, "Tasks using the Fargate launch type do not support ipcMode."),
    ],
)
def test_fargate_shares_processes_within_a_task_alone(ecs, busybox, members, words):
    with pytest.raises(ecs.exceptions.ClientException) as refused:
        ecs.register_task_definition(**sleeper(busybox), **members)
    assert words in refused.value.response["Error"]["Message"]


def test_what_is_not_compatible_with_fargate_is_not_run_there(ecs, busybox):
    definition = {**sleeper(busybox), "family": "instances-only", "requiresCompatibilities": ["EC2"], "pidMode": "host"}
    registered = ecs.register_task_definition(**definition)["taskDefinition"]
    assert "FARGATE" not in registered["compatibilities"]
    with pytest.raises(ecs.exceptions.InvalidParameterException, match="does not support launch_type FARGATE"):
        ecs.run_task(cluster=CLUSTER, taskDefinition="instances-only", **FARGATE)
