"""Placement alone: tasks a second that find their node, on 5,000 nodes, one core, nothing written."""

from __future__ import annotations

import time
from collections import Counter

from services.scheduler.decisions.placement import ZONE, Candidate, Demand, Holding, Ledger
from services.scheduler.decisions.query import Expression, parse
from services.scheduler.decisions.ranking import Batch
from tests.bench.figures import Figure, median

NODES = 5_000
TASKS = 20_000
BATCH = 1_000
ROUNDS = 3
WANTED = 20_000

_CONSTRAINTS = tuple(
    parse(text)
    for text in (
        "attribute:ecs.os-type == linux",
        "attribute:ecs.instance-type =~ m5.*",
        "attribute:disk in [ssd, nvme]",
        "attribute:gpu not_exists",
        "attribute:cores >= 8",
        "attribute:rack != r99",
        "not (attribute:stage == test)",
        "attribute:stack exists and attribute:stack == prod",
        "attribute:disk == ssd or attribute:disk == nvme",
        "attribute:ecs.availability-zone in [a, b, c]",
    )
)


def nodes(count: int = NODES) -> list[Candidate]:
    """Nodes of 16 cores and 64 GiB over three zones and 50 racks."""
    return [
        Candidate(
            f"n{number:05d}",
            "abc"[number % 3],
            16 * 1024,
            64 * 1024,
            attributes={
                ZONE: "abc"[number % 3],
                "ecs.os-type": "linux",
                "ecs.instance-type": "m5.4xlarge",
                "rack": f"r{number % 50}",
                "disk": "ssd" if number % 2 else "nvme",
                "cores": "16",
                "stack": "prod",
            },
        )
        for number in range(count)
    ]


def seconds(
    strategy: tuple[tuple[str, str], ...],
    expressions: tuple[Expression, ...] = (),
    batch: int = BATCH,
    size: int = NODES,
) -> float:
    """How long TASKS tasks take, in services of `batch` tasks each; the ledger is kept as the scheduler keeps it."""
    on, ledger = nodes(size), Ledger()
    began = time.process_time()  # of one core, whatever else the machine does
    for service in range(TASKS // batch):
        group = f"g{service}"
        demand = Demand(cpu=256, memory=512, group=group, strategy=strategy, expressions=expressions)
        placing = Batch(demand, on, ledger)
        for number in range(batch):
            node = placing.next()
            assert node is not None
            ledger.hold((service, number), Holding(node, 256, 512, (), group))
    spent = time.process_time() - began
    _check(on, ledger, strategy)
    return spent


def _check(on: list[Candidate], ledger: Ledger, strategy: tuple[tuple[str, str], ...]) -> None:
    if strategy[0][0] == "binpack":
        assert len(ledger.occupied()) <= 1.05 * -(-TASKS * 256 // (16 * 1024))
        return
    zones: Counter[str] = Counter()
    for node in on:
        zones[node.zone] += ledger.usage(node.name).tasks
    assert max(zones.values()) - min(zones.values()) <= TASKS // BATCH


def run() -> list[Figure]:
    """Tasks a second for spread and for binpack, what constraints cost, and how it grows with the nodes."""
    spread, binpack = (("spread", ZONE), ("spread", "instanceId")), (("binpack", "memory"),)

    def rate(strategy: tuple[tuple[str, str], ...], **members: object) -> float:
        return TASKS / median([seconds(strategy, **members) for _ in range(ROUNDS)])  # type: ignore[arg-type]

    plain, packed = rate(spread), rate(binpack)
    constrained = rate(spread, expressions=_CONSTRAINTS)
    few = rate(spread, size=NODES // 10)
    return [
        _at_least(f"placement, {NODES} nodes, spread, services of {BATCH}", plain),
        _at_least(f"placement, {NODES} nodes, binpack, services of {BATCH}", packed),
        Figure(
            "… spread with 10 constraints: times its cost",
            plain / constrained,
            "×",
            bar="≤ 2 ×",
            holds=plain / constrained <= 2,
        ),
        Figure("… spread, services of 100", rate(spread, batch=100), "tasks/s"),
        Figure(f"… spread, {NODES // 10} nodes", few, "tasks/s"),
    ]


def _at_least(name: str, value: float) -> Figure:
    return Figure(name, value, "tasks/s", bar=f"≥ {WANTED:,} tasks/s", holds=value >= WANTED)
