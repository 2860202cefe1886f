"""A fleet of simulated nodes through the real scheduler and the real NATS: services are filled, a zone is lost.

`python -m tests.bench fleet`. Scheduler, NATS and identity are processes of their own, the nodes are one more;
all of them share this machine's cores. NATS syncs each write to disk, as it does under `roadstead up`.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.bench.bench_start import cpu_seconds, resident_mib
from tests.bench.figures import Figure, at_most
from tests.bench.fleet import ZONES, fleet
from tests.bench.plot import log_log
from tests.builders.platform import FARGATE, sleeper, until
from tests.builders.processes import process_platform

SIZES = (500, 1000, 2500, 5000)
TASKS_A_NODE = 10
SERVICE = 1000
CLUSTER = "fleet"
PLOT = Path("build/fleet.svg")


@dataclass(frozen=True)
class Seen:
    """What was measured with so many nodes. Times in seconds, memory of the scheduler and of NATS in MiB."""

    nodes: int
    tasks: int
    filled_s: float
    replaced_s: float
    cpu_s: float
    scheduler_mib: float
    nats_mib: float


def run() -> list[Figure]:
    """All sizes; the figures are those of the largest."""
    sizes = [int(n) for n in os.environ.get("ROADSTEAD_BENCH_FLEET", "").split(",") if n] or SIZES
    rows = [_measure(nodes) for nodes in sizes]
    largest = rows[-1]
    print(_table(rows))
    if len(rows) > 1:
        _plot(rows)
    rate = largest.tasks / largest.filled_s
    filled = f"{largest.tasks} tasks on {largest.nodes} nodes, wanted to RUNNING"
    return [
        Figure(filled, rate, "1/s", bar="≥ 1000 1/s", holds=rate >= 1000),
        at_most("… one zone of three lost, its tasks RUNNING elsewhere", largest.replaced_s, "s", 60),
    ]


def _measure(nodes: int) -> Seen:
    tasks = nodes * TASKS_A_NODE
    services = max(1, tasks // SERVICE)
    each = tasks // services
    with (
        process_platform("identity", "scheduler", ROADSTEAD_LOG_LEVEL="warning") as platform,
        fleet(platform, nodes, TASKS_A_NODE * 2) as agents,
    ):
        ecs = platform.at("scheduler").client("ecs")
        ecs.create_cluster(clusterName=CLUSTER)
        ecs.register_task_definition(**sleeper("nobody.example/pulls:this"))

        def create(number: int) -> None:
            ecs.create_service(
                cluster=CLUSTER, serviceName=f"s{number}", taskDefinition="sleeper", desiredCount=0, **FARGATE
            )

        def wanted(number: int) -> None:
            ecs.update_service(cluster=CLUSTER, service=f"s{number}", desiredCount=each)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(create, range(services)))
            pids = [platform["scheduler"].pid, platform["nats"].pid]
            before, began = cpu_seconds(pids), time.monotonic()
            list(pool.map(wanted, range(services)))
        until(lambda: _running(ecs) == tasks, 600, every=0.25)
        filled = time.monotonic() - began
        cpu = cpu_seconds(pids) - before
        began = time.monotonic()
        agents.lose(ZONES[0])
        until(lambda: _running(ecs) < tasks, 60, every=0.1)
        until(lambda: _running(ecs) == tasks, 600, every=0.25)
        replaced = time.monotonic() - began
        memory = [resident_mib([pid]) for pid in pids]
    return Seen(nodes, tasks, filled, replaced, cpu, *memory)


def _running(ecs) -> int:
    return ecs.describe_clusters(clusters=[CLUSTER])["clusters"][0]["runningTasksCount"]


def _plot(rows: list[Seen]) -> None:
    lines = {
        "tasks RUNNING, s": [r.filled_s for r in rows],
        "a zone replaced, s": [r.replaced_s for r in rows],
        "processor time, s": [r.cpu_s for r in rows],
        "scheduler, MiB": [r.scheduler_mib for r in rows],
        "NATS, MiB": [r.nats_mib for r in rows],
    }
    title = f"{TASKS_A_NODE} tasks a node (dashed: as the number of nodes grows)"
    log_log(PLOT, title, "nodes", [float(r.nodes) for r in rows], lines)
    print(f"  drawn in {PLOT}")


def _table(rows: list[Seen]) -> str:
    lines = ["  nodes   tasks  filled s  tasks/s  zone lost s  cpu s  scheduler MiB  NATS MiB"]
    lines += [
        f"  {r.nodes:5}  {r.tasks:6}  {r.filled_s:8.1f}  {r.tasks / r.filled_s:7.0f}  {r.replaced_s:11.1f}"
        f"  {r.cpu_s:5.1f}  {r.scheduler_mib:13.0f}  {r.nats_mib:8.0f}"
        for r in rows
    ]
    return "\n".join(lines)
