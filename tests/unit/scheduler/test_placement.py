"""Where tasks go."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scheduler.decisions.placement import Candidate, Demand, Holding, Ledger, Refusal
from services.scheduler.decisions.query import parse
from services.scheduler.decisions.ranking import place


def nodes(number: int = 3, **members) -> list[Candidate]:
    return [Candidate(f"n{i}", f"z{i % 3}", **{"cpu": 1024, "memory": 1024, **members}) for i in range(number)]


def fill(demand: Demand, on: list[Candidate], ledger: Ledger, count: int) -> list[str | Refusal]:
    chosen = []
    for _ in range(count):
        node = place(demand, on, ledger)
        chosen.append(node)
        if isinstance(node, str):
            ledger.hold(object(), Holding(node, demand.cpu, demand.memory, demand.ports, demand.group))
    return chosen


def test_tasks_of_a_group_spread_over_zones_then_over_nodes():
    assert sorted(map(str, fill(Demand(cpu=64, group="g"), nodes(6), Ledger(), 6))) == [f"n{i}" for i in range(6)]


def test_of_equal_zones_the_least_used_node_is_taken():
    ledger = Ledger()
    ledger.hold("a", Holding("n0", 512, 0, (), "other"))
    assert place(Demand(cpu=1), [Candidate("n0", "z", 1024, 1024), Candidate("n1", "z", 1024, 1024)], ledger) == "n1"


@pytest.mark.parametrize(
    ("demand", "node", "reason"),
    [
        (Demand(cpu=2048), {}, "RESOURCE:CPU"),
        (Demand(memory=2048), {}, "RESOURCE:MEMORY"),
        (Demand(ports=(80,)), {}, "RESOURCE:PORTS"),
        (Demand(), {"connected": False}, "AGENT"),
        (Demand(), {"usable": False}, "AGENT"),
        (Demand(network_mode="awsvpc"), {"network_modes": ("bridge",)}, "ATTRIBUTE"),
        (Demand(kind="FARGATE"), {"kind": "EC2"}, "ATTRIBUTE"),
        (Demand(distinct=True, group="g"), {}, "DistinctInstance placement constraint unsatisfied"),
        (
            Demand(expressions=(parse("attribute:disk == ssd"),)),
            {},
            "MemberOf placement constraint unsatisfied",
        ),
    ],
)
def test_a_node_that_does_not_suit_says_why(demand, node, reason):
    ledger = Ledger()
    ledger.hold("a", Holding("n0", 64, 64, (80,), "g"))
    assert place(demand, nodes(1, **node), ledger) == Refusal({"n0": reason})


def test_a_task_goes_to_its_own_kind_of_capacity_where_there_is_some():
    mixed = [Candidate("n0", "z", 1, 1), Candidate("n1", "z", 1, 1, kind="FARGATE_SPOT")]
    assert place(Demand(kind="FARGATE_SPOT"), mixed, Ledger()) == "n1"
    assert place(Demand(kind="FARGATE_SPOT"), mixed[:1], Ledger()) == "n0"


def test_binpack_fills_the_fullest_node_first():
    demand = Demand(memory=256, strategy=(("binpack", "memory"),))
    assert fill(demand, nodes(2), Ledger(), 5) == ["n0"] * 4 + ["n1"]


def test_distinct_instances_are_distinct():
    chosen = fill(Demand(distinct=True, group="g"), nodes(2), Ledger(), 3)
    assert (sorted(map(str, chosen[:2])), type(chosen[2])) == (["n0", "n1"], Refusal)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 600), st.integers(1, 600), st.sampled_from([(), (80,), (80, 443)])), max_size=40)
)
def test_nothing_is_ever_promised_twice(wishes):
    ledger, on = Ledger(), nodes(4)
    for number, (cpu, memory, ports) in enumerate(wishes):
        node = place(Demand(cpu=cpu, memory=memory, ports=ports), on, ledger)
        if isinstance(node, str):
            ledger.hold(number, Holding(node, cpu, memory, ports, ""))
    for node in on:
        used = ledger.usage(node.name)
        assert used.cpu <= node.cpu and used.memory <= node.memory
        assert all(count == 1 for count in used.ports.values())


def test_what_is_held_twice_counts_once_and_what_is_released_not_at_all():
    ledger = Ledger()
    ledger.hold("a", Holding("n0", 10, 10, (80,), "g"))
    ledger.hold("a", Holding("n0", 20, 10, (80,), "g"))
    assert (ledger.usage("n0").cpu, ledger.usage("n0").tasks, ledger.occupied()) == (20, 1, ["n0"])
    assert ledger.release("a") and not ledger.release("a")
    used = ledger.usage("n0")
    assert (used.cpu, used.tasks, dict(used.ports), dict(used.groups), ledger.occupied()) == (0, 0, {}, {}, [])
