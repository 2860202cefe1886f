"""200 services of 5 tasks each on simulated nodes: how soon they run, and what they cost while nothing happens."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

from tests.bench.bench_start import cpu_seconds, family, resident_mib
from tests.bench.figures import Figure, at_most
from tests.bench.simulated import simulated_nodes
from tests.builders.platform import FARGATE, roadstead, sleeper, until

SERVICES = 200
TASKS = 5
NODES = 12
IDLE_S = 30.0


def run() -> list[Figure]:
    """Create the services, wait until all tasks run, then look on for half a minute."""
    no_room = mock.patch.dict(os.environ, {"ROADSTEAD_AGENT_MEMORY_MIB": "16"})  # its own node takes none of them
    with no_room, roadstead(zones=1) as platform, simulated_nodes(platform, NODES):
        ecs = platform.client("ecs")
        ecs.create_cluster(clusterName="scale")
        ecs.register_task_definition(**sleeper("nobody.example/pulls:this"))
        began = time.monotonic()

        def create(number: int) -> None:
            ecs.create_service(
                cluster="scale", serviceName=f"s{number}", taskDefinition="sleeper", desiredCount=TASKS, **FARGATE
            )

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(create, range(SERVICES)))
        until(lambda: _running(ecs) == SERVICES * TASKS, 300, every=0.2)
        filled = time.monotonic() - began
        time.sleep(15)  # the last of it settles: steady states are told, statuses read
        pids = family(platform.pid)
        before = cpu_seconds(pids)
        time.sleep(IDLE_S)
        percent = (cpu_seconds(pids) - before) / IDLE_S * 100
        memory = resident_mib(pids)
    return [
        Figure(f"{SERVICES} services created to {SERVICES * TASKS} tasks running", filled, "s"),
        at_most(f"{SERVICES * TASKS} tasks, nothing happens: of one core", percent, "%", 10),
        Figure(f"{SERVICES * TASKS} tasks: resident memory in all", memory, "MiB"),
    ]


def _running(ecs) -> int:
    return ecs.describe_clusters(clusters=["scale"])["clusters"][0]["runningTasksCount"]
