"""`roadstead up --runtime docker`: the platform on the machine, its tasks in the engine."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.builders.images import File, busybox_image
from tests.builders.platform import Roadstead, roadstead, sleeper, until
from tests.docker.platforms import forget_images, run

pytestmark = pytest.mark.docker

PAGE = "by its own address"
SUBNETS = {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}


@pytest.fixture(scope="module")
def platform() -> Iterator[Roadstead]:
    with roadstead(runtime="docker", zones=2) as platform:
        serve = File("#!/bin/sh\necho serving\nexec httpd -f -p 80 -h /www\n", mode=0o755)
        image = busybox_image({"/www/index.html": File(PAGE), "/serve": serve})
        ecs = platform.client("ecs")
        ecs.create_cluster(clusterName="up")
        ecs.register_task_definition(**sleeper(platform.push(image, "up/web"), "/serve"))
        yield platform
        registry_port = platform.info["registry_port"]
    forget_images(registry_port)


def start(platform: Roadstead, **given: Any) -> str:
    answer = platform.client("ecs").run_task(
        cluster="up", taskDefinition="sleeper", launchType="FARGATE", networkConfiguration=SUBNETS, **given
    )
    return answer["tasks"][0]["taskArn"]


def described(platform: Roadstead, task: str, status: str) -> dict:
    def there() -> dict | None:
        found = platform.client("ecs").describe_tasks(cluster="up", tasks=[task])["tasks"][0]
        return found if found["lastStatus"] == status else None

    return until(there)


def address(task: dict) -> str:
    return next(d["value"] for a in task["attachments"] for d in a["details"] if d["name"] == "privateIPv4Address")


def page(task: dict) -> str:
    def answer() -> str:
        try:
            with urllib.request.urlopen(f"http://{address(task)}/", timeout=3) as answer:
                return answer.read().decode()
        except OSError:
            return ""

    return until(answer)


def test_a_task_has_an_address_of_its_own(platform: Roadstead) -> None:
    first, second = (described(platform, start(platform), "RUNNING") for _ in range(2))
    assert address(first) != address(second)
    assert (page(first), page(second)) == (PAGE, PAGE)


def test_tasks_find_each_other_by_name(platform: Roadstead) -> None:
    cloud_map = platform.client("servicediscovery", inject_host_prefix=False)
    operation = cloud_map.create_private_dns_namespace(Name="up.local", Vpc="vpc-local")["OperationId"]
    namespace = cloud_map.get_operation(OperationId=operation)["Operation"]["Targets"]["NAMESPACE"]
    records = {"NamespaceId": namespace, "DnsRecords": [{"Type": "A", "TTL": 5}]}
    registry = cloud_map.create_service(Name="web", DnsConfig=records)["Service"]["Arn"]
    ecs = platform.client("ecs")
    ecs.create_service(
        cluster="up",
        serviceName="web",
        taskDefinition="sleeper",
        desiredCount=1,
        launchType="FARGATE",
        networkConfiguration=SUBNETS,
        serviceRegistries=[{"registryArn": registry}],
    )
    ask = f"until wget -qO /tmp/got http://web.up.local/; do sleep 0.2; done; grep -q '{PAGE}' /tmp/got && exit 42"
    overrides = {"containerOverrides": [{"name": "main", "command": ["sh", "-c", ask]}]}
    task = start(platform, overrides=overrides)
    assert described(platform, task, "STOPPED")["containers"][0]["exitCode"] == 42
    ecs.delete_service(cluster="up", service="web", force=True)


def test_two_platforms_of_one_engine_leave_each_others_tasks_alone(platform: Roadstead) -> None:
    task = start(platform)
    described(platform, task, "RUNNING")
    with roadstead(runtime="docker", zones=2):
        pass
    assert page(described(platform, task, "RUNNING")) == PAGE


def test_tasks_survive_the_platform_and_those_that_did_not_are_known(platform: Roadstead) -> None:
    lives, dies = start(platform), start(platform)
    described(platform, lives, "RUNNING")
    described(platform, dies, "RUNNING")
    name = run("docker", "ps", "--filter", f"name={dies.rpartition('/')[2]}", "--format", "{{.Names}}")
    platform.kill()
    run("docker", "kill", *(each for each in name.split() if not each.endswith(".pause")))
    platform.up("--zones", "2", "--runtime", "docker")
    assert described(platform, dies, "STOPPED")["containers"][0]["exitCode"] == 137
    assert page(described(platform, lives, "RUNNING")) == PAGE
