"""How good placement is: spread within one of perfect, binpack within five percent of the fewest nodes."""

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scheduler.decisions.placement import Candidate, Demand, Holding, Ledger
from services.scheduler.decisions.query import parse
from services.scheduler.decisions.ranking import Batch, place


def fleet(number: int, zones: int = 3, **members) -> list[Candidate]:
    given = {"cpu": 4096, "memory": 8192, **members}
    return [Candidate(f"n{i:05d}", f"z{i % zones}", attributes={"rack": f"r{i % 7}"}, **given) for i in range(number)]


def put(batch: Batch, demand: Demand, ledger: Ledger, count: int) -> list[str]:
    chosen = []
    for _ in range(count):
        node = batch.next()
        if node is None:
            break
        chosen.append(node)
        ledger.hold(object(), Holding(node, demand.cpu, demand.memory, demand.ports, demand.group))
    return chosen


def batch_of(demand: Demand, nodes: list[Candidate], count: int, ledger: Ledger | None = None) -> list[str]:
    ledger = ledger or Ledger()
    return put(Batch(demand, nodes, ledger, "seed"), demand, ledger, count)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 8), min_size=1, max_size=5), st.integers(1, 60), st.integers(0, 2**32))
def test_tasks_of_a_group_are_spread_over_zones_within_one_of_perfect(sizes, count, seed):
    nodes = [Candidate(f"z{z}n{i}", f"z{z}", 1024, 1024) for z, size in enumerate(sizes) for i in range(size)]
    room = Counter({f"z{z}": 8 * size for z, size in enumerate(sizes)})
    zones = {node.name: node.zone for node in nodes}
    chosen = batch_of(Demand(cpu=128, group="g"), nodes, count)
    found = Counter(zones[name] for name in chosen)
    assert len(chosen) == min(count, sum(room.values()))
    roomy = [found[zone] for zone in room if found[zone] < room[zone]]
    assert not roomy or max(found.values()) - min(roomy) <= 1


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 12), st.lists(st.integers(0, 40), min_size=1, max_size=12), st.integers(1, 60))
def test_one_at_a_time_and_all_at_once_choose_alike(number, before, count):
    for strategy in (
        (),
        (("spread", "rack"), ("spread", "instanceId")),
        (("binpack", "memory"), ("spread", "rack")),
        (("spread", "ecs.availability-zone"), ("binpack", "cpu")),
    ):
        demand = Demand(cpu=256, memory=512, group="g", strategy=strategy)
        nodes = fleet(number)
        together, alone = Ledger(), Ledger()
        for index, held in enumerate(before):
            for ledger in (together, alone):
                ledger.hold(f"x{index}", Holding(nodes[index % number].name, 8 * held, 8 * held, (), "g" * (held % 2)))
        at_once = batch_of(demand, nodes, count, together)
        one_by_one = []
        for _ in range(count):
            node = place(demand, nodes, alone)
            if not isinstance(node, str):
                break
            one_by_one.append(node)
            alone.hold(object(), Holding(node, 256, 512, (), "g"))
        assert at_once == one_by_one


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(8, 200), st.integers(8, 400)), min_size=100, max_size=400))
def test_binpack_uses_at_most_five_percent_more_nodes_than_must_be(tasks):
    nodes, ledger = fleet(40), Ledger()
    for size, (cpu, _) in enumerate(tasks):
        demand = Demand(cpu=cpu, memory=1, group="g", strategy=(("binpack", "cpu"),))
        node = place(demand, nodes, ledger)
        assert isinstance(node, str)
        ledger.hold(size, Holding(node, cpu, 1, (), "g"))
    fewest = math.ceil(sum(cpu for cpu, _ in tasks) / 4096)
    assert len(ledger.occupied()) <= math.ceil(fewest * 1.05)


def test_binpack_of_equal_tasks_uses_no_node_more_than_must_be():
    chosen = batch_of(Demand(memory=1024, strategy=(("binpack", "memory"),)), fleet(100), 333)
    assert len(set(chosen)) == math.ceil(333 / 8)


def test_nested_spreads_are_even_at_each_level():
    nodes = [
        Candidate(f"n{z}{r}{i}", f"z{z}", 4096, 4096, attributes={"rack": f"z{z}r{r}"})
        for z in range(3)
        for r in range(2)
        for i in range(2)
    ]
    demand = Demand(cpu=1, group="g", strategy=(("spread", "ecs.availability-zone"), ("spread", "rack")))
    chosen = batch_of(demand, nodes, 24)
    assert set(Counter(name[1:3] for name in chosen).values()) == {4}


def test_random_goes_anywhere_and_the_same_way_for_the_same_seed():
    demand = Demand(cpu=1, strategy=(("random", ""),))
    chosen = batch_of(demand, fleet(10), 1000)
    counts = Counter(chosen)
    assert chosen == batch_of(demand, fleet(10), 1000)
    assert len(counts) == 10 and max(counts.values()) < 2 * min(counts.values())


def test_a_zone_that_has_tasks_on_full_nodes_is_not_taken_for_empty():
    nodes, ledger = fleet(3, zones=3), Ledger()
    ledger.hold("a", Holding("n00000", 4096, 0, (), "g"))
    nodes.append(Candidate("n00003", "z0", 4096, 8192))
    assert sorted(batch_of(Demand(cpu=1, group="g"), nodes, 2, ledger)) == ["n00001", "n00002"]


@pytest.mark.parametrize("text", ["not(task:group == lonely)", "task:group !exists"])
def test_a_constraint_on_groups_sees_the_tasks_of_the_same_batch(text):
    demand = Demand(cpu=1, group="a/lonely", scope="a/", expressions=(parse(text),))
    assert sorted(batch_of(demand, fleet(3), 9)) == ["n00000", "n00001", "n00002"]


def test_nodes_of_another_kind_are_taken_when_the_very_kind_is_full():
    nodes = [Candidate("spot", "z0", 2, 2, kind="FARGATE_SPOT"), Candidate("plain", "z1", 9, 9)]
    assert batch_of(Demand(cpu=1, kind="FARGATE_SPOT"), nodes, 4) == ["spot", "spot", "plain", "plain"]
