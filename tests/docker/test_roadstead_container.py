"""`RoadsteadContainer`: the whole platform in one container, as a user's testcontainers suite has it."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from roadstead.testing import RoadsteadContainer, until
from tests.builders.images import File, busybox_image
from tests.builders.platform import FARGATE, sleeper
from tests.docker.platforms import IMAGE, forget_images, run

pytestmark = pytest.mark.docker


def task_containers(definition: str) -> list[str]:
    """The engine's containers of tasks of this family, running or not."""
    label = f"label=com.amazonaws.ecs.task-definition-family={definition}"
    return run("docker", "ps", "--all", "--quiet", "--filter", label).split()


@pytest.fixture(scope="module")
def roadstead() -> Iterator[RoadsteadContainer]:
    with RoadsteadContainer(IMAGE) as running:
        yield running
        port = running.registry_port
    assert task_containers("container-web") == [], "tasks outlive their platform"
    forget_images(port)


def test_a_service_is_deployed_and_called(roadstead):
    serve = File("#!/bin/sh\nexec httpd -f -p 80 -h /www\n", mode=0o755)
    image = busybox_image({"/www/index.html": File("from a container"), "/serve": serve})
    ecs = roadstead.client("ecs")
    ecs.create_cluster()
    definition = sleeper(roadstead.push(image, "web"), "/serve") | {"family": "container-web"}
    ecs.register_task_definition(**definition)
    ecs.create_service(serviceName="web", taskDefinition="container-web", desiredCount=1, **FARGATE)
    ecs.get_waiter("services_stable").wait(services=["web"], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    (address,) = roadstead.addresses("web")

    def answered() -> str:
        try:
            with urllib.request.urlopen(f"http://{address}/", timeout=3) as answer:
                return answer.read().decode()
        except OSError:
            return ""

    assert until(answered) == "from a container"
    assert task_containers("container-web")


def test_app_runner_says_that_it_is_not_served(roadstead):
    source = {"ImageRepository": {"ImageIdentifier": "localhost:5000/web:1", "ImageRepositoryType": "ECR"}}
    with pytest.raises(ClientError, match="can't be served here"):
        roadstead.client("apprunner").create_service(ServiceName="page", SourceConfiguration=source)


def test_what_a_program_under_test_is_told_leads_to_it(roadstead):
    assert set(roadstead.variables) == {
        "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"
    }  # fmt: skip
    with urllib.request.urlopen(roadstead.url, timeout=5) as answer:
        assert b"roadstead edge" in answer.read()
    assert "Roadstead is up" in roadstead.last_words()
