"""What a task definition says of its containers holds for the real ones."""

import base64
import json
import shutil

import pytest

from tests.builders.images import busybox_image
from tests.builders.link import Link
from tests.builders.platform import FARGATE, sleeper, until

CLUSTER = "containers"


@pytest.fixture(scope="module")
def ecs(platform):
    client = platform.client("ecs")
    client.create_cluster(clusterName=CLUSTER)
    return client


def run(ecs, definition: dict, **arguments) -> dict:
    """Run it to its end; the stopped task."""
    family = ecs.register_task_definition(**definition)["taskDefinition"]["taskDefinitionArn"]
    answer = ecs.run_task(cluster=CLUSTER, taskDefinition=family, **FARGATE, **arguments)
    assert answer["failures"] == []
    arn = answer["tasks"][0]["taskArn"]

    def ended():
        task = ecs.describe_tasks(cluster=CLUSTER, tasks=[arn])["tasks"][0]
        return task if task["lastStatus"] == "STOPPED" else None

    return until(ended, 40)


def output(platform, task: dict, container: str = "main") -> list[str]:
    """What it wrote, as CloudWatch Logs has it."""
    logs = platform.client("logs")
    stream = f"t/{container}/{task['taskArn'].rsplit('/', 1)[1]}"

    def lines():
        try:
            answer = logs.get_log_events(logGroupName="/containers", logStreamName=stream, startFromHead=True)
        except logs.exceptions.ResourceNotFoundException:
            return None
        return [event["message"] for event in answer["events"]] or None

    return until(lines)


LOGGED = {
    "logConfiguration": {
        "logDriver": "awslogs",
        "options": {
            "awslogs-group": "/containers",
            "awslogs-region": "us-east-1",
            "awslogs-stream-prefix": "t",
            "awslogs-create-group": "true",
        },
    }
}


def test_a_container_over_its_memory_dies_with_137_and_the_task_says_so(ecs, busybox):
    hungry = ("sh", "-c", "x=0123456789abcdef; while true; do x=$x$x; done")
    task = run(ecs, sleeper(busybox, *hungry, memory=32))
    container = task["containers"][0]
    assert (container["exitCode"], container["reason"].split(":")[0]) == (137, "OutOfMemoryError")


def test_an_image_that_does_not_exist_stops_the_task_with_the_reason(ecs, busybox):
    task = run(ecs, sleeper(busybox.replace("busybox:1", "busybox:nosuch")))
    assert (task["stopCode"], task["stoppedReason"].split(":")[0]) == ("TaskFailedToStart", "CannotPullContainerError")
    assert "nosuch" in task["stoppedReason"]


def test_a_command_that_does_not_exist_stops_the_task_with_the_reason(ecs, busybox):
    task = run(ecs, sleeper(busybox, "/no/such/command"))
    assert task["stopCode"] == "TaskFailedToStart"
    assert "/no/such/command" in task["stoppedReason"] + task["containers"][0].get("reason", "")


def test_the_exit_code_of_an_essential_container_ends_the_task(ecs, busybox):
    task = run(ecs, sleeper(busybox, "sh", "-c", "exit 3"))
    assert (task["stopCode"], task["stoppedReason"], task["containers"][0]["exitCode"]) == (
        "EssentialContainerExited",
        "Essential container in task exited",
        3,
    )


def test_environment_user_and_working_directory_are_as_defined_and_overridden(ecs, platform, busybox):
    say = 'echo "$COLOUR $(id -u) $PWD"'
    definition = sleeper(
        busybox,
        "sh",
        "-c",
        say,
        environment=[{"name": "COLOUR", "value": "red"}],
        user="1000",
        workingDirectory="/tmp",
        **LOGGED,
    )
    override = {"containerOverrides": [{"name": "main", "environment": [{"name": "COLOUR", "value": "blue"}]}]}
    assert output(platform, run(ecs, definition)) == ["red 1000 /tmp"]
    assert output(platform, run(ecs, definition, overrides=override)) == ["blue 1000 /tmp"]


def test_containers_start_in_the_order_they_depend_on_and_share_volumes(ecs, platform, busybox):
    share = {"mountPoints": [{"sourceVolume": "work", "containerPath": "/work"}], **LOGGED}
    definition = sleeper(busybox)
    definition["volumes"] = [{"name": "work"}]
    definition["containerDefinitions"] = [
        {
            "name": "main",
            "image": busybox,
            "essential": True,
            "command": ["cat", "/work/made"],
            "dependsOn": [{"containerName": "first", "condition": "SUCCESS"}],
            **share,
        },
        {
            "name": "first",
            "image": busybox,
            "essential": False,
            "command": ["sh", "-c", "sleep 0.3; echo made by the first > /work/made"],
            **share,
        },
    ]
    task = run(ecs, definition)
    assert output(platform, task) == ["made by the first"]
    assert {c["name"]: c["exitCode"] for c in task["containers"]} == {"main": 0, "first": 0}


def test_a_task_that_became_unhealthy_says_so_and_is_replaced_in_a_service(ecs, busybox):
    check = {"command": ["CMD-SHELL", "test ! -e /sick"], "interval": 5, "timeout": 2, "retries": 1}
    definition = sleeper(busybox, "sh", "-c", "sleep 2; touch /sick; sleep 3600", healthCheck=check)
    definition["family"] = "sick"
    ecs.register_task_definition(**definition)
    ecs.create_service(cluster=CLUSTER, serviceName="sick", taskDefinition="sick", desiredCount=1, **FARGATE)

    def said():
        events = ecs.describe_services(cluster=CLUSTER, services=["sick"])["services"][0]["events"]
        return any("health" in event["message"] for event in events)

    try:
        until(said, 40)
        stopped = until(lambda: ecs.list_tasks(cluster=CLUSTER, family="sick", desiredStatus="STOPPED")["taskArns"])
        assert stopped
    finally:
        ecs.delete_service(cluster=CLUSTER, service="sick", force=True)


def test_the_metadata_endpoint_tells_a_task_who_it_is(ecs, platform, busybox):
    ask = "wget -q -O - $ECS_CONTAINER_METADATA_URI_V4/task"
    task = run(ecs, sleeper(busybox, "sh", "-c", ask, **LOGGED))
    told = json.loads("".join(output(platform, task)))
    assert (told["TaskARN"], told["Family"]) == (task["taskArn"], "sleeper")


def test_the_credentials_endpoint_gives_a_session_of_the_task_s_role(ecs, platform, busybox):
    ask = "wget -q -O - http://169.254.170.2$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
    trust = {"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": trust})
    role = platform.client("iam").create_role(RoleName="shop", AssumeRolePolicyDocument=document)["Role"]["Arn"]
    task = run(ecs, {**sleeper(busybox, "sh", "-c", ask, **LOGGED), "taskRoleArn": role})
    told = json.loads("".join(output(platform, task)))
    session = platform.__class__(
        port=platform.port, access_key_id=told["AccessKeyId"], secret=told["SecretAccessKey"]
    ).client("sts")
    session._request_signer._credentials.token = told["Token"]
    assert session.get_caller_identity()["Arn"].startswith("arn:aws:sts::000000000000:assumed-role/shop/")


def test_a_bridge_task_answers_on_its_host_port(ecs, busybox):
    import urllib.request

    definition = sleeper(busybox, "httpd", "-f", "-p", "80", "-h", "/etc", portMappings=[{"containerPort": 80}])
    definition |= {"networkMode": "bridge", "family": "bridged", "requiresCompatibilities": ["EC2"]}
    ecs.register_task_definition(**definition)
    arn = ecs.run_task(cluster=CLUSTER, taskDefinition="bridged", launchType="EC2")["tasks"][0]["taskArn"]

    def bound():
        task = ecs.describe_tasks(cluster=CLUSTER, tasks=[arn])["tasks"][0]
        assert task["lastStatus"] != "STOPPED", task.get("stoppedReason")
        return task["containers"][0].get("networkBindings") if task["lastStatus"] == "RUNNING" else None

    (binding,) = until(bound)

    def served() -> bytes:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{binding['hostPort']}/passwd", timeout=3) as answer:
                return answer.read()
        except OSError:
            return b""

    assert b"root" in until(served)
    ecs.stop_task(cluster=CLUSTER, task=arn)


def test_a_tag_that_was_moved_runs_the_image_it_names_now(ecs, platform):
    said = []
    for version in ("one", "two"):
        uri = platform.push(busybox_image(command=["echo", version]), "moving", "latest")
        definition = sleeper(uri, **LOGGED)
        del definition["containerDefinitions"][0]["command"]
        said.append(output(platform, run(ecs, definition)))
    assert said == [["one"], ["two"]]


def test_an_efs_file_system_is_the_same_directory_for_all_tasks(ecs, platform, busybox):
    volume = {"name": "files", "efsVolumeConfiguration": {"fileSystemId": "fs-flow", "rootDirectory": "/shop"}}
    points = [{"sourceVolume": "files", "containerPath": "/files"}]
    writes = sleeper(busybox, "sh", "-c", "echo kept > /files/it", mountPoints=points)
    written = run(ecs, {**writes, "family": "efs-writes", "volumes": [volume]})
    assert written["containers"][0]["exitCode"] == 0
    assert (platform.data / "efs" / "fs-flow" / "shop" / "it").read_text() == "kept\n"
    reads = sleeper(busybox, "sh", "-c", "test $(cat /files/it) = kept", mountPoints=points)
    read = run(ecs, {**reads, "family": "efs-reads", "volumes": [volume]})
    assert read["containers"][0]["exitCode"] == 0


@pytest.mark.parametrize(
    ("members", "container", "why"),
    [
        ({"enableFaultInjection": True}, {}, "enableFaultInjection"),
        ({}, {"firelensConfiguration": {"type": "fluentbit"}}, "log with the driver awslogs"),
        ({}, {"logConfiguration": {"logDriver": "awsfirelens", "options": {"Name": "x"}}}, "'awsfirelens'"),
    ],
)
def test_what_no_node_can_do_is_refused_when_it_is_registered(ecs, busybox, members, container, why):
    with pytest.raises(ecs.exceptions.ClientException, match=why):
        ecs.register_task_definition(**{**sleeper(busybox, "true", **container), "family": "refused", **members})
    assert ecs.list_task_definitions(familyPrefix="refused")["taskDefinitionArns"] == []


def test_an_image_of_a_private_registry_is_pulled_with_the_login_in_a_secret(ecs, platform, busybox):
    elsewhere = Link(int(platform.registry.rpartition(":")[2]))  # the same registry, which no one knows as ours there
    token = platform.client("ecr").get_authorization_token()["authorizationData"][0]["authorizationToken"]
    login = base64.b64decode(token).decode().partition(":")
    secrets, iam = platform.client("secretsmanager"), platform.client("iam")
    right, wrong = (
        secrets.create_secret(Name=name, SecretString=text)["ARN"]
        for name, text in (("hub", json.dumps({"username": login[0], "password": login[2]})), ("odd", "no JSON"))
    )
    trust = {"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}
    may = {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": [right, wrong]}
    policy = lambda statement: json.dumps({"Version": "2012-10-17", "Statement": [statement]})  # noqa: E731
    role = iam.create_role(RoleName="hub-reader", AssumeRolePolicyDocument=policy(trust))["Role"]["Arn"]
    iam.put_role_policy(RoleName="hub-reader", PolicyName="own", PolicyDocument=policy(may))
    image = f"127.0.0.1:{elsewhere.port}/{busybox.partition('/')[2]}"

    def pulled(**container) -> dict:
        return run(ecs, {**sleeper(image, "true", **container), "family": "private", "executionRoleArn": role})

    try:
        assert pulled()["stoppedReason"].startswith("CannotPullContainerError: ")
        odd = pulled(repositoryCredentials={"credentialsParameter": wrong})["stoppedReason"]
        assert odd.startswith("ResourceInitializationError: unable to pull secrets or registry auth: "), odd
        for name in (right, "hub"):
            assert pulled(repositoryCredentials={"credentialsParameter": name})["containers"][0]["exitCode"] == 0
    finally:
        elsewhere.close()


def test_a_task_that_wants_more_room_than_its_node_has_does_not_start(ecs, platform, busybox):
    wanted = {"family": "roomy", "ephemeralStorage": {"sizeInGiB": 200}}
    task = run(ecs, {**sleeper(busybox, "true"), **wanted})
    if shutil.disk_usage(platform.data).free >> 30 >= 200:
        assert task["containers"][0]["exitCode"] == 0
    else:
        assert task["stoppedReason"].startswith("ResourceInitializationError: ephemeralStorage: 200 GiB")


def test_a_container_with_the_json_file_driver_runs(ecs, busybox):
    logging = {"logConfiguration": {"logDriver": "json-file", "options": {"max-size": "1m"}}}
    task = run(ecs, {**sleeper(busybox, "echo", "hello", **logging), "family": "json-file"})
    assert task["containers"][0]["exitCode"] == 0
