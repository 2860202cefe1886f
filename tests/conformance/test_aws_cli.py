"""The AWS CLI, pointed here by `roadstead env` alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders.platform import sleeper, until

AWS = str(Path(sys.executable).parent / "aws")


@pytest.fixture(scope="module")
def aws(platform):
    environment = platform.environment()

    def call(*arguments: str, fails: bool = False) -> dict | str:
        run = subprocess.run(
            [AWS, *arguments, "--output", "json"], env=environment, capture_output=True, text=True, check=False
        )
        assert (run.returncode != 0) == fails, run.stderr
        return run.stderr if fails else json.loads(run.stdout or "{}")

    return call


def test_clusters_are_made_listed_and_deleted(aws):
    arn = aws("ecs", "create-cluster", "--cluster-name", "cli")["cluster"]["clusterArn"]
    assert arn in aws("ecs", "list-clusters")["clusterArns"]
    aws("ecs", "delete-cluster", "--cluster", "cli")
    assert arn not in aws("ecs", "list-clusters")["clusterArns"]


def test_a_task_definition_file_runs_unchanged(aws, busybox, tmp_path):
    file = tmp_path / "task-definition.json"
    file.write_text(json.dumps(sleeper(busybox, "true")))
    aws("ecs", "register-task-definition", "--cli-input-json", f"file://{file}")
    aws("ecs", "create-cluster", "--cluster-name", "cli-tasks")
    where = ("--cluster", "cli-tasks", "--launch-type", "FARGATE")
    network = "awsvpcConfiguration={subnets=[subnet-local]}"
    answer = aws("ecs", "run-task", *where, "--task-definition", "sleeper", "--network-configuration", network)
    arn = answer["tasks"][0]["taskArn"]
    aws("ecs", "wait", "tasks-stopped", "--cluster", "cli-tasks", "--tasks", arn)
    (task,) = aws("ecs", "describe-tasks", "--cluster", "cli-tasks", "--tasks", arn)["tasks"]
    assert task["containers"][0]["exitCode"] == 0


def test_an_express_service_is_made_of_an_image_and_two_roles(aws, busybox):
    roles = ("--execution-role-arn", "arn:aws:iam::000000000000:role/execution",
             "--infrastructure-role-arn", "arn:aws:iam::000000000000:role/infrastructure")  # fmt: skip
    container = json.dumps({"image": busybox, "command": ["httpd", "-f", "-p", "80"]})
    made = aws("ecs", "create-express-gateway-service", *roles, "--primary-container", container,
               "--health-check-path", "/etc/passwd", "--scaling-target", "minTaskCount=1,maxTaskCount=2")  # fmt: skip
    arn = made["service"]["serviceArn"]
    name = made["service"]["serviceName"]
    aws("ecs", "wait", "services-stable", "--services", name)
    shown = aws("ecs", "describe-express-gateway-service", "--service-arn", arn)["service"]
    assert (
        shown["activeConfigurations"][0]["ingressPaths"] == made["service"]["activeConfigurations"][0]["ingressPaths"]
    )
    told = aws("ecs", "delete-express-gateway-service", "--service-arn", arn)["service"]["status"]["statusCode"]
    assert told == "DRAINING"
    aws("ecs", "wait", "services-inactive", "--services", name)


def test_it_says_who_it_is(aws):
    assert aws("sts", "get-caller-identity")["Account"] == "000000000000"


def test_an_error_is_the_one_that_aws_gives(aws):
    assert "RepositoryNotFoundException" in aws(
        "ecr", "describe-repositories", "--repository-names", "nosuch", fails=True
    )
    assert "ClusterNotFoundException" in aws("ecs", "list-tasks", "--cluster", "nosuch", fails=True)


def test_what_does_not_exist_yet_says_so(aws):
    assert "not implemented" in aws("eks", "list-clusters", fails=True)


def test_pages_are_walked(aws):
    for i in range(5):
        aws("ecs", "create-cluster", "--cluster-name", f"page-{i}")
    arns = aws("ecs", "list-clusters", "--page-size", "2")["clusterArns"]
    assert len([a for a in arns if "/page-" in a]) == 5
    until(lambda: len(set(arns)) == len(arns))
