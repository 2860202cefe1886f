"""ExecuteCommand on a real platform: boto3 asks for a session, a client of its own speaks the data channel."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.builders.data_channel import ask, silent
from tests.builders.platform import FARGATE, ROOT, sleeper, until

CLUSTER = "exec"


@pytest.fixture(scope="module")
def ecs(platform, busybox):
    client = platform.client("ecs")
    logging = {"logging": "OVERRIDE", "logConfiguration": {"cloudWatchLogGroupName": "/exec/sessions"}}
    client.create_cluster(clusterName=CLUSTER, configuration={"executeCommandConfiguration": logging})
    client.register_task_definition(**{**sleeper(busybox), "family": "exec"})
    return client


def start(ecs, **members) -> str:
    arguments = {"cluster": CLUSTER, "taskDefinition": "exec", "enableExecuteCommand": True, **FARGATE, **members}
    (task,) = ecs.run_task(**arguments)["tasks"]
    ecs.get_waiter("tasks_running").wait(
        cluster=CLUSTER, tasks=[task["taskArn"]], WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    return task["taskArn"]


@pytest.fixture(scope="module")
def task(ecs):
    arn = start(ecs)
    yield arn
    ecs.stop_task(cluster=CLUSTER, task=arn)


def execute(ecs, task: str, command: str, *, interactive: bool = True, **members):
    return ecs.execute_command(cluster=CLUSTER, task=task, command=command, interactive=interactive, **members)


def refused(ecs, task, **members):
    with pytest.raises(ClientError) as error:
        execute(ecs, task, "true", **members)
    return error.value.response["Error"]["Code"]


def test_the_task_shows_that_its_exec_agent_runs(ecs, task):
    (shown,) = ecs.describe_tasks(cluster=CLUSTER, tasks=[task])["tasks"]
    assert shown["enableExecuteCommand"] is True
    ((agent,),) = [container["managedAgents"] for container in shown["containers"]]
    assert (agent["name"], agent["lastStatus"], "lastStartedAt" in agent) == ("ExecuteCommandAgent", "RUNNING", True)


def test_a_command_without_a_terminal_gives_its_output_and_its_exit_code(ecs, task):
    answer = execute(ecs, task, "sh -c 'echo out; echo err >&2; test -t 1 || exit 3'", interactive=False)
    assert (answer["containerName"], answer["interactive"], answer["taskArn"]) == ("main", False, task)
    channel = ask(answer["session"], silent)
    assert sorted(channel.output.split()) == [b"err", b"out"]
    assert channel.session_type == "NonInteractiveCommands"
    assert (channel.closed["ExitCode"], channel.closed["SessionId"]) == (3, answer["session"]["sessionId"])


def sized(rows: int, columns: int) -> bytes:
    """A line that takes until the terminal has this size, and does not hold the numbers themselves: it is echoed."""
    return b'until [ "$(stty size)" = "$((%d+1)) $((%d+1))" ]; do sleep 0.02; done\r' % (rows - 1, columns - 1)


def test_a_shell_at_a_terminal_echoes_hears_of_its_size_and_exits(ecs, task):
    async def talk(channel):
        await channel.shaken()
        await channel.resize(101, 33)
        await channel.say(sized(33, 101))
        await channel.say(b"stty size; id -u; tty\r")
        await channel.until(b"33 101")
        await channel.until(b"/dev/pts/")
        await channel.resize(77, 22)
        await channel.say(sized(22, 77))
        await channel.say(b"stty size\r")
        await channel.until(b"22 77")
        await channel.say(b"exit 5\r")

    channel = ask(execute(ecs, task, "sh")["session"], talk)
    assert b"stty size; id -u; tty\r\n" in channel.output  # the terminal's echo
    assert b"\r\n0\r\n" in channel.output  # root, as with ECS
    assert channel.closed["ExitCode"] == 5
    assert channel.acknowledged == list(range(len(channel.acknowledged)))
    assert len(channel.acknowledged) >= 5


def test_much_output_comes_whole(ecs, task):
    session = execute(ecs, task, "sh -c 'seq 1 200000'", interactive=False)["session"]
    assert ask(session, silent).output == b"".join(b"%d\n" % number for number in range(1, 200001))


def test_the_client_ends_the_session_and_the_command_with_it(ecs, task):
    async def talk(channel):
        await channel.shaken()
        await channel.say(b"echo $((40 + 2)); sleep 4711\r")
        await channel.until(b"42\r\n")
        await channel.say((2).to_bytes(4, "big"), 10)

    channel = ask(execute(ecs, task, "sh")["session"], talk)
    assert channel.closed is not None
    assert "ExitCode" not in channel.closed or channel.closed["ExitCode"] is None
    count = "sh -c 'ps | grep -c \"[s]leep 4711\"'"
    until(lambda: ask(execute(ecs, task, count, interactive=False)["session"], silent).output == b"0\n", seconds=30)


def test_a_killed_container_ends_the_session(ecs):
    other = start(ecs)

    async def talk(channel):
        await channel.shaken()
        await channel.say(b"echo $((40 + 2))\r")
        await channel.until(b"42\r\n")
        ecs.stop_task(cluster=CLUSTER, task=other)

    channel = ask(execute(ecs, other, "sh")["session"], talk)
    assert channel.closed["ExitCode"] == 137
    assert refused(ecs, other) == "InvalidParameterException"


def test_a_wrong_token_is_refused_and_a_right_one_is_good_once(ecs, task):
    session = execute(ecs, task, "echo once", interactive=False)["session"]
    wrong = ask(session, silent, token="wrong")
    assert (wrong.close_code, wrong.output, wrong.closed) == (1008, b"", None)
    assert ask(session, silent).output == b"once\n"
    again = ask(session, silent)
    assert (again.close_code, again.output, again.closed) == (1008, b"", None)


def test_what_can_not_be_is_refused_as_ecs_does(ecs, task):
    assert refused(ecs, "0" * 32) == "InvalidParameterException"
    assert refused(ecs, task, container="other") == "InvalidParameterException"
    without = start(ecs, enableExecuteCommand=False)
    assert refused(ecs, without) == "InvalidParameterException"
    ecs.stop_task(cluster=CLUSTER, task=without)
    with pytest.raises(ecs.exceptions.ClusterNotFoundException):
        ecs.execute_command(cluster="nosuch", task=task, command="true", interactive=True)


def test_a_program_that_is_not_there_ends_with_127(ecs, task):
    channel = ask(execute(ecs, task, "nosuch")["session"], silent)
    assert channel.closed["ExitCode"] == 127
    assert b"nosuch" in channel.output


def test_a_session_is_logged_where_the_cluster_says(platform, ecs, task):
    session = execute(ecs, task, "echo for the log", interactive=False)["session"]
    ask(session, silent)
    logs = platform.client("logs")
    where = {"logGroupName": "/exec/sessions", "logStreamName": session["sessionId"]}
    events = until(lambda: logs.get_log_events(**where)["events"], seconds=30)
    assert [event["message"] for event in events] == ["for the log\n"]


def run_cli(platform, *arguments, given=b""):
    command = [sys.executable, "-m", "services.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, input=given, capture_output=True, timeout=60, env=dict(os.environ))


def test_roadstead_exec_has_the_commands_output_and_exit_code(platform, task):
    data = str(Path(platform.data))
    ran = run_cli(platform, "exec", "--data", data, task, "sh", "-c", "echo out; echo err >&2; exit 9")
    assert (ran.returncode, ran.stdout, ran.stderr) == (9, b"out\n", b"err\n")
    typed = run_cli(platform, "exec", "--data", data, "--tty", task, "sh", given=b"echo $((40 + 2)); exit 4\n")
    assert (typed.returncode, b"42" in typed.stdout) == (4, True)
    none = run_cli(platform, "exec", "--data", data, "nosuch", "true")
    assert (none.returncode, none.stdout) == (255, b"")
