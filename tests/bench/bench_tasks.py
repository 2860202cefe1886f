"""RunTask to RUNNING and the replacement of a killed container, against `docker run -d` of the same image."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench.figures import Figure, at_most, at_most_of, median, percentile
from tests.builders.images import BuiltImage, busybox_image
from tests.builders.platform import FARGATE, ROOT, Roadstead, processes, roadstead, sleeper

RUNS = 40
REPLACEMENTS = 15
DOCKER_RUNS = 12
ENGINE = ROOT / "tools" / "docker_engine.sh"
NAP = "86399"
"""Seconds; tells these containers from others on the machine."""


class Caller:
    """A client that costs next to nothing: one connection, signed requests. boto3 asking all the time would take
    a whole core from the containers that are measured."""

    def __init__(self, platform: Roadstead) -> None:
        self._platform = platform
        self._connection = http.client.HTTPConnection("127.0.0.1", platform.port)

    def call(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        """Call one ECS operation."""
        request = self._platform.signed(f"AmazonEC2ContainerServiceV20141113.{operation}", body)
        head, _, payload = request.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        self._connection.request("POST", "/", body=payload, headers=headers)
        answer = self._connection.getresponse()
        read = json.loads(answer.read())
        if answer.status != 200:
            raise RuntimeError(f"{operation}: {read}")
        return read

    def run_task(self) -> tuple[float, str]:
        """Milliseconds from the call to RUNNING as DescribeTasks tells it, and the task."""
        began = time.monotonic()
        answer = self.call("RunTask", {"cluster": "bench", "taskDefinition": "sleeper", **FARGATE})
        if answer["failures"]:
            raise RuntimeError(f"not placed: {answer['failures']}")
        task = answer["tasks"][0]["taskArn"]
        while True:
            found = self.call("DescribeTasks", {"cluster": "bench", "tasks": [task]})["tasks"][0]
            if found["lastStatus"] == "RUNNING":
                return (time.monotonic() - began) * 1000, task
            if found["lastStatus"] == "STOPPED":
                raise RuntimeError(f"the task stopped: {found.get('stoppedReason')}")
            time.sleep(0.003)

    def replacement(self) -> float:
        """Milliseconds from kill -9 of the service's only container to another RUNNING."""
        before = set(self.running())
        (pid,) = processes(self._platform.data, "sleep", NAP)
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        while not set(self.running()) - before:
            time.sleep(0.003)
        return (time.monotonic() - began) * 1000

    def running(self) -> list[str]:
        """The service's running tasks."""
        arns = self.call("ListTasks", {"cluster": "bench", "serviceName": "bench"})["taskArns"]
        found = self.call("DescribeTasks", {"cluster": "bench", "tasks": arns})["tasks"] if arns else []
        return [task["taskArn"] for task in found if task["lastStatus"] == "RUNNING"]


def wait_stopped(ecs: Any, task: str) -> None:
    """Return when it is STOPPED."""
    while ecs.describe_tasks(cluster="bench", tasks=[task])["tasks"][0]["lastStatus"] != "STOPPED":
        time.sleep(0.01)


def engine_answers() -> bool:
    """Whether a Docker engine answers."""
    docker = shutil.which("docker")
    return docker is not None and subprocess.run([docker, "info"], capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def docker_engine() -> Iterator[bool]:
    """Whether there is an engine: the one that runs, or one started for as long as this lasts."""
    if engine_answers():
        yield True
        return
    started = subprocess.run([ENGINE, "start"], check=False).returncode == 0
    try:
        yield started
    finally:
        if started:
            subprocess.run([ENGINE, "stop"], check=False)


def docker_run(image: BuiltImage) -> list[float] | None:
    """Milliseconds of each `docker run -d`; None where no engine answers and none can be started."""
    with docker_engine() as answers:
        return _docker_runs(image) if answers else None


def _docker_runs(image: BuiltImage) -> list[float]:
    docker = shutil.which("docker") or "docker"
    with tempfile.TemporaryDirectory() as directory:
        archive = image.write_docker_archive(Path(directory) / "image.tar", "roadstead-bench:1")
        subprocess.run([docker, "load", "-q", "-i", str(archive)], check=True, capture_output=True)
    times = []
    for i in range(DOCKER_RUNS + 1):
        began = time.monotonic()
        run = subprocess.run(
            [docker, "run", "-d", "--memory", "512m", "--cpu-shares", "256", "roadstead-bench:1", "sleep", "3600"],
            check=True,
            capture_output=True,
            text=True,
        )
        if i:
            times.append((time.monotonic() - began) * 1000)
        subprocess.run([docker, "rm", "-f", run.stdout.strip()], check=True, capture_output=True)
    subprocess.run([docker, "rmi", "roadstead-bench:1"], check=False, capture_output=True)
    return times


def run() -> list[Figure]:
    """Ours with the oci runtime, and the Docker Engine's, in one run."""
    image = busybox_image({}, command=["sleep", "3600"])
    with roadstead(runtime="oci") as platform:
        ecs = platform.client("ecs")
        ecs.create_cluster(clusterName="bench")
        ecs.register_task_definition(**sleeper(platform.push(image, "bench"), "sleep", NAP))
        caller = Caller(platform)
        for _ in range(3):
            wait_stopped(ecs, stop(ecs, caller.run_task()[1]))
        starts = []
        for _ in range(RUNS):
            took, task = caller.run_task()
            starts.append(took)
            wait_stopped(ecs, stop(ecs, task))
        ecs.create_service(cluster="bench", serviceName="bench", taskDefinition="sleeper", desiredCount=1, **FARGATE)
        while not caller.running():
            time.sleep(0.01)
        replaced = []
        for _ in range(REPLACEMENTS):
            replaced.append(caller.replacement())
            time.sleep(0.5)
    docker = docker_run(image)
    p50, p99 = median(starts), percentile(starts, 99)
    return [
        at_most_of("RunTask to RUNNING, p50", p50, "ms", "docker run -d", median(docker) if docker else None, 0.33),
        at_most_of("RunTask to RUNNING, p99", p99, "ms", "own p50", p50, 3),
        at_most("killed container replaced, p50", median(replaced), "ms", 400),
    ]


def stop(ecs: Any, task: str) -> str:
    """Ask for its end; the task."""
    ecs.stop_task(cluster="bench", task=task)
    return task
