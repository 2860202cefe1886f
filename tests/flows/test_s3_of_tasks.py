"""What tasks have of S3: environment files, logs of sessions in them. A real S3 server, a platform that knows of it,
real containers."""

import json
import os

import boto3
import pytest

from tests.builders.data_channel import ask, silent
from tests.builders.images import busybox_image
from tests.builders.platform import FARGATE, roadstead, sleeper, until
from tests.builders.seaweed import KEY, SECRET

CLUSTER = "s3"


class Story:
    """The platform, a bucket, and the role that reads it."""

    def __init__(self, platform, bucket, s3) -> None:
        self.platform, self.bucket, self.s3 = platform, bucket, s3
        self.ecs = platform.client("ecs")
        logging = {"logging": "OVERRIDE", "logConfiguration": {"s3BucketName": bucket, "s3KeyPrefix": "exec"}}
        self.ecs.create_cluster(clusterName=CLUSTER, configuration={"executeCommandConfiguration": logging})
        self.image = platform.push(busybox_image(), "busybox")
        self.role = self.made("reader", "s3:GetObject", f"{self.arn}/conf/*")

    @property
    def arn(self) -> str:
        return f"arn:aws:s3:::{self.bucket}"

    def made(self, name: str, action: str, resource: str) -> str:
        """A role for tasks that may do this; its ARN."""
        iam = self.platform.client("iam")
        trust = {"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}
        may = [
            {"Effect": "Allow", "Action": action, "Resource": resource},
            {"Effect": "Allow", "Action": "s3:GetBucketLocation", "Resource": self.arn},
        ]
        arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=policy(trust))["Role"]["Arn"]
        iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=policy(*may))
        return arn

    def put(self, key: str, text: str) -> dict:
        """An object, as an environment file."""
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=text.encode())
        return {"type": "s3", "value": f"{self.arn}/{key}"}

    def run(self, *command: str, overrides: dict | None = None, **container) -> dict:
        """A task, run to its end."""
        definition = sleeper(self.image, *command, **container) | {"family": "files", "executionRoleArn": self.role}
        arn = self.ecs.register_task_definition(**definition)["taskDefinition"]["taskDefinitionArn"]
        (task,) = self.ecs.run_task(cluster=CLUSTER, taskDefinition=arn, overrides=overrides or {}, **FARGATE)["tasks"]

        def ended():
            found = self.ecs.describe_tasks(cluster=CLUSTER, tasks=[task["taskArn"]])["tasks"][0]
            return found if found["lastStatus"] == "STOPPED" else None

        return until(ended, 60)


def policy(*statements: dict) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


@pytest.fixture(scope="module")
def story(seaweed, tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("real containers take root")
    secret = tmp_path_factory.mktemp("keys") / "secret"
    secret.write_text(SECRET)
    keys = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET, "region_name": "us-east-1"}
    set_ = {
        "ROADSTEAD_S3_ENDPOINT": seaweed.endpoint,
        "ROADSTEAD_S3_ACCESS_KEY_ID": KEY,
        "ROADSTEAD_S3_SECRET_ACCESS_KEY_FILE": str(secret),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in set_.items():
            patch.setenv(name, value)
        with roadstead(runtime="oci", zones=1) as platform:
            s3 = boto3.client("s3", endpoint_url=seaweed.endpoint, **keys)
            yield Story(platform, seaweed.bucket(), s3)


def test_a_container_has_the_variables_of_its_files(story):
    files = [
        story.put("conf/first.env", '# who\nWHO="us all"\nONE=1\nOWN=file\nURL=http://a/?b=c\n'),
        story.put("conf/second.env", "WHO=nobody\nTWO=2\n"),
    ]
    check = 'test "$WHO-$ONE-$TWO-$OWN-$URL" = "\\"us all\\"-1-2-definition-http://a/?b=c"'
    own = [{"name": "OWN", "value": "definition"}]
    task = story.run("sh", "-c", check, environmentFiles=files, environment=own)
    assert task["containers"][0]["exitCode"] == 0, task
    other = {"containerOverrides": [{"name": "main", "environmentFiles": files[1:]}]}
    task = story.run("sh", "-c", 'test "$WHO$ONE" = nobody', environmentFiles=files[:1], overrides=other)
    assert task["containers"][0]["exitCode"] == 0, task


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("conf/missing.env", "https response error StatusCode: 404, api error NoSuchKey"),
        ("other.env", "is not authorized to perform: s3:GetObject on resource: "),
    ],
)
def test_a_file_that_is_not_to_be_had_stops_the_task_with_the_reason(story, key, why):
    story.put("other.env", "A=1\n")
    task = story.run("true", environmentFiles=[{"type": "s3", "value": f"{story.arn}/{key}"}])
    assert task["stopCode"] == "TaskFailedToStart"
    said = "ResourceInitializationError: failed to download env files: service call has been retried 1 time(s): "
    assert task["stoppedReason"].startswith(f"{said}operation error S3: GetObject, "), task["stoppedReason"]
    assert why in task["stoppedReason"]


def test_a_file_that_ecs_would_not_take_is_refused(story):
    text = story.put("conf/plain.txt", "A=1\n")
    with pytest.raises(story.ecs.exceptions.ClientException, match=r"must have the extension \.env"):
        story.run("true", environmentFiles=[text])
    override = {"containerOverrides": [{"name": "main", "environmentFiles": [text]}]}
    with pytest.raises(story.ecs.exceptions.ClientException, match=r"must have the extension \.env"):
        story.run("true", overrides=override)


def executed(story, **members):
    """The channel of a session that has ended, and its object's key, in a new task that is stopped then."""
    definition = sleeper(story.image, "sleep", "86421") | {"family": "exec", **members}
    arn = story.ecs.register_task_definition(**definition)["taskDefinition"]["taskDefinitionArn"]
    given = {"cluster": CLUSTER, "taskDefinition": arn, "enableExecuteCommand": True, **FARGATE}
    (task,) = story.ecs.run_task(**given)["tasks"]
    where = {"cluster": CLUSTER, "tasks": [task["taskArn"]]}
    until(lambda: story.ecs.describe_tasks(**where)["tasks"][0]["lastStatus"] == "RUNNING", 60)
    session = story.ecs.execute_command(
        cluster=CLUSTER, task=task["taskArn"], command="sh -c 'echo for the log; exit 3'", interactive=False
    )["session"]
    channel = ask(session, silent)
    story.ecs.stop_task(cluster=CLUSTER, task=task["taskArn"])
    assert channel.output == b"for the log\n"
    assert channel.closed["ExitCode"] == 3
    return channel, f"exec/{session['sessionId']}.log"


def test_a_session_is_logged_to_the_bucket_that_the_cluster_names_as_the_task_s_role_may(story):
    role = story.made("logger", "s3:PutObject", f"{story.arn}/exec/*")
    channel, key = executed(story, taskRoleArn=role)
    assert channel.closed["Output"] == ""
    assert story.s3.get_object(Bucket=story.bucket, Key=key)["Body"].read() == b"for the log\n"


def test_who_is_at_a_session_hears_that_it_could_not_be_logged(story):
    channel, key = executed(story, taskRoleArn=story.role)
    said = channel.closed["Output"]
    assert f"could not be logged to the bucket {story.bucket}: " in said
    assert f"not authorized to perform: s3:PutObject on resource: {story.arn}/{key} " in said
    channel, _ = executed(story)
    assert "the task has no task role" in channel.closed["Output"]
