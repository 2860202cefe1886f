"""Task sets: what each is to have, and what becomes of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from contracts.records.scheduler import Service
from services.scheduler.decisions import task_sets
from services.scheduler.decisions.backoff import BackoffRules, Member
from services.shared.errors import AwsError
from tests.builders.ecs import service, task_set

RULES = BackoffRules(base_s=1.0, limit_s=60.0, settled_s=10.0)


def of(desired: int, *sets, **members) -> Service:
    made = service(desired, request={"deploymentController": {"type": "EXTERNAL"}}, **members)
    return replace(made, deployments=[], task_sets=list(sets))


def member(name: str, of: str = "s1", state: str = "running", **members) -> Member:
    return Member(name, of, 10.0, state=state, **{"healthy": state == "running", "started_at": 10.0, **members})


@pytest.mark.parametrize(
    ("desired", "scale", "count"),
    [(4, 100.0, 4), (4, 30.0, 2), (10, 0.1, 1), (3, 0.0, 0), (7, 100 / 7, 1), (0, 50.0, 0)],
)
def test_a_set_has_its_share_of_the_desired_count_rounded_up(desired, scale, count):
    made = task_set(scale=scale)
    assert task_sets.computed_count(of(desired, made), made) == count


def test_each_set_is_kept_at_its_own_share():
    sets = of(4, task_set("s1", scale=50.0), task_set("s2", scale=25.0))
    plan = task_sets.decide(sets, [member("a"), member("b"), member("c")], 100.0, RULES)
    assert (plan.others, [s.task for s in plan.stops], plan.steady) == ((("s2", 1),), ["c"], False)


def test_a_set_that_drains_goes_when_its_tasks_have_gone():
    sets = of(2, task_set("s1"), task_set("s2", status="DRAINING"))
    old = [member("a"), member("b"), member("c", "s2")]
    plan = task_sets.decide(sets, old, 100.0, RULES)
    assert ([s.task for s in plan.stops], [s.id for s in plan.task_sets]) == (["c"], ["s1", "s2"])
    gone = [*old[:2], member("c", "s2", "stopped")]
    plan = task_sets.decide(sets, gone, 100.0, RULES)
    assert ([s.id for s in plan.task_sets], plan.messages) == (["s1"], ("(service web) has reached a steady state.",))


def test_tasks_of_a_set_that_is_not_there_any_more_are_stopped():
    plan = task_sets.decide(of(1), [member("a", "s9")], 100.0, RULES)
    assert ([s.task for s in plan.stops], plan.steady) == (["a"], False)


def test_a_set_is_steady_with_all_its_tasks_healthy_and_where_they_may_stay():
    made = task_set()
    sets = of(1, made)
    assert task_sets.is_steady(sets, made, [member("a")])
    for other in (member("a", healthy=False), member("a", state="pending"), member("a", leaving=True)):
        assert not task_sets.is_steady(sets, made, [other])
    assert not task_sets.is_steady(sets, made, [])


def test_one_set_at_a_time_is_primary():
    sets = task_sets.made_primary(of(1, task_set("s1", status="PRIMARY"), task_set("s2")), "s2", 9.0)
    assert [(s.id, s.status) for s in sets.task_sets] == [("s1", "ACTIVE"), ("s2", "PRIMARY")]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda s: task_sets.scaled(s, "s9", 1.0, 9.0), "TaskSetNotFoundException"),
        (lambda s: task_sets.draining(s, "s1", False, 9.0), "InvalidParameterException"),
        (lambda s: task_sets.made_primary(s, "s5", 9.0), "InvalidParameterException"),
        (lambda s: task_sets.scaled(s, "s5", 1.0, 9.0), "InvalidParameterException"),
        (lambda s: task_sets.added(s, task_set("s6")), "LimitExceededException"),
        (lambda s: task_sets.read_scale({"value": 101.0}), "InvalidParameterException"),
        (lambda s: task_sets.check_update({"taskDefinition": "web"}), "InvalidParameterException"),
    ],
)
def test_what_can_not_be_is_refused(change, code):
    full = of(1, *(task_set(f"s{n}") for n in range(1, 5)), task_set("s5", status="DRAINING"))
    with pytest.raises(AwsError) as refusal:
        change(full)
    assert refusal.value.code == code


@given(st.lists(st.tuples(st.floats(0.0, 100.0), st.integers(0, 6)), max_size=4), st.integers(0, 6))
def test_one_look_starts_and_stops_exactly_what_differs(given_sets, desired):
    sets = of(desired, *(task_set(f"s{n}", scale=scale) for n, (scale, _) in enumerate(given_sets)))
    members = [member(f"{n}-{i}", f"s{n}") for n, (_, count) in enumerate(given_sets) for i in range(count)]
    plan = task_sets.decide(sets, members, 100.0, RULES)
    starts, stopped = dict(plan.others), {s.task for s in plan.stops}
    for each in sets.task_sets:
        left = [m for m in members if m.deployment == each.id and m.id not in stopped]
        assert len(left) + starts.get(each.id, 0) == task_sets.computed_count(sets, each)
