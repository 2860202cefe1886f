"""The instance role of an App Runner service: it trusts App Runner's tasks, as roles that are made for AWS do."""

import json

import pytest

from tests.builders.images import File, busybox_image
from tests.builders.platform import until
from tests.builders.visitors import Visitors
from tests.flows.test_app_runner import PROMPT, SMALL
from tests.flows.test_roles import policy, session

WGET = "wget -q -O - http://169.254.170.2$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI 2>&1"
SAY = "#!/bin/sh\necho Content-Type: text/plain\necho\n"


@pytest.fixture(scope="module")
def service(platform):
    """A service whose instances tell what they were given."""
    iam = platform.client("iam")
    trust = {
        "Effect": "Allow",
        "Principal": {"Service": "tasks.apprunner.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    role = iam.create_role(RoleName="instances", AssumeRolePolicyDocument=policy(trust))["Role"]["Arn"]
    secret = platform.client("secretsmanager").create_secret(Name="app/db", SecretString="of-the-app")["ARN"]
    may = {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": secret}
    iam.put_role_policy(RoleName="instances", PolicyName="own", PolicyDocument=policy(may))
    files = {
        "/www/cgi-bin/credentials": File(f"{SAY}{WGET}\n", mode=0o755),
        "/www/cgi-bin/secret": File(f"{SAY}echo $PASSWORD\n", mode=0o755),
        "/www/index.html": File("here"),
    }
    image = busybox_image(files, command=["httpd", "-f", "-p", "8080", "-h", "/www"])
    platform.push(image, "apprunner/roles", tag="live")
    configuration = {"Port": "8080", "RuntimeEnvironmentSecrets": {"PASSWORD": secret}}
    source = {
        "ImageIdentifier": "000000000000.dkr.ecr.us-east-1.amazonaws.com/apprunner/roles:live",
        "ImageRepositoryType": "ECR",
        "ImageConfiguration": configuration,
    }
    client = platform.client("apprunner")
    made = client.create_service(
        ServiceName="roles", SourceConfiguration={"ImageRepository": source, "AutoDeploymentsEnabled": False},
        InstanceConfiguration={**SMALL, "InstanceRoleArn": role}, HealthCheckConfiguration=PROMPT,
    )["Service"]  # fmt: skip
    told = lambda: client.describe_service(ServiceArn=made["ServiceArn"])["Service"]  # noqa: E731
    until(lambda: told()["Status"] != "OPERATION_IN_PROGRESS", 60, every=0.05)
    assert told()["Status"] == "RUNNING"
    yield Visitors(platform.command("ca").strip(), made["ServiceUrl"])
    client.delete_service(ServiceArn=made["ServiceArn"])


def test_an_instance_has_the_credentials_of_its_role(platform, service):
    status, told = service.once("/cgi-bin/credentials")
    assert status == 200
    who = session(platform, told, "sts").get_caller_identity()["Arn"]
    assert who.startswith("arn:aws:sts::000000000000:assumed-role/instances/")
    assert json.loads(told)["RoleArn"] == "arn:aws:iam::000000000000:role/instances"


def test_an_instance_has_its_secrets_read_as_its_role(service):
    assert service.once("/cgi-bin/secret") == (200, "of-the-app")
