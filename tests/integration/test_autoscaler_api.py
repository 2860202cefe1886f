"""Application Auto Scaling's API, by boto3: what is kept, listed, refused."""

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from services.shared.policies.demands import Demand
from tests.builders.scaling import WEB, Stage

WRONG = "rds:cluster:ReadReplicaCount"
DIMENSION = WEB["ScalableDimension"]
TRACKING = {
    "TargetValue": 50.0,
    "PredefinedMetricSpecification": {"PredefinedMetricType": "ECSServiceAverageMemoryUtilization"},
    "DisableScaleIn": True,
}
STEPS = {
    "AdjustmentType": "PercentChangeInCapacity",
    "MinAdjustmentMagnitude": 2,
    "Cooldown": 60,
    "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 50}],
}


@pytest.fixture
async def stage(nats_platform, tmp_path):
    stage = await Stage(nats_platform, tmp_path).open()
    try:
        await stage.autoscaler()
        yield stage
    finally:
        await stage.close()


async def register(stage, **members):
    return await stage.call("register_scalable_target", **{**WEB, "MinCapacity": 1, "MaxCapacity": 5, **members})


async def test_a_target_is_registered_changed_tagged_and_deregistered(stage):
    arn = (await register(stage, Tags={"a": "b"}))["ScalableTargetARN"]
    assert (await register(stage, MinCapacity=2))["ScalableTargetARN"] == arn
    await stage.call("register_scalable_target", **WEB, SuspendedState={"DynamicScalingOutSuspended": True})
    (target,) = (await stage.call("describe_scalable_targets", ServiceNamespace="ecs"))["ScalableTargets"]
    assert {k: v for k, v in target.items() if k != "CreationTime"} == {
        **WEB,
        "MinCapacity": 2,
        "MaxCapacity": 5,
        "RoleARN": "arn:aws:iam::000000000000:role/aws-service-role/ecs.application-autoscaling.amazonaws.com/"
        "AWSServiceRoleForApplicationAutoScaling_ECSService",
        "ScalableTargetARN": arn,
        "SuspendedState": {
            "DynamicScalingInSuspended": False,
            "DynamicScalingOutSuspended": True,
            "ScheduledScalingSuspended": False,
        },
    }
    await stage.call("tag_resource", ResourceARN=arn, Tags={"c": "d"})
    await stage.call("untag_resource", ResourceARN=arn, TagKeys=["a", "nothing"])
    assert (await stage.call("list_tags_for_resource", ResourceARN=arn))["Tags"] == {"c": "d"}
    await stage.call("put_scaling_policy", **WEB, PolicyName="p", PolicyType="StepScaling",
                     StepScalingPolicyConfiguration=STEPS)  # fmt: skip
    await stage.call("put_scheduled_action", **WEB, ScheduledActionName="s", Schedule="rate(1 day)",
                     ScalableTargetAction={"MinCapacity": 1})  # fmt: skip
    await stage.call("deregister_scalable_target", **WEB)
    left = [
        (await stage.call(operation, ServiceNamespace="ecs"))[member]
        for operation, member in (
            ("describe_scalable_targets", "ScalableTargets"),
            ("describe_scaling_policies", "ScalingPolicies"),
            ("describe_scheduled_actions", "ScheduledActions"),
        )
    ]
    assert left == [[], [], []]
    assert (await stage.call.refused("list_tags_for_resource", ResourceARN=arn))[0] == "ResourceNotFoundException"


async def test_what_can_not_be_a_target_is_refused_as_aws_does(stage):
    call, bounds = stage.call.refused, {"MinCapacity": 1, "MaxCapacity": 2}
    kind = ("ValidationException", "Unsupported service namespace, resource type or scalable dimension")
    nobody = {**WEB, "ResourceId": "service/main/nobody"}
    assert [
        await call("register_scalable_target", **{**WEB, "ResourceId": "web"}, **bounds),
        await call("register_scalable_target", **{**WEB, "ResourceId": "service/a:b/web"}, **bounds),
        await call(
            "register_scalable_target", **{**WEB, "ScalableDimension": "rds:cluster:ReadReplicaCount"}, **bounds
        ),
        await call("register_scalable_target", **nobody, **bounds),
    ] == [kind, kind, kind, ("ValidationException", "ECS service doesn't exist: service/main/nobody")]
    assert [
        (await call("register_scalable_target", **WEB, MinCapacity=1))[0],
        (await call("register_scalable_target", **WEB, MinCapacity=3, MaxCapacity=2))[0],
        (await call("register_scalable_target", **WEB, MinCapacity=-1, MaxCapacity=2))[0],
        (await call("deregister_scalable_target", **WEB))[0],
        (await call("put_scaling_policy", **WEB, PolicyName="p", PolicyType="StepScaling"))[0],
        (await call("describe_scalable_targets", ServiceNamespace="ecs", MaxResults=51))[0],
        (await call("describe_scalable_targets", ServiceNamespace="ecs", NextToken="*"))[0],
        (await call("describe_scaling_policies", ServiceNamespace="ecs", ScalableDimension=DIMENSION))[0],
    ] == [
        "ValidationException",
        "ValidationException",
        "ValidationException",
        "ObjectNotFoundException",
        "ObjectNotFoundException",
        "ValidationException",
        "InvalidNextTokenException",
        "ValidationException",
    ]
    dynamo = {"ServiceNamespace": "dynamodb", "ResourceId": "table/t",
              "ScalableDimension": "dynamodb:table:ReadCapacityUnits"}  # fmt: skip
    assert (await call("register_scalable_target", **dynamo, **bounds))[0] == "NotImplemented"
    assert (await stage.call("describe_scalable_targets", ServiceNamespace="dynamodb"))["ScalableTargets"] == []


async def test_policies_are_kept_as_they_were_given_and_keep_their_arn(stage):
    await register(stage)
    put = {**WEB, "PolicyName": "memory", "PolicyType": "TargetTrackingScaling"}
    arn = (await stage.call("put_scaling_policy", **put, TargetTrackingScalingPolicyConfiguration=TRACKING))[
        "PolicyARN"
    ]
    changed = {**TRACKING, "TargetValue": 70.0}
    assert (
        arn
        == (await stage.call("put_scaling_policy", **put, TargetTrackingScalingPolicyConfiguration=changed))[
            "PolicyARN"
        ]
    )
    await stage.call("put_scaling_policy", **WEB, PolicyName="steps", PolicyType="StepScaling",
                     StepScalingPolicyConfiguration=STEPS)  # fmt: skip
    found = (await stage.call("describe_scaling_policies", ServiceNamespace="ecs"))["ScalingPolicies"]
    assert [p["PolicyName"] for p in found] == ["memory", "steps"]
    assert found[0]["TargetTrackingScalingPolicyConfiguration"] == changed
    assert found[1]["StepScalingPolicyConfiguration"] == STEPS
    where = {"ResourceId": WEB["ResourceId"], "ScalableDimension": DIMENSION}
    one = await stage.call("describe_scaling_policies", ServiceNamespace="ecs", PolicyNames=["steps"], **where)
    assert [p["PolicyName"] for p in one["ScalingPolicies"]] == ["steps"]
    await stage.call("delete_scaling_policy", **WEB, PolicyName="steps")
    assert await stage.call.refused("delete_scaling_policy", **WEB, PolicyName="steps") == (
        "ObjectNotFoundException",
        "No scaling policy found for service namespace: ecs, resource ID: service/main/web, scalable dimension: "
        "ecs:service:DesiredCount, policy name: steps",
    )


def predefined(kind: str) -> dict:
    return {"TargetValue": 1.0, "PredefinedMetricSpecification": {"PredefinedMetricType": kind}}


async def test_policies_that_make_no_sense_or_that_are_not_there_yet_are_refused(stage):
    await register(stage)

    async def tracked(**configuration):
        members = {"PolicyType": "TargetTrackingScaling", "TargetTrackingScalingPolicyConfiguration": configuration}
        return (await stage.call.refused("put_scaling_policy", **WEB, PolicyName="p", **members))[0]

    async def stepped(**configuration):
        members = {"PolicyType": "StepScaling", "StepScalingPolicyConfiguration": configuration}
        return (await stage.call.refused("put_scaling_policy", **WEB, PolicyName="p", **members))[0]

    math = {"Metrics": [{"Id": "m", "Expression": "1+1"}]}
    assert [
        await tracked(TargetValue=1.0),
        await tracked(**{**predefined("ECSServiceAverageCPUUtilization"), "TargetValue": 0.0}),
        await tracked(**predefined("RDSReaderAverageCPUUtilization")),
        await tracked(**predefined("ECSServiceAverageCPUUtilization"), ScaleInCooldown=-1),
        await tracked(TargetValue=1.0, CustomizedMetricSpecification={"MetricName": "m"}),
        await stepped(StepAdjustments=[{"ScalingAdjustment": 1}]),
        await stepped(AdjustmentType="ExactCapacity"),
        await stepped(AdjustmentType="ExactCapacity", StepAdjustments=[{"ScalingAdjustment": -1}]),
        await stepped(
            AdjustmentType="ChangeInCapacity", StepAdjustments=[{"ScalingAdjustment": 1}], MinAdjustmentMagnitude=1
        ),
        await tracked(**predefined("ALBRequestCountPerTarget")),
        await tracked(TargetValue=1.0, CustomizedMetricSpecification=math),
    ] == ["ValidationException"] * 9 + ["NotImplemented"] * 2


async def test_scheduled_actions_are_kept_changed_and_refused(stage):
    await register(stage)
    call, put = stage.call, {**WEB, "ScheduledActionName": "nightly"}
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(days=9)
    await call("put_scheduled_action", **put, Schedule="cron(0 2 ? * 6L *)", Timezone="Europe/Berlin", EndTime=end,
               ScalableTargetAction={"MinCapacity": 2, "MaxCapacity": 3})  # fmt: skip
    await call("put_scheduled_action", **put, ScalableTargetAction={"MaxCapacity": 4})
    (action,) = (await call("describe_scheduled_actions", ServiceNamespace="ecs"))["ScheduledActions"]
    kept = {k: action[k] for k in ("Schedule", "Timezone", "EndTime", "ScalableTargetAction")}
    assert kept == {
        "Schedule": "cron(0 2 ? * 6L *)",
        "Timezone": "Europe/Berlin",
        "EndTime": end,
        "ScalableTargetAction": {"MaxCapacity": 4},
    }
    new = {**WEB, "ScheduledActionName": "new", "ScalableTargetAction": {"MinCapacity": 1}}
    past = datetime(2020, 1, 1, tzinfo=UTC)
    assert [
        (await call.refused("put_scheduled_action", **new))[0],
        (await call.refused("put_scheduled_action", **new, Schedule="cron(0 0 * * * *)"))[0],
        (await call.refused("put_scheduled_action", **new, Schedule="at(2020-01-01T00:00:00)"))[0],
        (await call.refused("put_scheduled_action", **new, Schedule="rate(1 day)", Timezone="Nowhere"))[0],
        (await call.refused("put_scheduled_action", **new, Schedule="rate(1 day)", EndTime=past))[0],
        (await call.refused("put_scheduled_action", **WEB, ScheduledActionName="n", Schedule="rate(1 day)"))[0],
    ] == ["ValidationException"] * 6
    await call("delete_scheduled_action", **put)
    assert (await call.refused("delete_scheduled_action", **put))[0] == "ObjectNotFoundException"


async def test_listings_come_in_pages_for_boto3_s_paginators(stage):
    await register(stage)
    for number in range(5):
        await stage.call("put_scheduled_action", **WEB, ScheduledActionName=f"a{number}", Schedule="rate(1 day)",
                         ScalableTargetAction={"MinCapacity": 1})  # fmt: skip
    pages = stage.call.client.get_paginator("describe_scheduled_actions").paginate(
        ServiceNamespace="ecs", PaginationConfig={"PageSize": 2}
    )

    def names():
        return [[a["ScheduledActionName"] for a in page["ScheduledActions"]] for page in pages]

    assert await asyncio.to_thread(names) == [["a0", "a1"], ["a2", "a3"], ["a4"]]


async def test_what_a_request_demands_is_completed_with_the_target_that_it_means(stage):
    arn = (await register(stage))["ScalableTargetARN"]
    api, context = stage.apps[-1].aws_services[0], SimpleNamespace(account="000000000000", region="us-east-1")
    wanted = [Demand("application-autoscaling:DeregisterScalableTarget", arn.rpartition("/")[0] + "/*")]
    known = SimpleNamespace(resource_id=WEB["ResourceId"])
    other = SimpleNamespace(resource_id="service/default/other")
    assert [d.resource for d in api.complete(context, known, wanted)] == [arn]
    assert api.complete(context, other, wanted) == wanted
