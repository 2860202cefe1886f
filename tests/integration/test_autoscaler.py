"""The autoscaler with a real NATS and a real scheduler; the monitor says what the test wants."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from services.autoscaler.adapters.others import SchedulerCounts
from services.shared.leases import Lease
from tests.builders.scaling import WEB, Stage
from tests.builders.waiting import until


@pytest.fixture
async def stage(nats_platform, tmp_path):
    stage = await Stage(nats_platform, tmp_path).open()
    try:
        yield stage
    finally:
        await stage.close()


async def registered(stage, low=1, high=5, **settings):
    app = await stage.autoscaler(**settings)
    await stage.call("register_scalable_target", **WEB, MinCapacity=low, MaxCapacity=high)
    return app


async def ended(stage, count=1):
    """The activities, when there are so many and all have ended."""

    async def over():
        found = await stage.activities()
        return found if len(found) >= count and all("EndTime" in a for a in found) else None

    return await until(over)


async def test_a_service_under_load_is_scaled_out_and_back_and_it_is_told_why(stage):
    await registered(stage)
    await stage.track(50.0)
    await stage.load(140.0)
    await until(lambda: len(stage.agent.running()) == 3)
    (activity,) = await ended(stage)
    shown = {k: activity[k] for k in ("StatusCode", "Description", "Cause", "StatusMessage")}
    assert shown == {
        "StatusCode": "Successful",
        "Description": "Setting desired count to 3.",
        "Cause": "policy cpu: ECSServiceAverageCPUUtilization is 140, target 50: 1 x 140 / 50 asks for 3",
        "StatusMessage": "Successfully set desired count to 3. Change successfully fulfilled by ecs.",
    }
    await stage.load(30.0)
    await until(lambda: stage.desired() == 1)
    assert [a["Description"] for a in await ended(stage, 2)] == [
        "Setting desired count to 1.",
        "Setting desired count to 3.",
    ]


async def test_one_question_is_asked_for_all_targets_and_none_when_there_is_none(stage):
    app = await stage.autoscaler(period_s=10.0)
    await stage.monitor.says("CPUUtilization", 60.0)
    assert (app.leader.leading, stage.monitor.asked) == (False, [])
    await stage.ecs("create_service", cluster="main", serviceName="api", taskDefinition="web", desiredCount=1)
    api = {**WEB, "ResourceId": "service/main/api"}
    tracking = {"TargetValue": 100.0, "CustomizedMetricSpecification": {"MetricName": "Depth", "Namespace": "Shop",
                "Statistic": "Sum", "Dimensions": [{"Name": "queue", "Value": "q"}]}}  # fmt: skip
    for target in (WEB, api):
        await stage.call("register_scalable_target", **target, MinCapacity=1, MaxCapacity=3)
        await stage.call("put_scaling_policy", **target, PolicyName="depth", PolicyType="TargetTrackingScaling",
                         TargetTrackingScalingPolicyConfiguration=tracking)  # fmt: skip
    await until(lambda: app.leader.leading)
    stage.monitor.asked.clear()
    await stage.monitor.says("Depth", 90.0)
    (asked,) = await until(lambda: stage.monitor.asked)
    assert [(q.name, q.dimensions, q.statistic, q.period_s) for q in asked.queries] == [
        ("Depth", {"queue": "q"}, "Sum", 60),
    ]
    for target in (WEB, api):
        await stage.call("deregister_scalable_target", **target)
    await until(lambda: not app.leader.leading)


async def test_registering_brings_the_count_inside_at_once(stage):
    await registered(stage, 3, 6)
    await until(lambda: stage.desired() == 3)
    await stage.call("register_scalable_target", **WEB, MinCapacity=0, MaxCapacity=2)
    await until(lambda: stage.desired() == 2)
    assert [a["Cause"] for a in await ended(stage, 2)] == [
        "maximum capacity was set to 2",
        "minimum capacity was set to 3",
    ]
    await stage.ecs("update_service", cluster="main", service="web", desiredCount=4)
    await stage.call("register_scalable_target", **WEB, SuspendedState={"DynamicScalingInSuspended": True})
    assert stage.desired() == 4, "who sets a count by hand may, until the bounds change or a policy acts"


async def test_an_alarm_triggers_the_steps_of_its_policy_in_one_trace(stage):
    await registered(stage, 1, 20)
    steps = {
        "AdjustmentType": "ChangeInCapacity",
        "Cooldown": 300,
        "StepAdjustments": [
            {"MetricIntervalLowerBound": 0, "MetricIntervalUpperBound": 100, "ScalingAdjustment": 2},
            {"MetricIntervalLowerBound": 100, "ScalingAdjustment": 6},
        ],
    }
    arn = (await stage.call("put_scaling_policy", **WEB, PolicyName="steps", PolicyType="StepScaling",
                            StepScalingPolicyConfiguration=steps))["PolicyARN"]  # fmt: skip
    await stage.monitor.says("Depth", 1050.0)
    await stage.monitor.alarm("deep", "OK", [arn], "Depth", 1000.0)

    async def names_its_alarm():
        (policy,) = (await stage.call("describe_scaling_policies", ServiceNamespace="ecs"))["ScalingPolicies"]
        return [a["AlarmName"] for a in policy["Alarms"]] == ["deep"]

    await until(names_its_alarm)
    await stage.monitor.alarm("deep", "ALARM", [arn], "Depth", 1000.0)
    await until(lambda: stage.desired() == 3)
    await stage.monitor.says("Depth", 1100.0)
    await stage.monitor.alarm("deep", "OK", [arn], "Depth", 1000.0)
    await stage.monitor.alarm("deep", "ALARM", [arn], "Depth", 1000.0)
    await until(lambda: stage.desired() == 7)
    causes = [a["Cause"] for a in await ended(stage, 2)]
    assert causes == [
        "alarm deep in state ALARM triggered policy steps, 100 above the threshold",
        "alarm deep in state ALARM triggered policy steps, 50 above the threshold",
    ]


async def test_what_is_wanted_and_can_not_be_had_is_told_once_and_only_if_asked(stage):
    await registered(stage, 1, 1)
    await stage.track(50.0)
    await stage.monitor.says("CPUUtilization", 100.0)

    async def told():
        return await stage.activities(IncludeNotScaledActivities=True)

    (activity,) = await until(told)
    reason = {"Code": "AlreadyAtMaxCapacity", "MaxCapacity": 1, "CurrentCapacity": 1}
    assert (activity["NotScaledReasons"], activity["StatusCode"]) == ([reason], "Failed")
    asked = len(stage.monitor.asked)
    await until(lambda: len(stage.monitor.asked) >= asked + 2)
    assert len(await told()) == 1
    assert await stage.activities() == []


async def test_a_scheduled_action_sets_bounds_and_brings_the_count_inside(stage):
    await registered(stage)
    at = (datetime.now(UTC) + timedelta(seconds=2)).strftime("%Y-%m-%dT%H:%M:%S")
    await stage.call("put_scheduled_action", **WEB, ScheduledActionName="morning", Schedule=f"at({at})",
                     ScalableTargetAction={"MinCapacity": 3, "MaxCapacity": 9})  # fmt: skip
    await until(lambda: stage.desired() == 3)
    (target,) = (await stage.call("describe_scalable_targets", ServiceNamespace="ecs"))["ScalableTargets"]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (3, 9)
    assert [a["Cause"] for a in await ended(stage, 2)] == [
        "minimum capacity was set to 3",
        "scheduled action name morning was triggered",
    ]
    assert time.time() >= datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp()


async def test_a_suspended_schedule_lets_its_occurrence_pass(stage):
    await registered(stage)
    await stage.call("register_scalable_target", **WEB, SuspendedState={"ScheduledScalingSuspended": True})
    at = (datetime.now(UTC) + timedelta(seconds=2)).strftime("%Y-%m-%dT%H:%M:%S")
    await stage.call("put_scheduled_action", **WEB, ScheduledActionName="x", Schedule=f"at({at})",
                     ScalableTargetAction={"MinCapacity": 3})  # fmt: skip
    app = stage.apps[-1]
    await until(lambda: app.world.targets.records()[0].fired)
    await stage.call("register_scalable_target", **WEB, SuspendedState={"ScheduledScalingSuspended": False})
    await until(lambda: not app.world.targets.records()[0].suspended.scheduled)
    assert (app.world.targets.records()[0].min_capacity, stage.desired()) == (1, 1)


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_who_dies_between_deciding_and_asking_is_followed_by_one_who_finishes_once(stage, monkeypatch, moment):
    app = await registered(stage)
    real, died = SchedulerCounts.set, asyncio.Event()

    async def dies(self, activity):
        if moment == "after":
            await real(self, activity)
        died.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(SchedulerCounts, "set", dies)
    await stage.track(50.0)
    await stage.load(140.0)
    await asyncio.wait_for(died.wait(), 30)
    await stage.kill(app)
    monkeypatch.setattr(SchedulerCounts, "set", real)
    second = await stage.autoscaler("a2")
    stage.outlives(second)
    await until(lambda: [a.status for a in second.world.activities.records()] == ["Successful"])
    assert stage.desired() == 3


async def test_two_autoscalers_scale_once_and_one_takes_over_from_the_other(stage):
    first = await registered(stage)
    second = await stage.autoscaler("a2")
    await stage.track(50.0)
    await stage.load(140.0)
    await until(lambda: stage.desired() == 3)
    await until(lambda: [a.status for a in second.world.activities.records()] == ["Successful"])
    assert (first.leader.leading, second.leader.leading) == (True, False)
    await stage.kill(first)
    stage.outlives(second)
    await until(lambda: second.leader.leading)
    await stage.load(225.0)
    await until(lambda: stage.desired() == 5)


async def test_a_service_that_is_gone_is_left_alone_and_nats_may_come_and_go(stage, nats_platform):
    await registered(stage, 1, 3)
    await stage.track(50.0)
    await nats_platform.server.stop()
    await nats_platform.server.start()
    await stage.monitor.bus.connected.wait()
    await until(lambda: stage.apps[-1].host.bus.connected.is_set())
    await stage.load(140.0)
    await until(lambda: stage.desired() == 3)
    await stage.ecs("delete_service", cluster="main", service="web", force=True)
    await until(lambda: stage.service().status != "ACTIVE")
    app = stage.apps[-1]
    await until(lambda: app.world.service(app.world.targets.records()[0]).status != "ACTIVE")
    await stage.monitor.says("CPUUtilization", 900.0)
    await until(lambda: all(a.ended_at for a in app.world.activities.records()))
    assert {a.after for a in app.world.activities.records() if not a.not_scaled} == {3}


async def test_one_that_stalled_for_longer_than_its_lease_scales_nothing(stage):
    app = await registered(stage, lease_ttl_s=3600.0)
    await until(lambda: app.leader.leading)
    slept = lambda: time.time() + 3601  # noqa: E731
    app.leader._lease._clock = slept
    other = Lease(await stage.platform.bus("autoscaler"), "scaling", "a2", ttl_s=3600.0, clock=slept)
    await asyncio.wait_for(other.acquire(), 30)
    await stage.call("register_scalable_target", **WEB, MinCapacity=3, MaxCapacity=5)
    await asyncio.sleep(1.5)  # longer than it waits before it looks again
    assert (stage.desired(), await stage.activities()) == (1, [])
