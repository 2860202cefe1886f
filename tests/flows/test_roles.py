"""What a task's role may do, and the secrets that its execution role may read, in real containers."""

import json

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.builders.platform import sleeper
from tests.flows.test_containers import CLUSTER, LOGGED, output, run

TASKS = {"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}


def policy(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


@pytest.fixture(scope="module")
def ecs(platform):
    client = platform.client("ecs")
    client.create_cluster(clusterName=CLUSTER)
    return client


def role(platform, name, *statements) -> str:
    iam = platform.client("iam")
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=policy(TASKS))["Role"]["Arn"]
    if statements:
        iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=policy(*statements))
    return arn


def credentials(ecs, platform, busybox, role_arn):
    """What a container of this role is told at the credentials endpoint."""
    ask = "wget -q -O - http://169.254.170.2$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI 2>&1"
    task = run(ecs, {**sleeper(busybox, "sh", "-c", ask, **LOGGED), "taskRoleArn": role_arn})
    return "".join(output(platform, task))


def session(platform, told, api):
    keys = json.loads(told)
    return boto3.client(
        api,
        endpoint_url=f"http://127.0.0.1:{platform.port}",
        region_name="us-east-1",
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["Token"],
    )


def refusal(call, **arguments) -> str:
    with pytest.raises(ClientError) as refused:
        call(**arguments)
    return refused.value.response["Error"]["Message"]


def test_a_container_may_do_at_every_service_what_its_role_allows_and_nothing_else(ecs, platform, busybox):
    allowed = [
        {"Effect": "Allow", "Action": "ecs:Describe*", "Resource": f"arn:aws:ecs:*:*:cluster/{CLUSTER}"},
        {"Effect": "Allow", "Action": "ecr:DescribeRepositories", "Resource": "*"},
        {"Effect": "Allow", "Action": "logs:*", "Resource": "*"},
        {"Effect": "Deny", "Action": "logs:DeleteLogGroup", "Resource": "*"},
    ]
    told = credentials(ecs, platform, busybox, role(platform, "reader", *allowed))
    own_ecs, ecr, logs = (session(platform, told, api) for api in ("ecs", "ecr", "logs"))
    assert own_ecs.describe_clusters(clusters=[CLUSTER])["clusters"][0]["clusterName"] == CLUSTER
    assert ecr.describe_repositories()["repositories"]
    logs.create_log_group(logGroupName="/of-a-task")
    assert "cluster/other because no identity-based policy" in refusal(own_ecs.describe_clusters, clusters=["other"])
    assert "ecs:ListClusters on resource: *" in refusal(own_ecs.list_clusters)
    assert "ecr:CreateRepository" in refusal(ecr.create_repository, repositoryName="shop")
    assert "explicit deny" in refusal(logs.delete_log_group, logGroupName="/of-a-task")


def test_a_task_whose_role_does_not_exist_runs_and_gets_no_credentials(ecs, platform, busybox):
    told = credentials(ecs, platform, busybox, "arn:aws:iam::000000000000:role/nobody")
    assert "503" in told


def test_secrets_and_parameters_are_in_the_environment_of_a_container_and_nowhere_else(ecs, platform, busybox):
    sm, ssm = platform.client("secretsmanager"), platform.client("ssm")
    db = sm.create_secret(Name="flow/db", SecretString=json.dumps({"user": "sa", "password": "old-pw"}))["ARN"]
    sm.put_secret_value(SecretId=db, SecretString=json.dumps({"user": "sa", "password": "new-pw"}))
    ssm.put_parameter(Name="/flow/url", Value="db://flow-value", Type="SecureString")
    parameters = "arn:aws:ssm:*:*:parameter/flow/*"
    executing = role(
        platform,
        "executing",
        {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": db},
        {"Effect": "Allow", "Action": "ssm:GetParameters", "Resource": parameters},
    )
    secrets = [
        {"name": "PASSWORD", "valueFrom": f"{db}:password::"},
        {"name": "BEFORE", "valueFrom": f"{db}:password:AWSPREVIOUS:"},
        {"name": "URL", "valueFrom": "/flow/url"},
        {"name": "ALSO", "valueFrom": "arn:aws:ssm:us-east-1:000000000000:parameter/flow/url"},
    ]
    say = "echo $PASSWORD $BEFORE $URL $ALSO | tr a-z b-za"  # not the values themselves: logs are searched below
    definition = {**sleeper(busybox, "sh", "-c", say, secrets=secrets, **LOGGED), "executionRoleArn": executing}
    task = run(ecs, definition)
    assert output(platform, task) == ["ofx-qx pme-qx ec://gmpx-wbmvf ec://gmpx-wbmvf"]
    assert task["containers"][0]["exitCode"] == 0
    kept = [p for d in ("logs", "nats") for p in (platform.data / d).rglob("*") if p.is_file()]
    assert kept
    assert [p for p in kept if any(v in p.read_bytes() for v in (b"new-pw", b"old-pw", b"db://flow-value"))] == []
    assert "new-pw" not in json.dumps(task, default=str)


def test_a_task_whose_execution_role_may_not_read_its_secret_stops_and_says_so(ecs, platform, busybox):
    arn = platform.client("secretsmanager").create_secret(Name="flow/closed", SecretString="x")["ARN"]
    powerless = role(platform, "powerless")
    definition = {
        **sleeper(busybox, "true", secrets=[{"name": "A", "valueFrom": arn}]),
        "executionRoleArn": powerless,
    }
    task = run(ecs, definition)
    assert task["stopCode"] == "TaskFailedToStart"
    start = "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed"
    assert task["stoppedReason"].startswith(start)
    assert f"not authorized to perform: secretsmanager:GetSecretValue on resource: {arn}" in task["stoppedReason"]
