"""What a task is told of itself."""

import msgspec
import pytest

from contracts.rpc.identity import Session
from services.agent.decisions.metadata import container_metadata, credentials, principal, task_metadata
from services.agent.decisions.plan import plan_task
from services.agent.decisions.status import Run
from services.agent.values import Sandbox
from tests.unit.agent.test_plan import task

SANDBOX = Sandbox("t1", "10.1.2.3", "02:42:0a:01:02:03", "10.1.2.1", "10.1.2.0/24")
DEFINITION = {
    "cpu": "256",
    "memory": "512",
    "containerDefinitions": [{"name": "web", "image": "shop:1", "cpu": 10, "memory": 128}],
}


def test_a_container_is_told_as_ecs_tells_it():
    plan = plan_task(task(service="shop"), DEFINITION, {}, "")
    told = container_metadata(plan, plan.containers[0], Run("RUNNING", "sha256:1", 0.5), SANDBOX, "RUNNING")
    assert told == {
        "DockerId": "t1-0",
        "Name": "web",
        "DockerName": "ecs-shop-3-web-t1",
        "Image": "shop:1",
        "ImageID": "sha256:1",
        "Labels": {
            "com.amazonaws.ecs.cluster": "arn:aws:ecs:eu-west-1:1:cluster/main",
            "com.amazonaws.ecs.container-name": "web",
            "com.amazonaws.ecs.task-arn": "arn:aws:ecs:eu-west-1:1:task/main/t1",
            "com.amazonaws.ecs.task-definition-family": "shop",
            "com.amazonaws.ecs.task-definition-version": "3",
        },
        "DesiredStatus": "RUNNING",
        "KnownStatus": "RUNNING",
        "Limits": {"CPU": 10, "Memory": 128},
        "Type": "NORMAL",
        "ContainerARN": told["ContainerARN"],
        "Networks": [
            {
                "NetworkMode": "awsvpc",
                "IPv4Addresses": ["10.1.2.3"],
                "AttachmentIndex": 0,
                "MACAddress": "02:42:0a:01:02:03",
                "IPv4SubnetCIDRBlock": "10.1.2.0/24",
                "SubnetGatewayIpv4Address": "10.1.2.1/24",
                "PrivateDNSName": "ip-10-1-2-3.ec2.internal",
            }
        ],
        "CreatedAt": "1970-01-01T00:00:00.500000Z",
        "StartedAt": "1970-01-01T00:00:00.500000Z",
    }
    assert told["ContainerARN"].startswith("arn:aws:ecs:eu-west-1:1:container/main/t1/")


def test_a_task_is_told_with_its_limits_in_vcpus_and_mib():
    plan = plan_task(task(service="shop"), DEFINITION, {}, "")
    told = task_metadata(plan, [], SANDBOX, "RUNNING", "PENDING", (1.0, None))
    assert (told["Limits"], told["ServiceName"], told["KnownStatus"]) == (
        {"CPU": 0.25, "Memory": 512},
        "shop",
        "PENDING",
    )
    assert ("PullStartedAt" in told, "PullStoppedAt" in told) == (True, False)


def test_credentials_have_the_form_that_sdks_read():
    session = Session(access_key_id="ASIA", secret="s", session_token="t", expires_at=0.0, role_arn="arn")
    assert credentials(session) == {
        "RoleArn": "arn",
        "AccessKeyId": "ASIA",
        "SecretAccessKey": "s",
        "Token": "t",
        "Expiration": "1970-01-01T00:00:00Z",
    }


@pytest.mark.parametrize(
    ("cluster", "expected"),
    [("main", "ecs-tasks.amazonaws.com"), ("apprunner", "tasks.apprunner.amazonaws.com")],
)
def test_a_role_must_trust_the_service_whose_task_it_is(cluster, expected):
    assert principal(msgspec.structs.replace(task(), cluster=cluster)) == expected
