"""Bad images, advisories, policies: a clear error at the place where a person would look."""

import pytest

from services.testing.platform import PlatformFailed
from tests.builders.images import image
from tests.builders.platform import FARGATE, sleeper, until

CLUSTER = "bad"


@pytest.fixture(scope="module")
def ecs(platform):
    client = platform.client("ecs")
    client.create_cluster(clusterName=CLUSTER)
    return client


@pytest.fixture(scope="module")
def no_tar(platform):
    """An image whose one layer is no tar; its URI."""
    return platform.push(image([b"this is no tar\n" * 100], command=["true"]), "no-tar")


@pytest.fixture
def unable(ecs):
    """Makes a service of one image, whose tasks can't start."""
    made = []

    def make(name, uri):
        ecs.register_task_definition(**{**sleeper(uri), "family": name})
        ecs.create_service(cluster=CLUSTER, serviceName=name, taskDefinition=name, desiredCount=1, **FARGATE)
        made.append(name)
        until(
            lambda: any("unable to consistently start tasks" in message for message in told(ecs, name)), 60, every=0.05
        )
        arns = ecs.list_tasks(cluster=CLUSTER, serviceName=name, desiredStatus="STOPPED")["taskArns"]
        return {t["stoppedReason"] for t in ecs.describe_tasks(cluster=CLUSTER, tasks=arns)["tasks"]}

    yield make
    for name in made:
        ecs.delete_service(cluster=CLUSTER, service=name, force=True)


def told(ecs, name) -> list[str]:
    """What its events say."""
    (service,) = ecs.describe_services(cluster=CLUSTER, services=[name])["services"]
    return [event["message"] for event in service["events"]]


def test_an_image_that_is_damaged_is_told_of_by_tasks_and_service_and_by_its_scan(platform, unable, no_tar):
    (reason,) = unable("no-tar", no_tar)
    assert reason.startswith("CannotPullContainerError: failed to register layer sha256:")
    scan = {"repositoryName": "no-tar", "imageId": {"imageTag": "1"}}
    ecr = platform.client("ecr")
    status = until(
        lambda: (s := ecr.describe_image_scan_findings(**scan)["imageScanStatus"])["status"] == "FAILED" and s, 60
    )
    assert "is no tar" in status["description"]


def test_an_image_that_is_not_there_is_told_of_by_tasks_and_service(unable, no_tar):
    (reason,) = unable("nosuch", no_tar.replace(":1", ":nosuch"))
    assert reason.startswith("CannotPullContainerError: ")
    assert "nosuch" in reason


def test_advisories_that_are_none_are_refused_by_the_command_that_brings_them(platform, tmp_path):
    (tmp_path / "some.osv.jsonl.gz").write_bytes(b"no gzip")
    for path in (tmp_path, tmp_path / "nosuch"):
        with pytest.raises(PlatformFailed, match=str(path)):
            platform.command("advisories", "import", str(path))


def test_a_policy_that_is_none_is_refused_by_the_call_that_brings_it(platform):
    iam = platform.client("iam")
    with pytest.raises(iam.exceptions.MalformedPolicyDocumentException):
        iam.create_role(RoleName="bad", AssumeRolePolicyDocument='{"Statement": "none"}')
