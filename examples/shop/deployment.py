"""The shop on a platform: what a person would type or write with boto3, one function a thing."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import ssl
import urllib.request
from functools import cached_property
from pathlib import Path
from typing import Any

from examples.shop import images
from tests.builders import dns
from tests.builders.platform import FARGATE, Roadstead, skopeo_push, until

CLUSTER = "shop"
NAME = "backend.local"
SETTLED = {"RUNNING", "PAUSED", "CREATE_FAILED", "DELETE_FAILED", "DELETED"}


class Shop:
    """The shop's two services."""

    def __init__(self, platform: Roadstead) -> None:
        self.platform = platform
        self.ecs = platform.client("ecs")
        self.app_runner = platform.client("apprunner")
        self.images: dict[str, str] = {}
        self.arn = ""
        self.url = ""

    # -- images

    def push(self, name: str, version: str) -> str:
        """Build and push a version of `backend` or `frontend` with skopeo; its URI."""
        built = images.backend() if name == "backend" else images.frontend(version)
        self.images[f"{name}:{version}"] = uri = skopeo_push(self.platform, built, f"shop/{name}", version)
        return uri

    def findings(self, name: str, version: str) -> dict[str, Any]:
        """What the scanner found in an image, once it is through."""
        ecr = self.platform.client("ecr")
        which = {"repositoryName": f"shop/{name}", "imageId": {"imageTag": version}}
        ecr.get_waiter("image_scan_complete").wait(**which, WaiterConfig={"Delay": 1, "MaxAttempts": 30})
        return ecr.describe_image_scan_findings(**which)["imageScanFindings"]

    # -- the backend: an ECS service that is found by name

    def register(self, name: str, uri: str) -> None:
        """A task definition for one container of this image."""
        logs = {"awslogs-group": "/shop", "awslogs-region": "us-east-1", "awslogs-stream-prefix": name}
        self.ecs.register_task_definition(
            family=name,
            networkMode="awsvpc",
            requiresCompatibilities=["FARGATE"],
            cpu="256",
            memory="512",
            containerDefinitions=[
                {
                    "name": name,
                    "image": uri,
                    "essential": True,
                    "portMappings": [{"containerPort": 8080}],
                    "stopTimeout": 2,
                    "logConfiguration": {
                        "logDriver": "awslogs",
                        "options": {**logs, "awslogs-create-group": "true"},
                    },
                }
            ],
        )

    def deploy_backend(self, count: int) -> None:
        """The name, the task definition, the service; returns when all its tasks run."""
        cloud_map = self.platform.client("servicediscovery", inject_host_prefix=False)
        operation = cloud_map.create_private_dns_namespace(Name="local", Vpc="vpc-local")["OperationId"]
        namespace = cloud_map.get_operation(OperationId=operation)["Operation"]["Targets"]["NAMESPACE"]
        records = {"NamespaceId": namespace, "DnsRecords": [{"Type": "A", "TTL": 5}]}
        registry = cloud_map.create_service(Name="backend", DnsConfig=records)["Service"]["Arn"]
        self.ecs.create_cluster(clusterName=CLUSTER)
        self.register("backend", self.images["backend:1.0"])
        self.ecs.create_service(
            cluster=CLUSTER,
            serviceName="backend",
            taskDefinition="backend",
            desiredCount=count,
            serviceRegistries=[{"registryArn": registry}],
            **FARGATE,
        )
        until(lambda: len(self.running()) == count and len(self.names()) == count, 60)

    def running(self) -> list[dict[str, Any]]:
        """The backend's running tasks, by zone."""
        arns = self.ecs.list_tasks(cluster=CLUSTER, serviceName="backend")["taskArns"]
        found = self.ecs.describe_tasks(cluster=CLUSTER, tasks=arns)["tasks"] if arns else []
        return sorted((t for t in found if t["lastStatus"] == "RUNNING"), key=lambda t: t["availabilityZone"])

    def names(self) -> list[str]:
        """The addresses that the backend's name has now."""
        return sorted(dns.ask(self.platform.info["dns_port"], NAME).data())

    def refusal(self, name: str, version: str) -> str:
        """Why a task of this image does not run."""
        self.register("refused", self.images[f"{name}:{version}"])
        task = self.ecs.run_task(cluster=CLUSTER, taskDefinition="refused", **FARGATE)["tasks"][0]["taskArn"]
        describe = self.ecs.describe_tasks
        stopped = until(
            lambda: [
                t for t in describe(cluster=CLUSTER, tasks=[task])["tasks"] if t["lastStatus"] in ("STOPPED", "RUNNING")
            ],
            60,
        )
        return stopped[0].get("stoppedReason", "it runs")

    # -- the frontend: an App Runner service behind HTTPS

    def deploy_frontend(self, version: str) -> None:
        """The service, deployed again with each push of its tag; returns when its URL answers."""
        scaling = self.app_runner.create_auto_scaling_configuration(
            AutoScalingConfigurationName="busy", MaxConcurrency=2, MinSize=1, MaxSize=4
        )["AutoScalingConfiguration"]["AutoScalingConfigurationArn"]
        created = self.app_runner.create_service(
            ServiceName="frontend",
            SourceConfiguration={
                "AutoDeploymentsEnabled": True,
                "ImageRepository": {
                    "ImageIdentifier": self.images[f"frontend:{version}"].rpartition(":")[0] + ":live",
                    "ImageRepositoryType": "ECR",
                    "ImageConfiguration": {"Port": "8080"},
                },
            },
            InstanceConfiguration={"Cpu": "0.25 vCPU", "Memory": "0.5 GB"},
            HealthCheckConfiguration={"Protocol": "HTTP", "Path": "/health", "Interval": 1, "HealthyThreshold": 1},
            AutoScalingConfigurationArn=scaling,
        )["Service"]
        self.arn, self.url = created["ServiceArn"], f"https://{created['ServiceUrl']}"
        status = until(lambda: (found := self.status()) in SETTLED and found, 90)
        if status != "RUNNING":
            raise SystemExit(f"demo: the frontend is {status}")

    def release(self, version: str) -> str:
        """Push a version as `live`, which App Runner deploys by itself."""
        return skopeo_push(self.platform, images.frontend(version), "shop/frontend", "live")

    def status(self) -> str:
        """What App Runner says of the frontend."""
        return self.app_runner.describe_service(ServiceArn=self.arn)["Service"]["Status"]

    @cached_property
    def _trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.platform.command("ca").strip())

    def get(self, path: str = "/", timeout: float = 15.0) -> str:
        """Ask the frontend over HTTPS; its certificate is checked against the platform's own authority. Raises OSError.

        `*.localhost` is this machine (RFC 6761): curl and browsers know that by themselves, the C library may not.
        """
        host, _, port = self.url.removeprefix("https://").partition(":")
        with socket.create_connection(("127.0.0.1", int(port or 443)), timeout) as plain:
            connection = http.client.HTTPSConnection(host, timeout=timeout)
            connection.sock = self._trust.wrap_socket(plain, server_hostname=host)
            with contextlib.closing(connection):
                connection.request("GET", path)
                answer = connection.getresponse()
                body = answer.read().decode()
        if answer.status != 200:
            raise OSError(f"{answer.status}: {body.strip()}")
        return body

    def version(self) -> str:
        """Which version of the page is served, and from which zone its backend was."""
        found = re.search(r"<small>(.*)</small>", self.get())
        return found.group(1) if found else "?"

    def push_trace(self) -> str:
        """The id of the trace of the frontend's newest push."""
        listed = self.platform.command("trace").splitlines()
        return next(line for line in listed if "push shop/frontend" in line).split()[0]

    def instances(self) -> int:
        """How many instances of the frontend take requests."""
        port = next(s["port"] for s in self.platform.info["services"] if s["name"] == "app_runner_gateway")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/services", timeout=5) as answer:
            services = json.load(answer)["services"]
        states = next((s["instances"] for s in services if s["name"] == "frontend"), {})
        return sum(state == "ready" for state in states.values())


def address(task: dict[str, Any]) -> str:
    """A task's own IP."""
    return next(d["value"] for a in task["attachments"] for d in a["details"] if d["name"] == "privateIPv4Address")


def processes_of(task: dict[str, Any]) -> list[int]:
    """The processes of a task's containers, told by their cgroup."""
    task_id, found = task["taskArn"].rpartition("/")[2], []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and f"/{task_id}/" in (entry / "cgroup").read_text():
                found.append(int(entry.name))
    return found
