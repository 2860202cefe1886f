"""What the service controller decides."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from contracts.records.monitor import MetricAlarm
from services.scheduler.decisions.backoff import BackoffRules, Member
from services.scheduler.decisions.rollback import threshold, watch_s
from services.scheduler.decisions.rollout import bounds, decide, limits_of, unbalanced
from tests.builders.ecs import deployment, service

RULES = BackoffRules(base_s=1.0, limit_s=60.0, settled_s=10.0)


def member(name: str, of: str = "d1", state: str = "running", **members) -> Member:
    given = {"created_at": 10.0, "healthy": state == "running", "started_at": 10.0, **members}
    return Member(name, of, state=state, **given)


def failures(number: int, of: str = "d1", at: float = 20.0) -> list[Member]:
    return [
        member(f"f{i}", of, "stopped", created_at=at, failed=True, started_at=at, stopped_at=at) for i in range(number)
    ]


def test_an_empty_service_starts_what_is_wanted():
    plan = decide(service(3), [], 100.0, RULES)
    assert (plan.starts, plan.deployment, plan.stops, plan.steady) == (3, "d1", (), False)


def test_a_service_that_has_what_it_wants_is_steady_and_its_rollout_complete():
    plan = decide(service(1), [member("a")], 100.0, RULES)
    assert (plan.steady, plan.deployments[0].rollout_state) == (True, "COMPLETED")
    assert plan.messages == (
        "(service web) (deployment d1) deployment completed.",
        "(service web) has reached a steady state.",
    )


def test_a_steady_service_has_nothing_to_do():
    steady = service(1, deployment(rollout_state="COMPLETED"), steady=True)
    plan = decide(steady, [member("a")], 100.0, RULES)
    assert (plan.stops, plan.starts, plan.messages, plan.deployments) == ((), 0, (), steady.deployments)


def test_a_service_of_none_is_steady():
    assert decide(service(0), [], 100.0, RULES).steady


def test_a_task_that_died_is_replaced_at_once():
    done = service(2, deployment(rollout_state="COMPLETED"), steady=True)
    dead = member("b", state="stopped", stopped_at=99.0, failed=True)
    assert decide(done, [member("a"), dead], 100.0, RULES).starts == 1


def test_a_second_round_of_failures_waits_and_names_when_to_look_again():
    plan = decide(service(1), failures(2), 20.5, RULES)
    assert (plan.starts, plan.wake_at) == (0, 21.0)
    assert decide(service(1), failures(2), 21.0, RULES).starts == 1


def test_the_wait_doubles_up_to_its_limit():
    waits = [decide(service(1), failures(n), 20.0, RULES).wake_at for n in (2, 3, 4, 5, 30)]
    assert waits == [21.0, 22.0, 24.0, 28.0, 80.0]


def test_a_task_that_lasted_ends_the_row_of_failures():
    lasted = member("ok", created_at=30.0, started_at=30.0)
    assert decide(service(2), [*failures(9), lasted], 50.0, RULES).starts == 1


def test_tasks_that_fail_again_and_again_are_told_of():
    said = "(service web) is unable to consistently start tasks successfully."
    assert any(m.startswith(said) for m in decide(service(1), failures(4), 21.0, RULES).messages)


def test_an_unhealthy_task_is_stopped_and_replaced():
    sick = member("a", healthy=False, unhealthy=True)
    plan = decide(service(1), [sick], 100.0, RULES)
    assert [(s.task, s.reason) for s in plan.stops] == [("a", "Task failed container health checks")]
    assert plan.starts == 1


def test_an_unhealthy_task_is_let_be_in_its_grace_period():
    young = member("a", healthy=False, unhealthy=True, started_at=90.0)
    patient = service(1, request={"healthCheckGracePeriodSeconds": 30})
    plan = decide(patient, [young], 100.0, RULES)
    assert (plan.stops, plan.starts, plan.wake_at) == ((), 0, 120.0)


def test_scaling_in_stops_what_is_not_up_then_the_fullest_zone_then_the_newest():
    members = [
        member("pending", state="pending", zone="b"),
        member("old", zone="a", created_at=1.0),
        member("new", zone="a", created_at=2.0),
        member("other", zone="b", created_at=3.0),
    ]
    assert [s.task for s in decide(service(3), members, 100.0, RULES).stops] == ["pending"]
    assert [s.task for s in decide(service(2), members, 100.0, RULES).stops] == ["pending", "new"]


def rolling(desired: int, minimum: int, maximum: int, **members):
    old = deployment("d1", status="ACTIVE", rollout_state="COMPLETED")
    return service(desired, deployment("d2"), old, minimum=minimum, maximum=maximum, **members)


def test_a_rollout_starts_new_tasks_beside_the_old_ones_where_there_may_be_more():
    plan = decide(rolling(2, 100, 200), [member("a"), member("b")], 100.0, RULES)
    assert (plan.starts, plan.deployment, plan.stops) == (2, "d2", ())


def test_a_rollout_makes_way_first_where_there_may_not():
    olds = [member(name) for name in "abcd"]
    plan = decide(rolling(4, 50, 100), olds, 100.0, RULES)
    assert (len(plan.stops), plan.starts) == (2, 2)


def test_old_tasks_go_as_new_ones_are_healthy():
    members = [member("a"), member("b"), member("n", "d2"), member("m", "d2", "pending")]
    assert [s.task for s in decide(rolling(2, 100, 200), members, 100.0, RULES).stops] == ["a"]


def test_limits_that_allow_nothing_are_told():
    plan = decide(rolling(1, 50, 100), [member("a")], 100.0, RULES)
    assert (plan.starts, plan.stops) == (0, ())
    assert "because of the service deployment configuration" in plan.messages[0]


def test_the_circuit_breaks_and_the_deployment_before_comes_back():
    breaker = {"deploymentCircuitBreaker": {"enable": True, "rollback": True}}
    plan = decide(rolling(2, 100, 200, configuration=breaker), [member("a"), *failures(3, "d2")], 21.0, RULES)
    assert [(d.id, d.status, d.rollout_state) for d in plan.deployments] == [
        ("d1", "PRIMARY", "IN_PROGRESS"),
        ("d2", "ACTIVE", "FAILED"),
    ]
    assert plan.messages[-1] == "(service web) rolling back to deployment d1."


def test_without_rollback_a_broken_deployment_starts_nothing_more():
    failed = service(2, deployment("d2", rollout_state="FAILED"), deployment("d1", status="ACTIVE"))
    plan = decide(failed, [member("a"), *failures(3, "d2")], 1000.0, RULES)
    assert (plan.starts, plan.stops) == (0, ())


def test_with_a_circuit_breaker_a_task_has_to_last_before_it_counts():
    breaker = {"deploymentCircuitBreaker": {"enable": True, "rollback": False}}
    rollout = rolling(1, 100, 200, configuration=breaker)
    members = [member("a"), member("n", "d2", started_at=95.0)]
    early = decide(rollout, members, 100.0, RULES)
    assert (early.stops, early.wake_at) == ((), 105.0)
    assert [s.task for s in decide(rollout, members, 105.0, RULES).stops] == ["a"]


def test_the_threshold_is_half_the_count_within_3_and_200():
    assert [threshold(n) for n in (1, 6, 7, 25, 400, 900)] == [3, 3, 4, 13, 200, 200]


def test_bounds_round_up_and_down():
    assert bounds(5, 50, 150) == (3, 7)


def test_a_service_that_drains_stops_everything_and_is_inactive_when_nothing_runs():
    draining = service(0, status="DRAINING")
    plan = decide(draining, [member("a"), member("b", state="stopping")], 100.0, RULES)
    assert ([s.task for s in plan.stops], plan.status) == (["a"], "DRAINING")
    assert decide(draining, [member("b", state="stopped")], 100.0, RULES).status == "INACTIVE"


states = st.sampled_from(["pending", "running", "stopping", "stopped"])


@st.composite
def worlds(draw):
    desired = draw(st.integers(0, 8))
    minimum, maximum = draw(st.integers(0, 100)), draw(st.integers(100, 250))
    members = [
        member(f"t{i}", draw(st.sampled_from(["d1", "d2"])), draw(states), zone=draw(st.sampled_from("ab")))
        for i in range(draw(st.integers(0, 12)))
    ]
    members = [
        replace(m, healthy=False, unhealthy=draw(st.booleans())) if m.healthy and draw(st.booleans()) else m
        for m in members
    ]
    return rolling(desired, minimum, maximum), members


@settings(max_examples=300, deadline=None)
@given(worlds())
def test_our_stops_never_take_healthy_tasks_below_the_minimum_nor_our_starts_above_the_maximum(world):
    wanted, members = world
    plan = decide(wanted, members, 100.0, RULES)
    minimum, maximum = limits_of(wanted)
    stopped = {s.task for s in plan.stops}
    alive = [m for m in members if m.state in ("pending", "running")]
    healthy = sum(m.healthy for m in alive)
    left = sum(m.healthy for m in alive if m.id not in stopped)
    assert left >= min(healthy, minimum)
    if plan.starts:
        assert len(alive) - len(stopped) + plan.starts <= maximum
    assert stopped <= {m.id for m in alive}


@settings(max_examples=150, deadline=None)
@given(worlds(), st.randoms(use_true_random=False))
def test_whatever_it_begins_with_a_service_becomes_steady(world, random):
    wanted, members = world
    minimum, maximum = limits_of(wanted)
    if minimum == maximum:
        return
    now, fresh = 100.0, 0
    for _ in range(200):
        plan = decide(wanted, members, now, RULES)
        if plan.steady and not plan.stops and not plan.starts and wanted.steady:
            break
        stopped = {s.task for s in plan.stops}
        members = [replace(m, state="stopping", healthy=False) if m.id in stopped else m for m in members]
        for _ in range(plan.starts):
            fresh += 1
            members.append(member(f"n{fresh}", plan.deployment, "pending", created_at=now, healthy=False))
        members = [_later(m, random, now) for m in members]
        wanted = replace(wanted, deployments=plan.deployments, steady=plan.steady)
        now += 1.0
    assert wanted.steady
    assert [d.id for d in wanted.deployments] == ["d2"]
    assert sum(m.state == "running" for m in members) == wanted.desired_count


def _later(m: Member, random, now: float) -> Member:
    """What an agent does with a task in a second."""
    if m.state == "pending" and random.random() < 0.7:
        return replace(m, state="running", healthy=True, started_at=now)
    if m.state == "running" and not m.healthy and not m.unhealthy:
        return replace(m, healthy=True)
    if m.state == "stopping" and random.random() < 0.7:
        return replace(m, state="stopped", stopped_at=now)
    return m


def test_a_deployment_that_was_overtaken_leaves_when_its_last_task_has():
    """Thirty forced deployments in a row are not thirty in the service."""
    old = deployment("d0", status="ACTIVE", rollout_state="COMPLETED")
    overtaken = [deployment(f"o{i}", status="ACTIVE") for i in range(3)]
    tasks = [member("a", "d0"), member("b", "o1", "stopping", healthy=False), member("c", "o2", "stopped")]
    plan = decide(service(2, deployment("new"), *overtaken, old), tasks, 100.0, RULES)
    assert [d.id for d in plan.deployments] == ["new", "o1", "d0"]


def test_a_deployment_that_failed_is_seen_until_another_comes():
    failed = [deployment(f"f{i}", status="ACTIVE", rollout_state="FAILED") for i in range(2)]
    plan = decide(service(2, deployment("new"), *failed), [], 100.0, RULES)
    assert [d.id for d in plan.deployments] == ["new", "f0"]


def test_tasks_on_a_drained_node_are_replaced_as_those_of_an_older_deployment_are():
    members = [member("a", leaving=True), member("b")]
    first = decide(service(2, deployment(rollout_state="COMPLETED")), members, 100.0, RULES)
    assert (first.starts, first.stops) == (2 - 1, ())
    replaced = [*members, member("c")]
    assert [
        stop.task for stop in decide(service(2, deployment(rollout_state="COMPLETED")), replaced, 100.0, RULES).stops
    ] == ["a"]


def test_a_protected_task_is_neither_scaled_in_nor_rolled_over_until_its_time_is_up():
    members = [member("a", protected_until=150.0), member("b", protected_until=150.0)]
    plan = decide(service(1, deployment(rollout_state="COMPLETED")), members, 100.0, RULES)
    assert (plan.stops, plan.wake_at) == ((), 150.0)
    assert len(decide(service(1, deployment(rollout_state="COMPLETED")), members, 150.0, RULES).stops) == 1


def test_zones_are_even_before_the_surplus_of_the_fullest_goes():
    request = {"availabilityZoneRebalancing": "ENABLED"}
    of = service(4, deployment(rollout_state="COMPLETED"), request=request)
    full = [member(name, zone="z1") for name in "abcd"]
    assert unbalanced(of, full, "z2") and not unbalanced(of, full[:3], "z2")
    coming = Member("e", "d1", 90.0, zone="z2")
    assert decide(of, [*full, coming], 100.0, RULES).stops == ()
    there = member("e", zone="z2")
    assert [stop.task for stop in decide(of, [*full, there], 100.0, RULES).stops] == ["d"]


WATCHED = {"alarms": {"enable": True, "rollback": True, "alarmNames": ["errors"]}}


@pytest.mark.parametrize(("minutes", "seconds"), [(0, 30.0), (1, 60.0)])
def test_alarms_see_as_many_periods_as_they_judge_by_before_a_rolling_deployment_is_complete(minutes, seconds):
    watched = service(1, deployment("d2"), configuration={**WATCHED, "bakeTimeInMinutes": minutes})
    plan = decide(watched, [member("a", "d2")], 100.0, RULES, (), 30.0)
    assert (plan.steady, plan.wake_at, plan.deployments[0].stage.name) == (False, 100.0 + seconds, "BAKE_TIME")
    later = replace(watched, deployments=plan.deployments)
    plan = decide(later, [member("a", "d2")], 100.0 + seconds, RULES, (), 30.0)
    assert plan.deployments[0].rollout_state == "COMPLETED"
    plain = service(1, deployment("d2"))
    assert decide(plain, [member("a", "d2")], 100.0, RULES, (), 30.0).deployments[0].rollout_state == "COMPLETED"


@pytest.mark.parametrize(
    ("requests", "seconds"),
    [
        ([], 0.0),
        ([{}], 0.0),
        ([{"Period": 60, "EvaluationPeriods": 3}, {"Period": 10, "EvaluationPeriods": 5}], 180.0),
        ([{"Metrics": [{"Expression": "a/b"}, {"MetricStat": {"Period": 60}}], "EvaluationPeriods": 2}], 120.0),
        ([{"Metrics": [{"Expression": "a/b", "Period": 30}]}], 30.0),
    ],
)
def test_how_long_alarms_are_watched_is_told_by_their_periods(requests, seconds):
    alarms = [MetricAlarm(account="a", region="r", name="n", request=each, configured_at=1.0) for each in requests]
    assert watch_s(alarms) == seconds
