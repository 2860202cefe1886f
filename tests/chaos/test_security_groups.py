"""Security groups hold when nobody is there to hold tasks to them."""

import os
import socket

import pytest

from tests.builders.images import busybox_image
from tests.builders.platform import node_process, roadstead, sleeper, until

ZONE = "us-east-1b"


@pytest.fixture
def platform(monkeypatch):
    if os.geteuid() != 0:
        pytest.skip("real containers take root")
    monkeypatch.setenv("ROADSTEAD_SCHEDULER_NODE_SILENCE_S", "300")  # an agent that starts anew is not lost
    with roadstead(runtime="oci", zones=1) as running:
        running.client("ecs").create_cluster(clusterName="guarded")
        yield running


def run(platform, group) -> str:
    """The address of a task of that zone, in this group, that listens on port 80."""
    definition = sleeper(platform.push(busybox_image(), "busybox"), "httpd", "-f", "-p", "80")
    ecs = platform.client("ecs")
    ecs.register_task_definition(**{**definition, "requiresCompatibilities": ["EC2"]})
    there = {"type": "memberOf", "expression": f"attribute:ecs.availability-zone == {ZONE}"}
    network = {"awsvpcConfiguration": {"subnets": ["subnet-local"], "securityGroups": [group]}}
    (task,) = ecs.run_task(
        cluster="guarded", taskDefinition="sleeper", launchType="EC2", placementConstraints=[there],
        networkConfiguration=network,
    )["tasks"]  # fmt: skip

    def address():
        (now,) = ecs.describe_tasks(cluster="guarded", tasks=[task["taskArn"]])["tasks"]
        interfaces = now["containers"][0]["networkInterfaces"]
        return interfaces[0]["privateIpv4Address"] if now["lastStatus"] == "RUNNING" else None

    return until(address)


def connects(address) -> bool:
    try:
        socket.create_connection((address, 80), timeout=1).close()
    except OSError:
        return False
    return True


def test_rules_hold_while_the_agent_is_dead_and_the_next_one_brings_what_changed_meanwhile(platform):
    ec2 = platform.client("ec2")
    group = ec2.create_security_group(GroupName="shut", Description="nobody gets in")["GroupId"]
    web = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[web])
    with node_process(platform.data, ZONE) as node:
        address = run(platform, group)
        until(lambda: connects(address))
        ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[web])
        until(lambda: not connects(address))
        node.kill()
        node.wait()
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[web])
        assert not connects(address)
    with node_process(platform.data, ZONE):
        until(lambda: connects(address))
        ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[web])
        until(lambda: not connects(address))
