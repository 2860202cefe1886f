"""Which node a task goes to.

Filter (ready, capacity, network mode, constraints, cpu, memory, ports), then order by the strategy, else: the zone
with the fewest tasks of the group, then the node least used. What is reserved is kept by `Ledger`, a change at a time.
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-placement.html
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping

import msgspec

from contracts.records.agent import Node
from services.scheduler.decisions.query import Expression, Facts, asks_attributes_only

_REMEMBERED = 64
CAPACITY = "Capacity is unavailable at this time. Please try again later or in a different availability zone"
ZONE = "ecs.availability-zone"
EXTERNAL_PREFIX = "mi-"
"""What the names of external nodes begin with."""
KIND_ATTRIBUTES = {"EXTERNAL": {"ecs.capability.external": ""}}
"""The attributes that ECS gives container instances of a kind."""


class Candidate(msgspec.Struct, frozen=True):
    """A node as placement sees it. `usable` nodes take new tasks, those with `spot` FARGATE_SPOT tasks too;
    `connected` ones have an agent that answers."""

    name: str
    zone: str
    cpu: int
    memory: int
    kind: str = "FARGATE"
    network_modes: tuple[str, ...] = ("awsvpc", "bridge", "host", "none")
    attributes: Mapping[str, str] = {}
    usable: bool = True
    connected: bool = True
    agent_version: str = ""
    registered_at: float = 0.0
    spot: bool = True
    gpus: tuple[str, ...] = ()


def candidate_of(node: Node, *, external: bool, spot: bool, connected: bool) -> Candidate:
    """What placement sees of a node. An `external` one has joined from elsewhere; the name of one without that is
    somebody else's agent, or a node that is forgotten, and takes nothing."""
    kind = "EXTERNAL" if external else node.capacity_kind
    return Candidate(
        name=node.node,
        zone=node.zone,
        cpu=node.cpu_units,
        memory=node.memory_mib,
        kind=kind,
        network_modes=node.network_modes,
        attributes={ZONE: node.zone, "ecs.os-type": "linux", **KIND_ATTRIBUTES.get(kind, {}), **node.attributes},
        usable=not node.draining and (external or not node.node.startswith(EXTERNAL_PREFIX)),
        connected=connected,
        agent_version=node.agent_version,
        registered_at=node.registered_at,
        spot=spot,
        gpus=tuple(node.gpus),
    )


class Demand(msgspec.Struct, frozen=True):
    """What a task needs. `kind` is FARGATE, FARGATE_SPOT, EC2 or EXTERNAL; `strategy` pairs of type and field; `group`
    is the task group with `scope`, its cluster, before it."""

    cpu: int = 0
    memory: int = 0
    ports: tuple[int, ...] = ()
    network_mode: str = "bridge"
    kind: str = "FARGATE"
    group: str = ""
    scope: str = ""
    distinct: bool = False
    expressions: tuple[Expression, ...] = ()
    strategy: tuple[tuple[str, str], ...] = ()
    gpus: int = 0


class Holding(msgspec.Struct, frozen=True):
    """What one task has reserved on its node."""

    node: str
    cpu: int
    memory: int
    ports: tuple[int, ...]
    group: str
    gpus: tuple[str, ...] = ()


class Usage:
    """What is reserved on a node."""

    __slots__ = ("cpu", "gpus", "groups", "memory", "ports", "tasks")

    def __init__(self) -> None:
        self.cpu = 0
        self.memory = 0
        self.tasks = 0
        self.ports: Counter[int] = Counter()
        self.gpus: Counter[str] = Counter()
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
        for gpu in holding.gpus:
            self.gpus[gpu] += sign
            if not self.gpus[gpu]:
                del self.gpus[gpu]


_NOTHING = Usage()


class Ledger:
    """Reservations of all nodes. Each change costs the same however many tasks there are."""

    def __init__(self) -> None:
        self._holdings: dict[Hashable, Holding] = {}
        self._usage: dict[str, Usage] = {}
        self._suiting: dict[tuple[Expression, ...], dict[str, tuple[Mapping[str, str], bool]]] = {}

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

    def suiting(self, expressions: tuple[Expression, ...], nodes: Iterable[Candidate]) -> list[Candidate]:
        """The nodes whose attributes satisfy all of these, which ask for attributes only. Remembered while a node's
        attributes are the same mapping."""
        if expressions not in self._suiting and len(self._suiting) >= _REMEMBERED:
            del self._suiting[next(iter(self._suiting))]
        known = self._suiting.setdefault(expressions, {})
        found = []
        for node in nodes:
            remembered = known.get(node.name)
            if remembered is None or remembered[0] is not node.attributes:
                facts = Facts(attributes_of(node))
                holds = all(expression.holds(facts) for expression in expressions)
                remembered = known[node.name] = (node.attributes, holds)
            if remembered[1]:
                found.append(node)
        return found

    def occupied(self) -> list[str]:
        """The nodes on which something is reserved."""
        return [node for node, usage in self._usage.items() if usage.tasks]


class Refusal(msgspec.Struct, frozen=True):
    """Why no node takes the task: a reason for each node that was looked at."""

    reasons: dict[str, str]

    def closest(self) -> tuple[str, str] | None:
        """The node that came nearest, and its reason: lack of resources comes nearer than the rest, then capacity that
        is taken back."""
        ranked = sorted(
            self.reasons.items(), key=lambda item: (not item[1].startswith("RESOURCE"), item[1] != CAPACITY, item)
        )
        return ranked[0] if ranked else None


def refuses(node: Candidate, demand: Demand, used: Usage) -> str | None:
    """Why this node does not take the task, in ECS' words, or None."""
    if not node.connected or not node.usable:
        return "AGENT"
    if node.kind != demand.kind and not (node.kind == "FARGATE" and demand.kind != "EXTERNAL"):
        return "ATTRIBUTE"
    if not node.spot and demand.kind == "FARGATE_SPOT":
        return CAPACITY
    if demand.network_mode not in node.network_modes:
        return "ATTRIBUTE"
    if used.cpu + demand.cpu > node.cpu:
        return "RESOURCE:CPU"
    if used.memory + demand.memory > node.memory:
        return "RESOURCE:MEMORY"
    if demand.ports and any(port in used.ports for port in demand.ports):
        return "RESOURCE:PORTS"
    if demand.gpus and demand.gpus > len(free_gpus(node, used)):
        return "RESOURCE:GPU"
    if demand.distinct and used.groups.get(demand.group):
        return "DistinctInstance placement constraint unsatisfied"
    if demand.expressions:
        facts = facts_of(node, used, demand)
        for expression in demand.expressions:
            if not expression.holds(facts):
                return "MemberOf placement constraint unsatisfied"
    return None


def free_gpus(node: Candidate, used: Usage) -> list[str]:
    """The GPUs of a node that no task has, in order."""
    return sorted(gpu for gpu in node.gpus if gpu not in used.gpus)


def attributes_of(node: Candidate) -> Mapping[str, str]:
    """The node's attributes, those that ECS itself gives among them."""
    if ZONE in node.attributes:
        return node.attributes
    return {ZONE: node.zone, "ecs.os-type": "linux", **node.attributes}


class _Groups:
    """The task groups on a node, those of one cluster, by their bare names."""

    def __init__(self, groups: Mapping[str, int], scope: str) -> None:
        self._groups = groups
        self._scope = scope

    def __contains__(self, group: object) -> bool:
        return f"{self._scope}{group}" in self._groups

    def __iter__(self) -> Iterator[str]:
        return (g.removeprefix(self._scope) for g in self._groups if g.startswith(self._scope))

    def __bool__(self) -> bool:
        return next(iter(self), None) is not None


def facts_of(node: Candidate, used: Usage, demand: Demand) -> Facts:
    """The node as the demand's expressions see it."""
    if all(asks_attributes_only(expression) for expression in demand.expressions):
        return Facts(attributes_of(node))
    known = {
        "agentConnected": "true" if node.connected else "false",
        "agentVersion": node.agent_version,
        "ec2InstanceId": node.name,
        "registeredAt": str(node.registered_at),
        "runningTasksCount": str(used.tasks),
    }
    return Facts(attributes_of(node), _Groups(used.groups, demand.scope), known)


def field_of(node: Candidate, field: str) -> str:
    """The value that a strategy's field has for a node."""
    if field == ZONE:
        return node.zone
    if field in ("instanceId", "host"):
        return node.name
    return attributes_of(node).get(field, "")
