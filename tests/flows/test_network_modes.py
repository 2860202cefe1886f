"""What a task shows of its network is what is there, in each mode; with real containers."""

import socket
import urllib.request

import pytest

from tests.builders.platform import sleeper, until

GROUP = "sg-0123456789abcdef0"
AWSVPC = {"awsvpcConfiguration": {"subnets": ["subnet-local"], "securityGroups": [GROUP]}}


@pytest.fixture(scope="module")
def image(platform, busybox):
    platform.client("ecs").create_cluster(clusterName="modes")
    return busybox


def running_task(platform, image, mode: str, port: int | None, **members) -> dict:
    """A task that serves its /etc on a port, once it runs."""
    ports = {"portMappings": [{"containerPort": port}]} if port else {}
    serves = ("httpd", "-f", "-p", str(port or 80), "-h", "/etc")
    definition = sleeper(image, *serves, **ports)
    definition |= {"family": f"in-{mode}", "networkMode": mode, "requiresCompatibilities": ["EC2"]}
    ecs = platform.client("ecs")
    ecs.register_task_definition(**definition)
    arn = ecs.run_task(cluster="modes", taskDefinition=f"in-{mode}", launchType="EC2", **members)["tasks"][0]["taskArn"]

    def shown():
        task = ecs.describe_tasks(cluster="modes", tasks=[arn])["tasks"][0]
        assert task["lastStatus"] != "STOPPED", task.get("stoppedReason")
        return task if task["lastStatus"] == "RUNNING" else None

    return until(shown)


def serves(address: str, port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}:{port}/passwd", timeout=3) as answer:
            return b"root" in answer.read()
    except OSError:
        return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_bridge_has_a_port_of_the_node_and_no_interface(platform, image):
    task = running_task(platform, image, "bridge", 80)
    (container,) = task["containers"]
    (binding,) = container["networkBindings"]
    assert (binding["containerPort"], binding["protocol"], binding["bindIP"]) == (80, "tcp", "0.0.0.0")
    assert (container["networkInterfaces"], task["attachments"]) == ([], [])
    until(lambda: serves("127.0.0.1", binding["hostPort"]))


def test_host_has_the_very_port_and_no_interface(platform, image):
    port = free_port()
    task = running_task(platform, image, "host", port)
    (container,) = task["containers"]
    (binding,) = container["networkBindings"]
    assert (binding["containerPort"], binding["hostPort"]) == (port, port)
    assert (container["networkInterfaces"], task["attachments"]) == ([], [])
    until(lambda: serves("127.0.0.1", port))


def test_awsvpc_has_an_interface_of_its_own_and_no_port_of_the_node(platform, image):
    ec2 = platform.client("ec2")
    tags = [{"ResourceType": "security-group", "Tags": [{"Key": "roadstead:group-id", "Value": GROUP}]}]
    ec2.create_security_group(GroupName="modes", Description="by an id that was there", TagSpecifications=tags)
    serve = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    ec2.authorize_security_group_ingress(GroupId=GROUP, IpPermissions=[serve])
    task = running_task(platform, image, "awsvpc", 80, networkConfiguration=AWSVPC)
    (container,) = task["containers"]
    (interface,) = container["networkInterfaces"]
    (attachment,) = task["attachments"]
    details = {each["name"]: each["value"] for each in attachment["details"]}
    assert container["networkBindings"] == []
    assert (attachment["status"], details["privateIPv4Address"]) == ("ATTACHED", interface["privateIpv4Address"])
    assert details["subnetId"] == "subnet-local"
    until(lambda: serves(interface["privateIpv4Address"], 80))


def test_none_has_neither(platform, image):
    task = running_task(platform, image, "none", None)
    (container,) = task["containers"]
    assert (container["networkBindings"], container["networkInterfaces"], task["attachments"]) == ([], [], [])
