"""The control plane dies under an external node: it comes back by itself, and nothing is lost or doubled."""

import os
import signal

import botocore.exceptions
import pytest

from tests.builders.external import CLUSTER, SLEEP, Machine, activation, instance, prepare, running, serve
from tests.builders.platform import processes, roadstead, until


@pytest.fixture
def platform():
    if os.geteuid() != 0:
        pytest.skip("real containers take root")
    with roadstead(runtime="oci", zones=1) as started:
        prepare(started)
        yield started


def scaled(platform, count: int) -> bool:
    """Whether the count could be set: while NATS is away it can't."""
    try:
        platform.client("ecs").update_service(cluster=CLUSTER, service="naps", desiredCount=count)
    except botocore.exceptions.ClientError as error:
        assert error.response["Error"]["Code"] == "ServiceUnavailable"
        return False
    return True


def test_nats_and_then_the_whole_platform_are_killed(platform):
    machine = Machine(platform)
    try:
        name = machine.join(activation(platform))
        serve(platform, 2)
        until(lambda: len(running(platform)) == 2)
        before, pids = running(platform), sorted(processes(machine.data, "sleep", SLEEP))
        carried = machine.link.carried
        os.kill(platform.info["nats_pid"], signal.SIGKILL)
        until(lambda: machine.link.carried > carried)
        until(lambda: scaled(platform, 3))
        until(lambda: len(running(platform)) == 3, 60)
        assert before < running(platform)
        before = running(platform)
        platform.kill()
        os.kill(pids[0], signal.SIGKILL)
        platform.up("--zones", "1", "--runtime", "oci")
        until(lambda: (instance(platform, name) or {}).get("agentConnected"), 60)
        until(lambda: len(running(platform)) == 3 and len(running(platform) & before) == 2, 60)
        until(lambda: len(now := processes(machine.data, "sleep", SLEEP)) == 3 and pids[1] in now)
    finally:
        machine.close()
