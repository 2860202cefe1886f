"""A machine elsewhere that joins a platform (ECS Anywhere): another process here, with a data directory of its own, and
a link to the platform that a test can cut."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from services.testing.platform import CLI
from tests.builders.images import busybox_image
from tests.builders.link import Link
from tests.builders.platform import ROOT, sleeper

CLUSTER = "anywhere"
SLEEP = "86417"
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "ssm.amazonaws.com"}, "Action": "sts:AssumeRole"},
        ],
    }
)


class Machine:
    """A machine elsewhere: its data directory, the link to the platform, and the node's process."""

    def __init__(self, platform) -> None:
        self.data = Path(tempfile.mkdtemp(prefix="roadstead-external-"))
        self.link = Link(platform.port)
        self.registry = platform.registry
        self.node: subprocess.Popen | None = None

    def start(self, *options: str) -> subprocess.Popen:
        command = [*CLI, "node", "--data", str(self.data), "--runtime", "oci", "--registry", self.registry, *options]
        self.node = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        return self.node

    def join(self, activation: dict, **changed: str) -> str:
        """Start it with an activation; the node's name, or what it said against it."""
        given = {"activation-id": activation["ActivationId"], "activation-code": activation["ActivationCode"]}
        given |= {"endpoint": f"http://127.0.0.1:{self.link.port}", "cluster": CLUSTER, **changed}
        node = self.start(*(part for name, value in given.items() for part in (f"--{name}", value)))
        return node.stdout.readline().split(" ")[0] or node.stderr.read()

    def again(self) -> str:
        """Start it as a node that has joined."""
        node = self.start()
        return node.stdout.readline().split(" ")[0] or node.stderr.read()

    def kill(self) -> None:
        if self.node is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.node.pid, signal.SIGKILL)
            self.node.wait()
            for stream in (self.node.stdout, self.node.stderr):
                stream.close()
            self.node = None

    def close(self) -> None:
        self.kill()
        subprocess.run([*CLI, "down", "--tasks", "--data", str(self.data)], cwd=ROOT, check=False, capture_output=True)
        self.link.close()
        shutil.rmtree(self.data, ignore_errors=True)


def prepare(platform: Any) -> None:
    """The cluster, and the role that CreateActivation wants."""
    platform.client("ecs").create_cluster(clusterName=CLUSTER)
    platform.client("iam").create_role(RoleName="ecsAnywhereRole", AssumeRolePolicyDocument=TRUST)


def activation(platform, **members) -> dict:
    return platform.client("ssm").create_activation(IamRole="ecsAnywhereRole", **members)


def serve(platform, count: int) -> None:
    definition = sleeper(platform.push(busybox_image(), "busybox"), "sleep", SLEEP)
    definition |= {"networkMode": "bridge", "requiresCompatibilities": ["EXTERNAL"]}
    ecs = platform.client("ecs")
    ecs.register_task_definition(**definition)
    ecs.create_service(
        cluster=CLUSTER,
        serviceName="naps",
        taskDefinition="sleeper",
        desiredCount=count,
        launchType="EXTERNAL",
        enableExecuteCommand=True,
    )


def tasks(platform, status: str = "RUNNING") -> list[dict]:
    ecs = platform.client("ecs")
    arns = ecs.list_tasks(cluster=CLUSTER, serviceName="naps", desiredStatus=status)["taskArns"]
    return ecs.describe_tasks(cluster=CLUSTER, tasks=arns)["tasks"] if arns else []


def running(platform) -> set[str]:
    return {task["taskArn"] for task in tasks(platform) if task["lastStatus"] == "RUNNING"}


def instance(platform, node: str) -> dict | None:
    ecs = platform.client("ecs")
    arns = ecs.list_container_instances(cluster=CLUSTER, filter=f"ec2InstanceId == {node}")["containerInstanceArns"]
    found = ecs.describe_container_instances(cluster=CLUSTER, containerInstances=arns) if arns else None
    return found["containerInstances"][0] if found else None
