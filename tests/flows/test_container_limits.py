"""What a task definition asks of the kernel for a container holds inside it."""

import pytest

from tests.builders.platform import sleeper
from tests.flows.test_containers import CLUSTER, LOGGED, output, run


@pytest.fixture(scope="module")
def ecs(platform):
    client = platform.client("ecs")
    client.create_cluster(clusterName=CLUSTER)
    return client


def said(ecs, platform, busybox: str, script: str, **members) -> list[str]:
    """What a script writes in a container with these members."""
    return output(platform, run(ecs, sleeper(busybox, "sh", "-c", script, **members, **LOGGED)))


def test_ulimits_are_the_container_s(ecs, platform, busybox):
    limits = [{"name": "nofile", "softLimit": 123, "hardLimit": 456}]
    assert said(ecs, platform, busybox, "ulimit -Sn; ulimit -Hn", ulimits=limits) == ["123", "456"]


def test_a_read_only_root_is_read_only_and_its_tmpfs_is_not(ecs, platform, busybox):
    tmpfs = [{"containerPath": "/scratch", "size": 4, "mountOptions": ["noexec"]}]
    script = (
        "touch /x 2>/dev/null || echo refused; touch /scratch/x && echo written; "
        "grep -c 'tmpfs /scratch .*noexec.*size=4096k' /proc/mounts"
    )
    members = {"readonlyRootFilesystem": True, "linuxParameters": {"tmpfs": tmpfs}}
    assert said(ecs, platform, busybox, script, **members) == ["refused", "written", "1"]


def test_capabilities_and_shared_memory_are_as_asked_for(ecs, platform, busybox):
    linux = {"capabilities": {"drop": ["ALL"]}, "sharedMemorySize": 8}
    script = "grep CapEff /proc/self/status; df -m /dev/shm | tail -1 | awk '{print $2}'"
    assert said(ecs, platform, busybox, script, linuxParameters=linux) == ["CapEff:\t0000000000000000", "8"]


def test_an_init_process_reaps_what_the_command_leaves(ecs, platform, busybox):
    script = "(sleep 0.1 &) ; sleep 0.6; ps -o stat,comm | grep -c '^Z' ; cat /proc/1/comm"
    zombies, first = said(ecs, platform, busybox, script, linuxParameters={"initProcessEnabled": True})
    assert (zombies, first != "sh") == ("0", True)


def test_kernel_parameters_of_the_network_are_the_task_s(ecs, platform, busybox):
    controls = [{"namespace": "net.ipv4.tcp_keepalive_time", "value": "77"}]
    script = "cat /proc/sys/net/ipv4/tcp_keepalive_time"
    assert said(ecs, platform, busybox, script, systemControls=controls) == ["77"]
