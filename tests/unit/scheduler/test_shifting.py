"""Deployments that go by stages: blue/green, linear, canary, and their ways back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from contracts.records.monitor import MetricAlarm
from services.scheduler.decisions.rollback import Failure, given_up, rollback_target, triggered
from services.scheduler.decisions.rollouts import recorded
from services.scheduler.decisions.shifting import wanted_count
from services.scheduler.decisions.stages import FORWARD
from tests.builders.rollouts import Drive

HOOK = {"hookTargetArn": "http://127.0.0.1/hook", "lifecycleStages": ["POST_SCALE_UP"]}
PAUSE = {"targetType": "PAUSE", "lifecycleStages": ["POST_SCALE_UP"]}
CANARY = {"strategy": "CANARY", "canaryConfiguration": {"canaryPercent": 12.5, "canaryBakeTimeInMinutes": 3}}
LINEAR = {"strategy": "LINEAR", "linearConfiguration": {"stepPercent": 40.0, "stepBakeTimeInMinutes": 7}}
FIRST = ["PRE_SCALE_UP", "SCALE_UP", "POST_SCALE_UP", "TEST_TRAFFIC_SHIFT", "POST_TEST_TRAFFIC_SHIFT"]


def complete(count: int = 2, **configuration) -> Drive:
    """A service whose first deployment is complete."""
    drive = Drive(count, **configuration)
    drive.run()
    assert (drive.service.deployments[0].rollout_state, drive.counts()) == ("COMPLETED", {"d1": count})
    drive.seen.clear()
    return drive


def stopped(drive: Drive, why: Failure | None = None) -> None:
    """StopServiceDeployment."""
    why = why or Failure("it was stopped", "it was stopped.", "StopServiceDeployment")
    deployments, _ = given_up(drive.service, why, drive.now)
    drive.service = recorded(replace(drive.service, deployments=deployments, steady=False), drive.now)


def test_the_first_deployment_goes_by_all_stages_and_has_nothing_to_bake_beside():
    drive = Drive(strategy="BLUE_GREEN", bakeTimeInMinutes=60)
    drive.run()
    stages = [stage for stage, _ in drive.seen]
    assert stages == [*FORWARD[2:], ""]
    assert (drive.now, drive.status, drive.service.steady) == (1000.0, "SUCCESSFUL", True)


def test_green_is_scaled_up_beside_blue_gets_the_traffic_at_once_and_blue_goes_after_the_bake_time():
    drive = complete(strategy="BLUE_GREEN", bakeTimeInMinutes=5)
    drive.update("d2", "web:2")
    before = [(stage, (100.0, 0.0)) for stage in [*FIRST, "PRE_PRODUCTION_TRAFFIC_SHIFT"]]
    shifts = ("PRODUCTION_TRAFFIC_SHIFT", "POST_PRODUCTION_TRAFFIC_SHIFT", "BAKE_TIME")
    drive.run(lambda: drive.stage == "BAKE_TIME")
    began = drive.now
    assert drive.seen == [*before, *((stage, (0.0, 100.0)) for stage in shifts)]
    assert drive.counts() == {"d1": 2, "d2": 2}
    drive.run()
    assert (drive.now, drive.counts(), drive.status) == (began + 300.0, {"d2": 2}, "SUCCESSFUL")
    (only,) = drive.service.deployments
    assert (only.id, only.weight, only.test_weight, only.stage) == ("d2", 100.0, 0.0, None)


def test_nothing_of_green_is_started_before_its_time():
    drive = complete(strategy="BLUE_GREEN", lifecycleHooks=[{**HOOK, "lifecycleStages": ["PRE_SCALE_UP"]}])
    drive.decide_hook = lambda run: None
    drive.update("d2", "web:2")
    drive.run(lambda: drive.now > 2000.0)
    assert (drive.stage, drive.counts()) == ("PRE_SCALE_UP", {"d1": 2})
    assert [wanted_count(drive.service, d) for d in drive.service.deployments] == [0, 2]


@pytest.mark.parametrize(
    ("configuration", "weights", "minutes"),
    [
        (CANARY, [12.5], 3),
        (LINEAR, [40.0, 80.0], 14),
        ({"strategy": "LINEAR"}, [10.0 * n for n in range(1, 10)], 54),
        ({"strategy": "CANARY"}, [5.0], 10),
    ],
)
def test_traffic_shifts_in_steps_each_of_which_is_watched(configuration, weights, minutes):
    drive = complete(strategy="BLUE_GREEN")
    drive.update("d2", "web:2", deploymentConfiguration={**configuration, "bakeTimeInMinutes": 0})
    drive.run(lambda: drive.stage == "POST_PRODUCTION_TRAFFIC_SHIFT")
    shifts = [found for stage, found in drive.seen if stage == "PRODUCTION_TRAFFIC_SHIFT"]
    assert shifts == [(round(100.0 - w, 1), w) for w in [*weights, 100.0]]
    assert drive.now == 1000.0 + minutes * 60.0
    assert drive.counts() == {"d1": 2, "d2": 2}


def test_a_stage_waits_for_its_hooks_and_is_entered_once():
    drive = complete(strategy="BLUE_GREEN", lifecycleHooks=[HOOK, PAUSE])
    drive.decide_hook = lambda run: None
    drive.update("d2", "web:2")
    drive.run(lambda: drive.stage == "POST_SCALE_UP")
    hooks = drive.service.deployments[0].stage.hooks
    assert [(r.target_type, r.status, r.target) for r in hooks] == [
        ("AWS_LAMBDA", "IN_PROGRESS", HOOK["hookTargetArn"]),
        ("PAUSE", "AWAITING_ACTION", ""),
    ]
    drive.decide_hook = lambda run: "SUCCEEDED" if run.target_type == "PAUSE" else None
    drive.look()
    assert drive.stage == "POST_SCALE_UP"
    drive.decide_hook = lambda run: "SUCCEEDED"
    drive.run()
    assert drive.status == "SUCCESSFUL"


def test_hooks_of_the_shift_are_run_at_each_step():
    hook = {**HOOK, "lifecycleStages": ["PRE_PRODUCTION_TRAFFIC_SHIFT", "PRODUCTION_TRAFFIC_SHIFT"]}
    drive = complete(strategy="LINEAR", linearConfiguration={"stepPercent": 50.0, "stepBakeTimeInMinutes": 0})
    configuration = drive.service.request["deploymentConfiguration"]
    asked = []
    drive.decide_hook = lambda run: asked.append(run.id) or "SUCCEEDED"
    drive.update("d2", "web:2", deploymentConfiguration={**configuration, "lifecycleHooks": [hook]})
    drive.run()
    assert (len(asked), len(set(asked)), drive.status) == (4, 4, "SUCCESSFUL")


@pytest.mark.parametrize("stage", ["POST_SCALE_UP", "TEST_TRAFFIC_SHIFT", "PRODUCTION_TRAFFIC_SHIFT"])
def test_a_hook_that_fails_brings_the_traffic_home_and_takes_green_down(stage):
    drive = complete(strategy="BLUE_GREEN", lifecycleHooks=[{**HOOK, "lifecycleStages": [stage]}])
    asked = []
    drive.decide_hook = lambda run: asked.append(run.id) or "FAILED"
    drive.update("d2", "web:2")
    drive.run()
    assert (drive.counts(), drive.status) == ({"d1": 2}, "ROLLBACK_SUCCESSFUL")
    (only,) = drive.service.deployments
    assert (only.id, only.weight, only.rollout_state) == ("d1", 100.0, "COMPLETED")
    assert "hook" in drive.service.rollouts[0].status_reason
    # Hooks of a shift hear of the way back too, and can't hold it up.
    assert len(asked) == (1 if stage == "POST_SCALE_UP" else 2)


def test_a_hook_that_times_out_does_what_it_is_told_to():
    limit = {"timeoutInMinutes": 10, "action": "CONTINUE"}
    drive = complete(strategy="BLUE_GREEN", lifecycleHooks=[{**PAUSE, "timeoutConfiguration": limit}])
    drive.decide_hook = lambda run: None
    drive.update("d2", "web:2")
    drive.run()
    assert (drive.status, drive.now) == ("SUCCESSFUL", 1000.0 + 600.0 + 2.0)
    drive = complete(strategy="BLUE_GREEN", lifecycleHooks=[PAUSE])
    drive.decide_hook = lambda run: None
    drive.update("d2", "web:2")
    drive.run()
    assert (drive.status, drive.counts()) == ("ROLLBACK_SUCCESSFUL", {"d1": 2})
    assert drive.now >= 1000.0 + 24 * 3600.0


@pytest.mark.parametrize("at", FORWARD[1:])
def test_a_deployment_that_is_stopped_goes_back_with_one_write_wherever_it_is(at):
    drive = complete(strategy="BLUE_GREEN", bakeTimeInMinutes=5)
    drive.update("d2", "web:2")
    drive.run(lambda: drive.stage == at)
    stopped(drive)
    weights = {d.id: d.weight for d in drive.service.deployments}
    assert weights == ({"d1": 0.0, "d2": 100.0} if at == "CLEAN_UP" else {"d1": 100.0, "d2": 0.0})
    drive.run()
    assert (drive.counts(), drive.status) == ({"d1": 2}, "ROLLBACK_SUCCESSFUL")
    assert [(d.id, d.weight) for d in drive.service.deployments] == [("d1", 100.0)]


def test_a_deployment_that_is_stopped_as_it_is_stays_as_it_is_and_keeps_what_has_the_traffic():
    drive = complete(strategy="BLUE_GREEN", bakeTimeInMinutes=5)
    drive.update("d2", "web:2")
    drive.run(lambda: drive.stage == "POST_SCALE_UP")
    stopped(drive, Failure("it was stopped", "it was stopped.", "StopServiceDeployment", rolls_back=False))
    drive.members = [replace(m, state="stopped") if m.id in ("t1", "t3") else m for m in drive.members]
    drive.run()
    assert (drive.counts(), drive.status, drive.stage) == ({"d1": 2, "d2": 1}, "STOPPED", "POST_SCALE_UP")
    drive.update("d3", "web:3")
    drive.run()
    assert (drive.counts(), drive.status) == ({"d3": 2}, "SUCCESSFUL")


def test_tasks_that_keep_failing_break_the_circuit_and_blue_is_not_touched():
    drive = complete(strategy="BLUE_GREEN", deploymentCircuitBreaker={"enable": True, "rollback": True})
    blue = [m.id for m in drive.members]
    drive.update("d2", "web:2")

    def crash() -> bool:
        drive.members = [
            replace(m, state="stopped", failed=True, stopped_at=drive.now)
            if m.deployment == "d2" and m.state == "running"
            else m
            for m in drive.members
        ]
        return drive.service.deployments[0].id == "d1"

    drive.run(crash)
    drive.run()
    assert (drive.status, [m.id for m in drive.members if m.state == "running"]) == ("ROLLBACK_SUCCESSFUL", blue)
    assert "PRODUCTION_TRAFFIC_SHIFT" not in [stage for stage, weights in drive.seen if weights[-1] > 0]


@pytest.mark.parametrize("at", ["SCALE_UP", "BAKE_TIME"])
def test_an_alarm_brings_the_traffic_home(at):
    alarms = {"enable": True, "rollback": True, "alarmNames": ["errors"]}
    drive = complete(strategy="BLUE_GREEN", bakeTimeInMinutes=5, alarms=alarms)
    drive.update("d2", "web:2")
    drive.run(lambda: drive.stage == at)
    drive.alarms = ("errors",)
    drive.run()
    assert (drive.counts(), drive.status, drive.service.rollouts[0].alarms) == (
        {"d1": 2}, "ROLLBACK_SUCCESSFUL", ["errors"],
    )  # fmt: skip


def test_alarms_that_went_off_since_the_deployment_began_are_triggered_unless_none_is_watched():
    def alarm(name: str, state: str, at: float) -> MetricAlarm:
        given = {"name": name, "request": {}, "configured_at": 1.0, "state": state, "state_changed_at": at}
        return MetricAlarm(account="a", region="r", **given)

    alarms = {"enable": True, "rollback": True, "alarmNames": ["on", "before", "off"]}
    of = Drive(strategy="BLUE_GREEN", alarms=alarms).service
    there = [alarm("on", "ALARM", 1001.0), alarm("before", "ALARM", 999.0), alarm("off", "OK", 1001.0)]
    assert triggered(of, [*there, alarm("another", "ALARM", 1001.0)]) == ("on",)
    unwatched = replace(of, deployments=[replace(of.deployments[0], unwatched=True)])
    assert triggered(unwatched, there) == ()


def test_green_that_has_failed_starts_nothing_more():
    drive = complete(strategy="BLUE_GREEN", alarms={"enable": True, "rollback": False, "alarmNames": ["errors"]})
    drive.update("d2", "web:2")
    drive.run(lambda: drive.stage == "POST_SCALE_UP")
    drive.members = [replace(m, state="stopped") if m.id == "t3" else m for m in drive.members]
    drive.alarms = ("errors",)
    drive.run()
    assert (drive.counts(), drive.status, drive.stage) == ({"d1": 2, "d2": 1}, "STOPPED", "POST_SCALE_UP")


def test_blue_is_kept_up_while_green_is_on_its_way():
    drive = complete(strategy="BLUE_GREEN", bakeTimeInMinutes=5)
    drive.update("d2", "web:2")
    drive.run(lambda: drive.stage == "SCALE_UP")
    drive.members = [replace(m, state="stopped") if m.id == "t1" else m for m in drive.members]
    drive.run(lambda: drive.stage == "BAKE_TIME")
    assert drive.counts() == {"d1": 2, "d2": 2}


def test_both_follow_the_count_that_is_wanted():
    drive = complete(strategy="BLUE_GREEN", bakeTimeInMinutes=5)
    drive.update("d2", "web:2")
    drive.run(lambda: drive.stage == "BAKE_TIME")
    drive.service = replace(drive.service, desired_count=3)
    drive.run(lambda: drive.stage == "CLEAN_UP")
    assert drive.counts() == {"d1": 3, "d2": 3}


def test_a_deployment_that_is_overtaken_is_cleared_away_before_the_new_one_begins():
    drive = complete(strategy="BLUE_GREEN", bakeTimeInMinutes=5)
    drive.update("d2", "web:2")
    drive.run(lambda: drive.stage == "BAKE_TIME")
    drive.update("d3", "web:3")
    assert [(d.id, d.weight) for d in drive.service.deployments] == [("d3", 0.0), ("d2", 100.0), ("d1", 0.0)]
    drive.look()
    assert [(d.id, d.weight) for d in drive.service.deployments] == [("d3", 0.0), ("d2", 0.0), ("d1", 100.0)]
    drive.run(lambda: drive.stage == "PRE_SCALE_UP")
    assert drive.counts() == {"d1": 2}
    drive.run()
    assert [(r.id, r.status) for r in drive.service.rollouts] == [
        ("d3", "SUCCESSFUL"), ("d2", "STOPPED"), ("d1", "SUCCESSFUL"),
    ]  # fmt: skip
    assert drive.counts() == {"d3": 2}


def test_one_that_is_overtaken_while_blue_is_taken_down_is_what_the_next_one_goes_out_from():
    drive = complete(strategy="BLUE_GREEN")
    drive.update("d2", "web:2")
    drive.run(lambda: drive.stage == "CLEAN_UP")
    drive.update("d3", "web:3")
    assert [(d.id, d.weight) for d in drive.service.deployments] == [("d3", 0.0), ("d2", 100.0), ("d1", 0.0)]
    drive.run()
    assert [(r.id, r.status, r.sources) for r in drive.service.rollouts][:2] == [
        ("d3", "SUCCESSFUL", ["d2", "d1"]), ("d2", "SUCCESSFUL", ["d1"]),
    ]  # fmt: skip


def test_the_strategy_can_change_from_one_deployment_to_the_next():
    drive = complete()
    assert drive.service.deployments[0].weight is None
    drive.update("d2", "web:2", deploymentConfiguration={"strategy": "BLUE_GREEN"})
    drive.run()
    drive.update("d3", "web:3", deploymentConfiguration={"strategy": "ROLLING"})
    drive.run()
    assert (drive.counts(), [d.weight for d in drive.service.deployments]) == ({"d3": 2}, [None])
    assert [r.status for r in drive.service.rollouts] == ["SUCCESSFUL"] * 3


def test_a_rolling_deployment_is_watched_by_its_alarms_for_the_bake_time():
    alarms = {"enable": True, "rollback": True, "alarmNames": ["errors"]}
    drive = complete(bakeTimeInMinutes=5, alarms=alarms)
    drive.update("d2", "web:2")
    drive.run(lambda: drive.stage == "BAKE_TIME")
    assert (drive.counts(), drive.status, drive.service.steady) == ({"d2": 2}, "IN_PROGRESS", False)
    drive.alarms = ("errors",)
    drive.run()
    assert (drive.counts(), drive.status) == ({"d1": 2}, "ROLLBACK_SUCCESSFUL")


STRATEGIES = ["ROLLING", "BLUE_GREEN", "LINEAR", "CANARY"]


@given(
    count=st.integers(1, 4),
    updates=st.lists(st.tuples(st.sampled_from(STRATEGIES), st.integers(0, 12)), min_size=1, max_size=5),
    stops=st.booleans(),
)
def test_whatever_is_updated_when_there_is_enough_that_has_the_traffic_and_it_comes_to_rest(count, updates, stops):
    drive = complete(count, strategy=updates[0][0])
    for number, (strategy, steps) in enumerate(updates, 2):
        drive.update(f"d{number}", f"web:{number}", deploymentConfiguration={"strategy": strategy})
        for _ in range(steps):
            drive.look()
            counts = drive.counts()
            weights = {d.id: d.weight for d in drive.service.deployments}
            serving = [one for one, weight in weights.items() if weight is None or weight > 0]
            assert sum(counts.get(one, 0) for one in serving) >= count
            if strategy != "ROLLING":
                assert sum(weights.values()) == pytest.approx(100.0)
                if drive.stage not in ("", "RECONCILE_SERVICE"):
                    assert all(counts.get(one, 0) >= count for one in serving)
        if stops and drive.status == "IN_PROGRESS" and number % 2 == 0 and rollback_target(drive.service):
            stopped(drive)
    drive.run()
    (only,) = drive.service.deployments
    assert (drive.counts(), only.rollout_state) == ({only.id: count}, "COMPLETED")
    assert only.weight in (None, 100.0)


def test_a_rolling_deployment_that_is_overtaken_on_its_way_keeps_its_traffic_until_blue_is_whole_again():
    drive = complete(4, minimumHealthyPercent=50, maximumPercent=100)
    drive.update("d2", "web:2")
    drive.run(lambda: drive.counts() == {"d1": 2, "d2": 2})
    drive.update("d3", "web:3", deploymentConfiguration={"strategy": "BLUE_GREEN"})
    assert (drive.stage, [d.weight for d in drive.service.deployments]) == ("RECONCILE_SERVICE", [0.0, 50.0, 50.0])
    drive.run(lambda: drive.counts() == {"d1": 4, "d2": 2})
    drive.run(lambda: drive.counts() == {"d1": 4})
    assert [d.weight for d in drive.service.deployments] == [0.0, 0.0, 100.0]
    drive.run()
    assert (drive.counts(), drive.status) == ({"d3": 4}, "SUCCESSFUL")


def test_green_that_had_no_traffic_gets_none_from_a_rolling_deployment_that_overtakes_it():
    drive = complete(strategy="BLUE_GREEN", lifecycleHooks=[PAUSE])
    drive.decide_hook = lambda run: None
    drive.update("d2", "web:2")
    drive.run(lambda: drive.stage == "POST_SCALE_UP")
    drive.update("d3", "web:3", deploymentConfiguration={"strategy": "ROLLING"})
    assert [d.weight for d in drive.service.deployments] == [None, 0.0, None]
    # A task of blue that is newer than green's is kept all the same.
    drive.members = [replace(m, created_at=m.created_at + 9.0) if m.deployment == "d1" else m for m in drive.members]
    drive.look()
    assert drive.counts() == {"d1": 2, "d3": 2}
    drive.run()
    assert (drive.counts(), drive.service.deployments[0].weight) == ({"d3": 2}, None)


@pytest.mark.parametrize(
    ("cleanup", "maximum", "counts"), [("DEFERRED", 150, {"d1": 2, "d2": 2}), ("BLOCKING", 100, {"d2": 2})]
)
def test_a_rolling_deployment_may_be_successful_before_all_its_tasks_are_up(cleanup, maximum, counts):
    early = {"enable": True, "healthyPercent": 50, "sourceServiceRevisionCleanup": cleanup}
    drive = complete(4, minimumHealthyPercent=50, maximumPercent=maximum, earlySuccessCriteria=early)
    drive.healthy = lambda member: member.id in ("t5", "t6")
    drive.update("d2", "web:2")
    drive.run(lambda: drive.status == "SUCCESSFUL")
    healthy = [m.deployment for m in drive.members if m.state == "running" and m.healthy]
    assert ({one: healthy.count(one) for one in set(healthy)}, drive.service.steady) == (counts, False)
    drive.members = [replace(m, healthy=m.state == "running") for m in drive.members]
    drive.healthy = lambda member: True
    drive.run()
    assert (drive.counts(), drive.service.steady, len(drive.service.deployments)) == ({"d2": 4}, True, 1)
