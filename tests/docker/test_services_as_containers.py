"""NATS and every service as a container of its own, put together by hand: what holds between processes holds here."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import botocore.exceptions
import pytest
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from contracts.grants import OPERATOR, USERS
from tests.builders.images import busybox_image
from tests.builders.platform import sleeper, until
from tests.docker.platforms import IMAGE, ContainerPlatform, free_port, run

pytestmark = pytest.mark.docker

UPSTREAMS = ("identity", "scheduler", "registry", "monitor")
SERVICES = (*UPSTREAMS, "edge", "agent")


class Services:
    """The containers of one platform, on a network of their own."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._network = stack.enter_context(Network())
        self.passwords = {user: secrets.token_hex(16) for user in (OPERATOR, *USERS)}
        self.platform = ContainerPlatform(
            port=free_port(),
            access_key_id="AKIA" + secrets.token_hex(8).upper(),
            secret=secrets.token_hex(20),
            registry_port=free_port(),
            nodes=f"tc-{secrets.token_hex(3)}",
        )
        self.containers: dict[str, DockerContainer] = {}

    def start(self, name: str, module: str, published: int = 0, **environment: str) -> DockerContainer:
        """Start one. Health is asked for by the image's own check."""
        container = DockerContainer(IMAGE).with_command(["python3", "-m", module])
        container.with_network(self._network).with_network_aliases(name)
        user = OPERATOR if name == "provision" else name
        common = {
            "ROADSTEAD_NATS_URL": "nats://nats:4222",
            "ROADSTEAD_NATS_PASSWORD": self.passwords.get(user, ""),
            "ROADSTEAD_INSTANCE": name,
            "ROADSTEAD_PORT": "8080",
        }
        container.with_envs(**common, **environment)
        if published:
            container.with_bind_ports(8080, published)
        if name == "agent":
            container.with_volume_mapping("/var/run/docker.sock", "/var/run/docker.sock", "rw")
            container.with_kwargs(user="0:0", pid_mode="host", cap_add=["SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE"])
        self._stack.enter_context(container)
        self.containers[name] = container
        return container

    def start_all(self) -> None:
        """All, in the order in which they need each other."""
        nats = {f"ROADSTEAD_PASSWORD_{user.upper()}": password for user, password in self.passwords.items()}
        self.start("nats", "deploy.programs.nats", **nats)
        provision = self.start("provision", "deploy.programs.provision")
        assert provision.get_wrapped_container().wait(timeout=60)["StatusCode"] == 0
        platform = self.platform
        keys = {
            "ROADSTEAD_IDENTITY_ACCESS_KEY_ID": platform.access_key_id,
            "ROADSTEAD_IDENTITY_SECRET": platform.secret,
        }
        self.start("identity", "services.identity", **keys)
        self.start("scheduler", "services.scheduler")
        advertised = {"ROADSTEAD_REGISTRY_ADVERTISED": f"localhost:{platform.registry_port}"}
        self.start("registry", "services.registry", platform.registry_port, **advertised)
        self.start("monitor", "services.monitor")
        node = {"ROADSTEAD_AGENT_RUNTIME": "docker", "ROADSTEAD_AGENT_NODE": f"{platform.nodes}-a"}
        self.start("agent", "services.agent", **node)
        upstreams = ",".join(f"{name}=http://{name}:8080" for name in UPSTREAMS)
        self.start("edge", "services.edge", platform.port, ROADSTEAD_EDGE_UPSTREAMS=upstreams)

    def health(self, name: str) -> str:
        """What the engine says of a service's health."""
        shown = run(
            "docker", "inspect", "--format", "{{json .State}}", self.containers[name].get_wrapped_container().id
        )
        state = json.loads(shown)
        return state.get("Health", {}).get("Status", state["Status"])

    def logs(self) -> str:
        """The last lines of each."""
        found = []
        for name, container in self.containers.items():
            text = container.get_wrapped_container().logs(tail=15).decode(errors="replace")
            found.append(f"--- {name}\n{text}")
        return "\n".join(found)


@pytest.fixture(scope="module")
def services() -> Iterator[Services]:
    with ExitStack() as stack:
        services = Services(stack)
        stack.callback(services.platform.remove_tasks)
        try:
            services.start_all()
            until(lambda: all(services.health(name) == "healthy" for name in SERVICES), 60, every=0.5)
        except BaseException:
            print(services.logs())
            raise
        yield services


@pytest.fixture(scope="module")
def uri(services: Services) -> str:
    return services.platform.push(busybox_image(), "tc/app")


@pytest.fixture(scope="module")
def ecs(services: Services, uri: str):
    ecs = services.platform.client("ecs")
    ecs.create_cluster(clusterName="tc")
    ecs.register_task_definition(**sleeper(uri))
    return ecs


def ask(attempt: Callable[[], object], seconds: float = 60) -> object:
    """What an attempt gives as soon as it succeeds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except (botocore.exceptions.ClientError, botocore.exceptions.HTTPClientError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def start_task(ecs, family: str) -> str:
    subnets = {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}
    answer = ecs.run_task(cluster="tc", taskDefinition=family, launchType="FARGATE", networkConfiguration=subnets)
    return answer["tasks"][0]["taskArn"]


def run_task(ecs) -> str:
    task = start_task(ecs, "sleeper")
    ecs.get_waiter("tasks_running").wait(cluster="tc", tasks=[task], WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    return task


def stop(ecs, task: str) -> dict:
    ecs.stop_task(cluster="tc", task=task)
    ecs.get_waiter("tasks_stopped").wait(cluster="tc", tasks=[task], WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    return ecs.describe_tasks(cluster="tc", tasks=[task])["tasks"][0]


def test_a_task_runs_as_a_container_and_stops(services: Services, ecs) -> None:
    task = run_task(ecs)
    [container] = services.platform.containers()
    assert run("docker", "exec", container, "hostname")
    assert stop(ecs, task)["stopCode"] == "UserInitiated"
    assert services.platform.containers() == []


def test_a_task_finds_its_metadata(services: Services, ecs, uri: str) -> None:
    script = 'wget -qO- "$ECS_CONTAINER_METADATA_URI_V4/task" | grep -o \'"Family":"[a-z]*"\'; sleep 3600'
    ecs.register_task_definition(**{**sleeper(uri, "sh", "-c", script), "family": "curious"})
    task = start_task(ecs, "curious")
    [container] = until(services.platform.containers)
    assert until(lambda: run("docker", "logs", container)) == '"Family":"curious"'
    stop(ecs, task)


def test_a_wrong_key_is_refused_at_the_edge(services: Services) -> None:
    stranger = ContainerPlatform(services.platform.port, "AKIA" + "0" * 16, "x")
    with pytest.raises(botocore.exceptions.ClientError, match=r"UnrecognizedClientException|InvalidClientTokenId"):
        stranger.client("ecs").list_clusters()


def test_a_services_password_opens_only_its_own_subjects(services: Services) -> None:
    script = """
import asyncio, os, nats
async def main():
    said = asyncio.Queue()
    client = await nats.connect(
        "nats://nats:4222", user="edge", password=os.environ["ROADSTEAD_NATS_PASSWORD"], error_cb=said.put)
    await client.publish("state.scheduler.task.x", b"{}")
    await client.flush()
    print(await asyncio.wait_for(said.get(), 30))
    await client.close()
asyncio.run(main())
"""
    _, output = services.containers["edge"].exec(["python3", "-c", script])
    assert b"permissions violation for publish" in output.lower()


def test_while_nats_is_away_calls_fail_clearly_and_what_was_acknowledged_is_kept(services: Services, ecs) -> None:
    ecs.create_cluster(clusterName="before")
    nats = services.containers["nats"].get_wrapped_container()
    nats.kill()
    with pytest.raises(botocore.exceptions.ClientError) as failed:
        ecs.create_cluster(clusterName="while")
    assert failed.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    nats.start()
    ask(lambda: ecs.create_cluster(clusterName="after"))
    found = ecs.describe_clusters(clusters=["before", "after"])["clusters"]
    assert {cluster["clusterName"] for cluster in found} == {"before", "after"}


def test_a_restarted_service_knows_what_it_knew(services: Services, ecs) -> None:
    task = run_task(ecs)
    services.containers["scheduler"].get_wrapped_container().restart(timeout=5)
    found = ask(lambda: ecs.describe_tasks(cluster="tc", tasks=[task])["tasks"])
    assert [each["lastStatus"] for each in found] == ["RUNNING"]
    stop(ecs, task)
