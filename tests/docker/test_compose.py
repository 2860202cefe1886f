"""`docker-compose up`, as a user of it: an image pushed, run as a service, killed, replaced, served over HTTPS; down,
up again, and then everything down."""

from __future__ import annotations

import json
import runpy
import secrets
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.images import File, busybox_image
from tests.builders.platform import until
from tests.builders.visitors import Visitors
from tests.docker.platforms import IMAGE, ROOT, ContainerPlatform, free_port, run

pytestmark = pytest.mark.docker

STAY = {"Delay": 1, "MaxAttempts": 120}
AGENTS = {"agent-a", "agent-b", "agent-c"}
SERVICES = {
    "nats",
    "identity",
    "scheduler",
    "registry",
    "monitor",
    "discovery",
    "scanner",
    "autoscaler",
    "events",
    "network",
    "app_runner_gateway",
    "edge",
    *AGENTS,
}


class Compose:
    """One project of the compose file at the root."""

    def __init__(self, directory: Path) -> None:
        self.project = f"roadstead-test-{secrets.token_hex(3)}"
        self.file = directory / ".env"
        program = runpy.run_path(str(ROOT / "deploy" / "compose_env.py"))
        text = program["complete"]((ROOT / "docker-compose.yml").read_text(), "")
        known = program["parse"](text)
        self.platform = ContainerPlatform(
            port=free_port(),
            access_key_id=known["ROADSTEAD_ACCESS_KEY_ID"],
            secret=known["ROADSTEAD_SECRET_ACCESS_KEY"],
            registry_port=free_port(),
            nodes=self.project,
        )
        settings = {
            "ROADSTEAD_IMAGE": IMAGE,
            "ROADSTEAD_PORT": self.platform.port,
            "ROADSTEAD_REGISTRY_PORT": self.platform.registry_port,
            "ROADSTEAD_DNS_PORT": free_port(),
            "ROADSTEAD_HTTPS_PORT": free_port(),
            "ROADSTEAD_NODE_PREFIX": self.project,
        }
        self.file.write_text(text + "".join(f"{name}={value}\n" for name, value in settings.items()))

    def __call__(self, *arguments: str, check: bool = True) -> str:
        """Run docker-compose (or `docker compose`)."""
        program = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]
        return run(*program, "--env-file", str(self.file), "-p", self.project, *arguments, check=check, timeout_s=180)

    def states(self) -> dict[str, str]:
        """The health of each service's container ("running" where it has no check)."""
        found = {}
        for container in self("ps", "-q").split():
            shown = json.loads(run("docker", "inspect", container))[0]
            name = shown["Config"]["Labels"]["com.docker.compose.service"]
            found[name] = shown["State"].get("Health", {}).get("Status", shown["State"]["Status"])
        return found


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    compose = Compose(tmp_path_factory.mktemp("compose"))
    try:
        compose("up", "-d", "--no-build")
        yield compose
    finally:
        compose("down", "-v", "-t", "5", check=False)
        compose.platform.remove_tasks()


def running(ecs) -> list[dict]:
    arns = ecs.list_tasks(cluster="compose", serviceName="web")["taskArns"]
    tasks = ecs.describe_tasks(cluster="compose", tasks=arns)["tasks"] if arns else []
    return [task for task in tasks if task["lastStatus"] == "RUNNING"]


def host_port(task: dict) -> int:
    return task["containers"][0]["networkBindings"][0]["hostPort"]


def page(task: dict) -> str:
    """What the task serves, as soon as it does: RUNNING is the process, not yet its socket."""

    def answer() -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{host_port(task)}/", timeout=5) as answer:
                return answer.read().decode()
        except OSError:
            return ""

    return until(answer, 60)


def test_every_service_becomes_healthy(compose: Compose) -> None:
    def healthy() -> bool:
        states = {name: state for name, state in compose.states().items() if name != "provision"}
        return set(states) == SERVICES and set(states.values()) == {"healthy"}

    try:
        until(healthy, 150, every=0.5)
    except AssertionError:
        ill = sorted(name for name, state in compose.states().items() if state != "healthy" and name != "provision")
        pytest.fail(f"not healthy: {ill}\n" + compose("logs", "--no-color", "--tail", "8", *ill, check=False), False)


@pytest.fixture(scope="module")
def uri(compose: Compose) -> str:
    serve = "#!/bin/sh\necho serving\nexec httpd -f -p 80 -h /www\n"
    files = {"/www/index.html": File("from a container"), "/serve": File(serve, mode=0o755)}
    return until_answers(compose.platform, busybox_image(files, command=["/serve"]))


@pytest.fixture(scope="module")
def ecs(compose: Compose, uri: str):
    ecs = compose.platform.client("ecs")
    ecs.create_cluster(clusterName="compose")
    ecs.register_task_definition(
        family="web",
        networkMode="bridge",
        containerDefinitions=[
            {
                "name": "web",
                "image": uri,
                "memory": 64,
                "essential": True,
                "stopTimeout": 2,
                "portMappings": [{"containerPort": 80, "hostPort": 0}],
            }
        ],
    )
    ecs.create_service(cluster="compose", serviceName="web", taskDefinition="web", desiredCount=2)
    ecs.get_waiter("services_stable").wait(cluster="compose", services=["web"], WaiterConfig=STAY)
    return ecs


def until_answers(platform: ContainerPlatform, image) -> str:
    """The push, as soon as the services are there."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return platform.push(image, "compose/web")
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)


def test_a_service_runs_in_several_zones_and_answers_on_its_host_ports(compose: Compose, ecs) -> None:
    tasks = until(lambda: len(running(ecs)) == 2 and running(ecs))
    assert len({task["availabilityZone"] for task in tasks}) == 2
    assert [page(task) for task in tasks] == ["from a container"] * 2
    assert len(compose.platform.containers()) == 2


def test_a_killed_container_is_replaced(compose: Compose, ecs) -> None:
    before = {task["taskArn"] for task in until(lambda: len(running(ecs)) == 2 and running(ecs))}
    run("docker", "kill", compose.platform.containers()[0])
    tasks = until(lambda: [task for task in running(ecs) if task["taskArn"] not in before], 60)
    assert page(tasks[0]) == "from a container"
    until(lambda: len(running(ecs)) == 2, 60)


def test_tasks_outlive_their_agent_and_are_adopted(compose: Compose, ecs) -> None:
    tasks = {task["taskArn"] for task in until(lambda: len(running(ecs)) == 2 and running(ecs))}
    containers = set(compose.platform.containers())
    compose("restart", "-t", "5", "agent-a", "agent-b", "agent-c")
    agents = ("agent-a", "agent-b", "agent-c")
    until(lambda: {compose.states().get(name) for name in agents} == {"healthy"}, 30, every=0.3)
    ecs.get_waiter("services_stable").wait(cluster="compose", services=["web"], WaiterConfig=STAY)
    assert {task["taskArn"] for task in running(ecs)} == tasks
    assert set(compose.platform.containers()) == containers


def test_a_deleted_service_leaves_no_container(compose: Compose, ecs) -> None:
    ecs.delete_service(cluster="compose", service="web", force=True)
    until(lambda: not compose.platform.containers(), 60, every=0.2)


@pytest.fixture(scope="module")
def visitors(compose: Compose, uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitors]:
    """Who asks the URL of an App Runner service, trusting what deploy/README.md tells to trust."""
    app_runner = compose.platform.client("apprunner")
    service = app_runner.create_service(
        ServiceName="page",
        SourceConfiguration={
            "ImageRepository": {
                "ImageIdentifier": uri,
                "ImageRepositoryType": "ECR",
                "ImageConfiguration": {"Port": "80"},
            }
        },
        InstanceConfiguration={"Cpu": "0.25 vCPU", "Memory": "0.5 GB"},
        HealthCheckConfiguration={"Protocol": "HTTP", "Path": "/", "Interval": 1, "Timeout": 2},
    )["Service"]
    authority = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.write_text(compose("exec", "-T", "app_runner_gateway", "cat", "app_runner_gateway/ca.pem"))
    yield Visitors(str(authority), service["ServiceUrl"])
    app_runner.delete_service(ServiceArn=service["ServiceArn"])
    until(lambda: not compose.platform.containers(), 60, every=0.2)


def served(visitors: Visitors) -> None:
    """Wait until the page comes over HTTPS."""
    until(lambda: visitors.once() == (200, "from a container"), 120, every=0.3)


def test_an_app_runner_service_answers_over_https(compose: Compose, visitors: Visitors) -> None:
    served(visitors)
    [instance] = compose.platform.containers()
    compose("restart", "-t", "5", "app_runner_gateway")
    served(visitors)
    compose("up", "-d", "--no-build", "--no-deps", "--force-recreate", "app_runner_gateway")
    served(visitors)
    assert compose.platform.containers() == [instance]


def test_what_runs_outlives_the_platform_and_is_served_again(compose: Compose, visitors: Visitors) -> None:
    served(visitors)
    instances = compose.platform.containers()
    compose("down", "-t", "5")
    assert compose("ps", "-q") == ""
    assert compose.platform.containers() == instances
    compose("up", "-d", "--no-build")
    served(visitors)
    assert compose.platform.containers() == instances


def test_no_service_runs_as_root_but_the_agents(compose: Compose) -> None:
    users = {}
    for name in SERVICES:
        users[name] = run("docker", "inspect", "--format", "{{.Config.User}}", compose("ps", "-q", name))
    assert {name for name, user in users.items() if user != "10001:10001"} == {"agent-a", "agent-b", "agent-c"}


def test_it_does_not_start_without_secrets(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    program = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]
    asked = subprocess.run(
        [*program, "--env-file", str(tmp_path / "empty"), "config"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert asked.returncode != 0
    assert "compose_env.py" in asked.stderr
