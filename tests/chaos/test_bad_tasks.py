"""Tasks that do not do as they are told: a service keeps its count, says what is the matter, and nobody is doubled."""

from itertools import pairwise

import pytest

from tests.builders.images import File, busybox_image
from tests.builders.platform import FARGATE, processes, sleeper, until

CLUSTER = "bad-tasks"
SLEEP = "86417"


@pytest.fixture(scope="module")
def ecs(platform):
    client = platform.client("ecs")
    client.create_cluster(clusterName=CLUSTER)
    return client


@pytest.fixture
def served(ecs):
    """Makes a service of these tasks."""
    made = []

    def make(name, definition, count=1):
        ecs.register_task_definition(**{**definition, "family": name})
        ecs.create_service(cluster=CLUSTER, serviceName=name, taskDefinition=name, desiredCount=count, **FARGATE)
        made.append(name)

    yield make
    for name in made:
        ecs.delete_service(cluster=CLUSTER, service=name, force=True)


def tasks(ecs, name, status="RUNNING"):
    arns = ecs.list_tasks(cluster=CLUSTER, serviceName=name, desiredStatus=status)["taskArns"]
    return ecs.describe_tasks(cluster=CLUSTER, tasks=arns)["tasks"] if arns else []


def running(ecs, name, count=1):
    found = [t for t in tasks(ecs, name) if t["lastStatus"] == "RUNNING"]
    return found if len(found) == count else None


def told(ecs, name) -> list[str]:
    (service,) = ecs.describe_services(cluster=CLUSTER, services=[name])["services"]
    return [event["message"] for event in service["events"]]


def test_a_container_that_ignores_sigterm_is_killed_after_its_stop_timeout(platform, ecs, served):
    uri = platform.push(busybox_image(), "busybox")
    served("stubborn", sleeper(uri, "sh", "-c", f"trap '' TERM; exec sleep {SLEEP}", stopTimeout=2))
    until(lambda: running(ecs, "stubborn"))
    until(lambda: processes(platform.data, "sleep", SLEEP))
    ecs.update_service(cluster=CLUSTER, service="stubborn", desiredCount=0)
    (stopped,) = until(lambda: [t for t in tasks(ecs, "stubborn", "STOPPED") if t["lastStatus"] == "STOPPED"])
    assert stopped["containers"][0]["exitCode"] == 137
    assert (stopped["executionStoppedAt"] - stopped["stoppingAt"]).total_seconds() >= 2
    until(lambda: not processes(platform.data, "sleep", SLEEP))


def test_one_that_crashes_is_started_again_with_growing_waits_and_the_service_says_so(platform, ecs, served):
    uri = platform.push(busybox_image(), "busybox")
    served("crashing", sleeper(uri, "sh", "-c", "exit 3"))
    until(lambda: any("unable to consistently start tasks successfully" in m for m in told(ecs, "crashing")))
    until(lambda: len(tasks(ecs, "crashing", "STOPPED")) >= 4)
    found = tasks(ecs, "crashing", "STOPPED")
    began = sorted(t["createdAt"].timestamp() for t in found)
    waits = [later - before for before, later in pairwise(began)]
    assert [wait >= least for wait, least in zip(waits[1:3], (1, 2), strict=True)] == [True, True]
    assert {(t["stopCode"], t["containers"][0]["exitCode"]) for t in found} == {("EssentialContainerExited", 3)}


def test_an_image_that_vanishes_is_told_of_and_the_count_is_reached_again_when_it_is_back(platform, ecs, served):
    image = busybox_image({"/www/vanishes": File("once")})
    uri = platform.push(image, "vanishing")
    served("vanishing", sleeper(uri, "sleep", "86418"))
    (first,) = until(lambda: running(ecs, "vanishing"))
    gone = platform.client("ecr").batch_delete_image(repositoryName="vanishing", imageIds=[{"imageTag": "1"}])
    assert gone["failures"] == []
    ecs.stop_task(cluster=CLUSTER, task=first["taskArn"])
    until(lambda: any(t.get("stoppedReason", "").startswith("CannotPullContainerError") for t in
                      tasks(ecs, "vanishing", "STOPPED")))  # fmt: skip
    assert platform.push(image, "vanishing") == uri
    (again,) = until(lambda: running(ecs, "vanishing"))
    assert again["taskArn"] != first["taskArn"]
    until(lambda: len(processes(platform.data, "sleep", "86418")) == 1)
