"""Which of the nodes that fit is taken next: the strategies `spread`, `binpack` and `random`, one after the other.

Tasks that are started together are alike, so the nodes are looked at once, and put into a tree: a level for each
leading `spread`, with a branch for each value of its attribute, and heaps of nodes at its ends. Each task takes the
path of least tasks, and only that path changes by it. Placing n tasks on m nodes costs O(m + n log m).
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-placement-strategies.html
"""

from __future__ import annotations

import math
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heapreplace
from typing import Any

from msgspec.structs import replace

from services.scheduler.decisions.placement import ZONE, Candidate, Demand, Ledger, Refusal, field_of, refuses
from services.scheduler.decisions.query import asks_attributes_only

Rank = tuple[Any, ...]
Steps = tuple[tuple[str, str], ...]
Holders = list[tuple[Candidate, int]]

_INSTANCE = ("instanceId", "host")


def place(demand: Demand, nodes: Iterable[Candidate], ledger: Ledger, seed: str = "") -> str | Refusal:
    """The name of the node to put one task on. `seed` decides where the strategy is `random`."""
    batch = Batch(demand, nodes, ledger, seed)
    return batch.next() or batch.refusal()


class Batch:
    """Places tasks that are alike, one after the other. What `next` gave is to be held in the ledger before `next` is
    called again."""

    def __init__(self, demand: Demand, nodes: Iterable[Candidate], ledger: Ledger, seed: str = "") -> None:
        self._demand = demand
        self._nodes = list(nodes)
        self._ledger = ledger
        self._seed = seed
        kind = demand.kind
        steady = all(asks_attributes_only(expression) for expression in demand.expressions)
        fitting = self._nodes
        if demand.expressions and steady:
            fitting = ledger.suiting(demand.expressions, fitting)
        # What is decided by attributes alone was decided, and stays so while this batch is placed.
        self._again = replace(demand, expressions=()) if steady else demand
        usage, again = ledger.usage, self._again
        fitting = [node for node in fitting if refuses(node, again, usage(node.name)) is None]
        # A node of the very kind that is asked for comes first; the others are for what these have no room for.
        exact = [node for node in fitting if node.kind == kind]
        others = [node for node in fitting if node.kind != kind] if len(exact) < len(fitting) else []
        self._later = [others] if exact and others else []
        self._tree = self._grow(exact or others)
        self._taken = False

    def next(self) -> str | None:
        """The node of the next task; None when none has room any more."""
        if self._taken:
            self._tree.took()
        while self._tree.rank() is None and self._later:
            self._tree = self._grow(self._later.pop())
        self._taken = self._tree.rank() is not None
        return self._tree.top().name if self._taken else None

    def refusal(self) -> Refusal:
        """Why no node takes another one, by what the ledger says now."""
        usage = self._ledger.usage
        found = ((node.name, refuses(node, self._demand, usage(node.name))) for node in self._nodes)
        return Refusal({name: reason for name, reason in found if reason is not None})

    def _grow(self, nodes: list[Candidate]) -> _Branches | _Heap:
        steps = self._demand.strategy or (("spread", ZONE),)
        group, usage = self._demand.group, self._ledger.usage
        # Tasks on nodes that are full or do not suit count too: they are where the spread is to be evened out.
        holders = [(node, n) for node in self._nodes if (n := usage(node.name).groups.get(group, 0))]
        return _level(nodes, holders, steps, _Ranking(self._again, self._ledger, self._seed))


def _level(nodes: list[Candidate], holders: Holders, steps: Steps, ranking: _Ranking) -> _Branches | _Heap:
    if steps and steps[0][0] == "spread" and steps[0][1] not in _INSTANCE:
        return _Branches(nodes, holders, steps, ranking)
    if len(steps) == 1 and steps[0][0] == "spread":
        steps = ()  # every rank ends with the node's own tasks of the group
    return _Heap(nodes, holders, steps, ranking)


class _Branches:
    """A leading `spread`: the branch with the fewest tasks of the group is taken, of equal ones that with the best
    node."""

    def __init__(self, nodes: list[Candidate], holders: Holders, steps: Steps, ranking: _Ranking) -> None:
        field = steps[0][1]
        parts: defaultdict[str, list[Candidate]] = defaultdict(list)
        for node in nodes:
            parts[field_of(node, field)].append(node)
        held: defaultdict[str, Holders] = defaultdict(list)
        for node, number in holders:
            held[field_of(node, field)].append((node, number))
        self._heap: list[tuple[int, Rank, int, _Branches | _Heap]] = []
        for order, (value, part) in enumerate(parts.items()):
            child = _level(part, held[value], steps[1:], ranking)
            rank = child.rank()
            if rank is not None:
                self._heap.append((sum(number for _, number in held[value]), rank, order, child))
        heapify(self._heap)

    def rank(self) -> Rank | None:
        """How good the best node is, less being better; None when there is none."""
        return self._heap[0][:2] if self._heap else None

    def top(self) -> Candidate:
        """The best node."""
        return self._heap[0][3].top()

    def took(self) -> None:
        """The best node was given a task."""
        count, _, order, child = self._heap[0]
        child.took()
        rank = child.rank()
        if rank is None:
            heappop(self._heap)
        else:
            heapreplace(self._heap, (count + 1, rank, order, child))


class _Heap:
    """Nodes by rank. A `spread` that is not a leading one makes ranks of other nodes grow, never shrink, so an old rank
    is a lower bound, and is looked at again when its node comes to the top."""

    def __init__(self, nodes: list[Candidate], holders: Holders, steps: Steps, ranking: _Ranking) -> None:
        self._steps = steps
        self._ranking = ranking
        self._counts: dict[str, Counter[str]] = {}
        for kind, field in steps:
            if kind == "spread" and field not in _INSTANCE:
                counts = self._counts[field] = Counter()
                for node, number in holders:
                    counts[field_of(node, field)] += number
        self._heap = [(self._rank(node), node) for node in nodes]
        heapify(self._heap)

    def _rank(self, node: Candidate) -> Rank:
        return self._ranking.of(node, self._steps, self._counts)

    def rank(self) -> Rank | None:
        """How good the best node is, less being better; None when there is none."""
        while self._counts and self._heap:
            known, node = self._heap[0]
            now = self._rank(node)
            if now == known:
                break
            heapreplace(self._heap, (now, node))
        return self._heap[0][0] if self._heap else None

    def top(self) -> Candidate:
        """The best node."""
        return self._heap[0][1]

    def took(self) -> None:
        """The best node was given a task."""
        node = self._heap[0][1]
        for field, counts in self._counts.items():
            counts[field_of(node, field)] += 1
        if self._ranking.full(node):
            heappop(self._heap)
        else:
            heapreplace(self._heap, (self._rank(node), node))


class _Ranking:
    """The rank of a node: a number for each step, then fewest tasks of the group, then least load, then its name."""

    def __init__(self, demand: Demand, ledger: Ledger, seed: str) -> None:
        self._demand = demand
        self._group = demand.group
        self._ledger = ledger
        self._usage = ledger.usage
        self._seed = seed
        self._drawn: dict[str, tuple[int, float]] = {}

    def full(self, node: Candidate) -> bool:
        """Whether it takes no further task."""
        return refuses(node, self._demand, self._ledger.usage(node.name)) is not None

    def of(self, node: Candidate, steps: Sequence[tuple[str, str]], counts: dict[str, Counter[str]]) -> Rank:
        """The node's rank now. The name ends it, so no two nodes have the same."""
        used = self._usage(node.name)
        own = used.groups.get(self._group, 0)
        cpu = used.cpu / node.cpu if node.cpu else 1.0
        memory = used.memory / node.memory if node.memory else 1.0
        last = (own, cpu if cpu > memory else memory, node.name)
        if not steps:
            return last
        if len(steps) == 1 and steps[0][0] == "binpack":
            return (node.memory - used.memory if steps[0][1] == "memory" else node.cpu - used.cpu, *last)
        values: list[float] = []
        for kind, field in steps:
            if kind == "binpack":
                values.append(node.memory - used.memory if field == "memory" else node.cpu - used.cpu)
            elif kind == "random":
                values.append(self._draw(node.name, used.tasks))
            else:
                values.append(own if field in _INSTANCE else counts[field][field_of(node, field)])
        return (*values, *last)

    def _draw(self, name: str, tasks: int) -> float:
        """A random arrival, the next one later than the one before: so each task is as likely to go to any node."""
        known_tasks, drawn = self._drawn.get(name, (-1, 0.0))
        if known_tasks != tasks:
            chance = (zlib.crc32(f"{self._seed}/{tasks}/{name}".encode()) + 0.5) / 2**32
            drawn -= math.log(chance)
            self._drawn[name] = (tasks, drawn)
        return drawn
