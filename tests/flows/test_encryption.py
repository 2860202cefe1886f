"""A repository with a key of one's own: its image runs, and what runs goes on when the key is disabled."""

import pytest
from botocore.exceptions import ClientError

from tests.builders.images import busybox_image
from tests.builders.platform import FARGATE, sleeper, until

CLUSTER = "sealed"


@pytest.fixture(scope="module")
def key(platform):
    return platform.client("kms").create_key(Description="of the shop")["KeyMetadata"]["Arn"]


@pytest.fixture(scope="module")
def image(platform, key):
    platform.client("ecr").create_repository(
        repositoryName="sealed", encryptionConfiguration={"encryptionType": "KMS", "kmsKey": key}
    )
    return platform.push(busybox_image({"/etc/motd": "of a sealed image"}), "sealed")


def started(ecs, definition):
    task = ecs.run_task(cluster=CLUSTER, taskDefinition=definition, **FARGATE)["tasks"][0]["taskArn"]

    def settled():
        (found,) = ecs.describe_tasks(cluster=CLUSTER, tasks=[task])["tasks"]
        return found if found["lastStatus"] in ("RUNNING", "STOPPED") else None

    return until(settled, 60)


def test_a_task_runs_from_a_sealed_image_and_goes_on_without_its_key(platform, key, image):
    ecs, kms, ecr = (platform.client(api) for api in ("ecs", "kms", "ecr"))
    ecs.create_cluster(clusterName=CLUSTER)
    definition = ecs.register_task_definition(**sleeper(image))["taskDefinition"]["taskDefinitionArn"]
    first = started(ecs, definition)
    assert first["lastStatus"] == "RUNNING"

    kms.disable_key(KeyId=key)

    def shut():
        return ecr.batch_get_image(repositoryName="sealed", imageIds=[{"imageTag": "1"}])["failures"]

    (failure,) = until(shut, 30)
    assert (failure["failureCode"], "is disabled" in failure["failureReason"]) == ("KmsError", True)
    with pytest.raises(ClientError, match="KmsException"):
        ecr.initiate_layer_upload(repositoryName="sealed")
    (still,) = ecs.describe_tasks(cluster=CLUSTER, tasks=[first["taskArn"]])["tasks"]
    assert still["lastStatus"] == "RUNNING"

    kms.enable_key(KeyId=key)
    until(lambda: not shut(), 30)
    assert started(ecs, definition)["lastStatus"] == "RUNNING"
