"""Which node a task goes to.

Filter (ready, capacity, network mode, constraints, cpu, memory, ports), then order by the strategy, else: the zone
with the fewest tasks of the group, then the node least used. What is reserved is kept by `Ledger`, a change at a time.
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-placement.html
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping

import msgspec

from services.scheduler.decisions.expressions import Expression

ZONE = "ecs.availability-zone"


class Candidate(msgspec.Struct, frozen=True):
    """A node as placement sees it. `usable` nodes take new tasks; `connected` ones have an agent that answers."""

    name: str
    zone: str
    cpu: int
    memory: int
    kind: str = "FARGATE"
    network_modes: tuple[str, ...] = ("awsvpc", "bridge", "host", "none")
    attributes: Mapping[str, str] = {}
    usable: bool = True
    connected: bool = True


class Demand(msgspec.Struct, frozen=True):
    """What a task needs. `kind` is FARGATE, FARGATE_SPOT, EC2 or EXTERNAL; `strategy` pairs of type and field."""

    cpu: int = 0
    memory: int = 0
    ports: tuple[int, ...] = ()
    network_mode: str = "bridge"
    kind: str = "FARGATE"
    group: str = ""
    distinct: bool = False
    expressions: tuple[Expression, ...] = ()
    strategy: tuple[tuple[str, str], ...] = ()


class Holding(msgspec.Struct, frozen=True):
    """What one task has reserved on its node."""

    node: str
    cpu: int
    memory: int
    ports: tuple[int, ...]
    group: str


class Usage:
    """What is reserved on a node."""

    __slots__ = ("cpu", "groups", "memory", "ports", "tasks")

    def __init__(self) -> None:
        self.cpu = 0
        self.memory = 0
        self.tasks = 0
        self.ports: Counter[int] = Counter()
        self.groups: Counter[str] = Counter()

    def change(self, holding: Holding, sign: int) -> None:
        """Add (1) or take away (-1)."""
        self.cpu += sign * holding.cpu
        self.memory += sign * holding.memory
        self.tasks += sign
        self.groups[holding.group] += sign
        if not self.groups[holding.group]:
            del self.groups[holding.group]
        for port in holding.ports:
            self.ports[port] += sign
            if not self.ports[port]:
                del self.ports[port]


_NOTHING = Usage()


class Ledger:
    """Reservations of all nodes. Each change costs the same however many tasks there are."""

    def __init__(self) -> None:
        self._holdings: dict[Hashable, Holding] = {}
        self._usage: dict[str, Usage] = {}

    def hold(self, key: Hashable, holding: Holding) -> None:
        """Reserve for a task; once more with the same key replaces."""
        known = self._holdings.get(key)
        if known == holding:
            return
        self.release(key)
        self._holdings[key] = holding
        self._usage.setdefault(holding.node, Usage()).change(holding, 1)

    def release(self, key: Hashable) -> bool:
        """Let go of a task's reservation; whether there was one."""
        known = self._holdings.pop(key, None)
        if known is None:
            return False
        self._usage[known.node].change(known, -1)
        return True

    def usage(self, node: str) -> Usage:
        """What is reserved on a node; only to be read."""
        return self._usage.get(node, _NOTHING)

    def occupied(self) -> list[str]:
        """The nodes on which something is reserved."""
        return [node for node, usage in self._usage.items() if usage.tasks]


class Refusal(msgspec.Struct, frozen=True):
    """Why no node takes the task: a reason for each node that was looked at."""

    reasons: dict[str, str]

    def closest(self) -> tuple[str, str] | None:
        """The node that came nearest, and its reason: lack of resources comes nearer than the rest."""
        ranked = sorted(self.reasons.items(), key=lambda item: (not item[1].startswith("RESOURCE"), item))
        return ranked[0] if ranked else None


def place(demand: Demand, nodes: Iterable[Candidate], ledger: Ledger, seed: str = "") -> str | Refusal:
    """The name of the node to put one task on. `seed` decides where the strategy is `random`."""
    reasons: dict[str, str] = {}
    fitting: list[Candidate] = []
    for node in nodes:
        reason = refuses(node, demand, ledger.usage(node.name))
        if reason:
            reasons[node.name] = reason
        else:
            fitting.append(node)
    if not fitting:
        return Refusal(reasons)
    exact = [node for node in fitting if node.kind == demand.kind]
    return _best(exact or fitting, demand, ledger, seed)


def refuses(node: Candidate, demand: Demand, used: Usage) -> str | None:
    """Why this node does not take the task, in ECS' words, or None."""
    if not node.connected or not node.usable:
        return "AGENT"
    if node.kind != demand.kind and not (node.kind.startswith("FARGATE") and demand.kind != "EXTERNAL"):
        return "ATTRIBUTE"
    if demand.network_mode not in node.network_modes:
        return "ATTRIBUTE"
    if demand.expressions and not all(e.holds(attributes_of(node)) for e in demand.expressions):
        return "MemberOf placement constraint unsatisfied"
    if demand.distinct and used.groups.get(demand.group):
        return "DistinctInstance placement constraint unsatisfied"
    if used.cpu + demand.cpu > node.cpu:
        return "RESOURCE:CPU"
    if used.memory + demand.memory > node.memory:
        return "RESOURCE:MEMORY"
    if demand.ports and any(port in used.ports for port in demand.ports):
        return "RESOURCE:PORTS"
    return None


def attributes_of(node: Candidate) -> dict[str, str]:
    """The node's attributes, those that ECS itself gives among them."""
    return {ZONE: node.zone, "ecs.os-type": "linux", **node.attributes}


def _best(nodes: list[Candidate], demand: Demand, ledger: Ledger, seed: str) -> str:
    usages = {node.name: ledger.usage(node.name) for node in nodes}
    steps: list[Callable[[Candidate], float]] = []
    for kind, field in demand.strategy or (("spread", ZONE),):
        steps.append(_step(kind, field, nodes, usages, demand, seed))

    def rank(node: Candidate) -> tuple[object, ...]:
        used = usages[node.name]
        return (*(step(node) for step in steps), used.groups.get(demand.group, 0), _load(node, used), node.name)

    return min(nodes, key=rank).name


def _step(
    kind: str, field: str, nodes: list[Candidate], usages: dict[str, Usage], demand: Demand, seed: str
) -> Callable[[Candidate], float]:
    if kind == "random":
        return lambda node: zlib.crc32(f"{seed}{node.name}".encode())
    if kind == "binpack":
        if field == "memory":
            return lambda node: node.memory - usages[node.name].memory
        return lambda node: node.cpu - usages[node.name].cpu
    counts: Counter[str] = Counter()
    for node in nodes:
        counts[_field(node, field)] += usages[node.name].groups.get(demand.group, 0)
    return lambda node: counts[_field(node, field)]


def _field(node: Candidate, field: str) -> str:
    if field == ZONE:
        return node.zone
    if field in ("instanceId", "host"):
        return node.name
    return attributes_of(node).get(field, "")


def _load(node: Candidate, used: Usage) -> float:
    return max(used.cpu / node.cpu if node.cpu else 1.0, used.memory / node.memory if node.memory else 1.0)
