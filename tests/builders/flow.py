"""The main flow, for suites that disturb it: push → a service with a name → RUNNING → DNS → a new image → stable.

flow = Flow(platform, "shop")
flow.push("1"); flow.create(); flow.completed()
flow.push("2"); flow.update(); flow.completed()
"""

from __future__ import annotations

import contextlib
import itertools
import urllib.error
import urllib.request
from collections import Counter
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from services.testing.endpoint import Endpoint
from services.testing.pushing import PushFailed
from tests.builders import dns
from tests.builders.images import BuiltImage, File, busybox_image
from tests.builders.platform import FARGATE, processes, sleeper, until
from tests.builders.processes import ProcessPlatform

CLUSTER = "chaos"
NAMESPACE = "chaos.local"
COUNT = 3
PATIENCE_S = 90
_PORTS = itertools.count(8200)


class Patient:
    """A client whose calls are tried again while the edge, or who is behind it, is away."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.exceptions = client.exceptions

    def __getattr__(self, name: str) -> Any:
        def call(**arguments: Any) -> Any:
            return until(lambda: self._once(name, arguments), PATIENCE_S, every=0.05)

        return call

    def _once(self, name: str, arguments: dict[str, Any]) -> Any:
        try:
            return getattr(self._client, name)(**arguments)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 503:
                raise
        except BotoCoreError:
            pass
        return None


class Flow:
    """One service of COUNT tasks, each serving the version that was pushed last, found as `name`.chaos.local."""

    def __init__(self, platform: ProcessPlatform, name: str) -> None:
        self.platform = platform
        self.name = name
        self.version = ""
        self.port = next(_PORTS)
        self.command = ("httpd", "-f", "-p", str(self.port), "-h", "/www")
        self.ask(platform)

    def ask(self, endpoint: Endpoint) -> None:
        """Ask ECS there from now on."""
        self.ecs = Patient(endpoint.client("ecs"))

    def image(self, version: str) -> BuiltImage:
        """What is pushed as this version."""
        return busybox_image({"/www/index.html": File(f"{self.name} {version}")})

    def push(self, version: str) -> str:
        """Push a version and register it; the image's digest."""
        self.version = version

        def pushed() -> bool:
            with contextlib.suppress(PushFailed, BotoCoreError, ClientError):
                return bool(self.platform.push(self.image(version), self.name, version))
            return False

        until(pushed, PATIENCE_S, every=0.1)
        uri = f"{self.platform.registry}/{self.name}:{version}"
        definition = sleeper(uri, *self.command, portMappings=[{"containerPort": self.port, "name": "http"}])
        self.ecs.register_task_definition(**{**definition, "family": self.name})
        return self.image(version).digest

    def create(self, **members: Any) -> None:
        """The Cloud Map service, and the ECS service that is registered there."""
        cloud_map = Patient(self.platform.client("servicediscovery", inject_host_prefix=False))
        (namespace,) = (n for n in cloud_map.list_namespaces()["Namespaces"] if n["Name"] == NAMESPACE)
        records = {"NamespaceId": namespace["Id"], "DnsRecords": [{"Type": "A", "TTL": 5}]}
        service = cloud_map.create_service(Name=self.name, DnsConfig=records)["Service"]
        self.ecs.create_service(
            cluster=CLUSTER,
            serviceName=self.name,
            taskDefinition=self.name,
            desiredCount=COUNT,
            serviceRegistries=[{"registryArn": service["Arn"]}],
            **FARGATE,
            **members,
        )

    def update(self, **members: Any) -> None:
        """Roll the newest version out."""
        self.ecs.update_service(cluster=CLUSTER, service=self.name, taskDefinition=self.name, **members)

    def deployment(self) -> dict[str, Any]:
        """The newest service deployment."""
        found = self.ecs.describe_services(cluster=CLUSTER, services=[self.name])["services"][0]
        arns = [found["currentServiceDeployment"]]
        return self.ecs.describe_service_deployments(serviceDeploymentArns=arns)["serviceDeployments"][0]

    def tasks(self, status: str = "RUNNING") -> list[dict[str, Any]]:
        """Those that are wanted to be in this status."""
        arns = self.ecs.list_tasks(cluster=CLUSTER, serviceName=self.name, desiredStatus=status)["taskArns"]
        return self.ecs.describe_tasks(cluster=CLUSTER, tasks=arns)["tasks"] if arns else []

    def running(self) -> set[str]:
        """The ids of those that run."""
        return {t["taskArn"].rpartition("/")[2] for t in self.tasks() if t["lastStatus"] == "RUNNING"}

    def addresses(self) -> list[str]:
        """Their addresses, as ECS has them."""
        found = (t for t in self.tasks() if t["lastStatus"] == "RUNNING")
        details = (d for t in found for a in t["attachments"] for d in a["details"])
        return sorted(d["value"] for d in details if d["name"] == "privateIPv4Address")

    def answered(self) -> list[str]:
        """Their addresses, as the DNS has them."""
        return sorted(dns.ask(self.platform.dns_port, f"{self.name}.{NAMESPACE}").data())

    def served(self) -> list[str]:
        """What those serve whom the DNS names."""
        return [_page(f"http://{address}:{self.port}/") for address in self.answered()]

    def is_served(self, count: int = COUNT) -> bool:
        """Whether it is, by so many tasks of the newest version, whom ECS and the DNS name alike."""
        with contextlib.suppress(OSError):
            return self.served() == [f"{self.name} {self.version}"] * count and self.answered() == self.addresses()
        return False

    def is_stable(self, count: int = COUNT) -> bool:
        """What the waiter services_stable waits for."""
        found = self.ecs.describe_services(cluster=CLUSTER, services=[self.name])["services"][0]
        return len(found["deployments"]) == 1 and found["runningCount"] == found["desiredCount"] == count

    def completed(self, count: int = COUNT, *, containers: int = 0) -> None:
        """Return when it is stable and served by so many tasks, with as many containers on this machine (or, where
        some can't be ended, with `containers`)."""
        until(lambda: self.is_stable(count) and self.is_served(count), PATIENCE_S, every=0.05)
        until(lambda: self.containers() == (containers or count), PATIENCE_S)

    def containers(self) -> int:
        """How many there are on this machine."""
        return len(processes(self.platform.data, *self.command))

    def happened(self, *events: str) -> dict[str, Counter[int]]:
        """Of each event: how many of this flow's entities it happened to how often ({1: 6}: once to six)."""
        ids: set[str] = set()
        with contextlib.suppress(self.ecs.exceptions.ServiceNotFoundException):
            ids = {t["taskArn"].rpartition("/")[2] for status in ("RUNNING", "STOPPED") for t in self.tasks(status)}
        found: dict[str, Counter[tuple[str, ...]]] = {event: Counter() for event in events}
        for name, key in self.platform.events():
            if name in found and (self.name in key or key[-1] in ids):
                found[name][key] += 1
        return {event: Counter(counts.values()) for event, counts in found.items()}


def _page(url: str) -> str:
    """What it serves; nothing while it does not."""
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.read().decode()
    except urllib.error.URLError:
        return ""
