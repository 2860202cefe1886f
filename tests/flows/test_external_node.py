"""ECS Anywhere: a machine joins with an activation, over one outgoing connection; it is cut off, comes back, is taken
out. It is another process here, with a data directory of its own, and a link that the test cuts."""

import os
import signal

import botocore.exceptions
import pytest

from tests.builders.data_channel import ask, silent
from tests.builders.external import CLUSTER, SLEEP, Machine, activation, instance, prepare, running, serve, tasks
from tests.builders.images import busybox_image
from tests.builders.platform import FARGATE, processes, roadstead, sleeper, until


@pytest.fixture
def platform():
    if os.geteuid() != 0:
        pytest.skip("real containers take root")
    with roadstead(runtime="oci", zones=1) as started:
        prepare(started)
        yield started


@pytest.fixture
def machine(platform):
    machine = Machine(platform)
    try:
        yield machine
    finally:
        machine.close()


def test_a_machine_joins_runs_external_tasks_alone_and_keeps_them_while_it_is_cut_off(platform, machine):
    name = machine.join(activation(platform))
    assert name.startswith("mi-"), name
    until(lambda: instance(platform, name))
    attributes = {a["name"]: a.get("value") for a in instance(platform, name)["attributes"]}
    assert "ecs.capability.external" in attributes
    ecs = platform.client("ecs")
    listed = ecs.list_container_instances(cluster=CLUSTER, filter="attribute:ecs.capability.external exists")
    assert len(listed["containerInstanceArns"]) == 1
    ecs.create_cluster(clusterName="other")
    others = ecs.list_container_instances(cluster="other")["containerInstanceArns"]
    assert len(others) == 1  # the platform's own node is of every cluster, the machine of its own alone
    serve(platform, 2)
    until(lambda: len(running(platform)) == 2)
    before, pids = running(platform), sorted(processes(machine.data, "sleep", SLEEP))
    assert len(pids) == 2
    assert {t["launchType"] for t in tasks(platform)} == {"EXTERNAL"}
    assert {t["containerInstanceArn"] for t in tasks(platform)} == set(listed["containerInstanceArns"])
    says = {"command": "sh -c 'echo out; exit 3'", "interactive": False}
    session = ecs.execute_command(cluster=CLUSTER, task=min(before), **says)["session"]
    assert (channel := ask(session, silent)).output == b"out\n"
    assert channel.closed["ExitCode"] == 3
    assert machine.link.connections() == 1  # all of it over one connection, outwards

    machine.link.cut()
    until(lambda: not instance(platform, name)["agentConnected"])
    assert running(platform) == before  # as ECS: its tasks are not given up
    os.kill(pids[0], signal.SIGKILL)
    machine.link.mend()
    until(lambda: instance(platform, name)["agentConnected"])
    # What died meanwhile is told and replaced, what lived goes on, nothing runs twice.
    until(lambda: len(running(platform)) == 2 and len(running(platform) & before) == 1)
    until(lambda: len(now := processes(machine.data, "sleep", SLEEP)) == 2 and pids[1] in now)
    assert processes(platform.data, "sleep", SLEEP) == []

    fargate = sleeper(platform.push(busybox_image(), "busybox"), "sleep", "86418")
    ecs.register_task_definition(**(fargate | {"family": "own"}))
    ran = ecs.run_task(cluster=CLUSTER, taskDefinition="own", count=3, **FARGATE)
    assert len(ran["tasks"]) == 3
    until(lambda: len(processes(platform.data, "sleep", "86418")) == 3)


def test_the_agent_is_killed_while_it_is_cut_off_and_the_next_one_adopts(platform, machine):
    name = machine.join(activation(platform))
    serve(platform, 2)
    until(lambda: len(running(platform)) == 2)
    before, pids = running(platform), sorted(processes(machine.data, "sleep", SLEEP))
    machine.link.cut()
    machine.kill()
    until(lambda: not instance(platform, name)["agentConnected"])
    machine.link.mend()
    assert machine.again() == name
    until(lambda: instance(platform, name)["agentConnected"])
    platform.client("ecs").update_service(cluster=CLUSTER, service="naps", desiredCount=3)
    until(lambda: len(running(platform)) == 3)
    assert before < running(platform)
    assert set(pids) < set(processes(machine.data, "sleep", SLEEP))


def test_an_activation_lets_in_as_many_as_it_may_and_a_node_that_is_taken_out_is_refused(platform, machine):
    given = activation(platform, RegistrationLimit=1, Description="one")
    assert "not valid" in machine.join(given | {"ActivationCode": "x" * 20})
    machine.kill()
    name = machine.join(given)
    assert name.startswith("mi-"), name
    late = Machine(platform)
    try:
        assert "let in the 1 machines" in late.join(given)
    finally:
        late.close()
    (shown,) = platform.client("ssm").describe_activations()["ActivationList"]
    assert (shown["RegistrationLimit"], shown["RegistrationsCount"], shown["Expired"]) == (1, 1, False)
    serve(platform, 1)
    until(lambda: len(running(platform)) == 1)
    ecs = platform.client("ecs")
    arn = instance(platform, name)["containerInstanceArn"]
    with pytest.raises(botocore.exceptions.ClientError, match="running tasks"):
        ecs.deregister_container_instance(cluster=CLUSTER, containerInstance=arn)
    out = ecs.deregister_container_instance(cluster=CLUSTER, containerInstance=arn, force=True)["containerInstance"]
    assert (out["status"], out["ec2InstanceId"]) == ("INACTIVE", name)
    assert machine.node.wait(60) == 1
    assert "was deregistered; its tasks go on" in machine.node.stderr.read()
    assert instance(platform, name) is None
    until(lambda: [t["lastStatus"] for t in tasks(platform, "STOPPED")] == ["STOPPED"])
    assert "deregistration forced" in tasks(platform, "STOPPED")[0]["stoppedReason"]
    assert len(processes(machine.data, "sleep", SLEEP)) == 1  # orphaned, as with ECS
    machine.kill()
    assert "was deregistered" in machine.again()
