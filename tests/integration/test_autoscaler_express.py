"""The scaling of Express services: what the scheduler's record wants is what the autoscaler does."""

import pytest

from contracts.records.scheduler import SERVICE
from tests.builders.scaling import Stage
from tests.builders.waiting import until
from tests.fakes.gateway import FakeGateway
from tests.integration.test_scheduler_express import ROLES

RESOURCE = {"ServiceNamespace": "ecs", "ResourceId": "service/main/shop"}
ARN = "arn:aws:ecs:us-east-1:000000000000:service/main/shop"


@pytest.fixture
async def stage(nats_platform, tmp_path):
    stage = await Stage(nats_platform, tmp_path).open()
    gateway = FakeGateway(await nats_platform.bus("app_runner_gateway"))
    await gateway.start()
    await until(lambda: stage.scheduler.world.ingress)
    try:
        yield stage
    finally:
        await stage.close()
        await gateway.close()


async def created(stage, **scaling):
    await stage.ecs("create_express_gateway_service", cluster="main", serviceName="shop", **ROLES,
                    primaryContainer={"image": "shop:1"}, scalingTarget=scaling)  # fmt: skip


def desired(stage):
    record = stage.scheduler.world.services.record("000000000000", "us-east-1", "main", "shop")
    return record.desired_count


async def targets(stage):
    found = await stage.call("describe_scalable_targets", ServiceNamespace="ecs")
    return [(t["ResourceId"], t["MinCapacity"], t["MaxCapacity"]) for t in found["ScalableTargets"]]


async def policies(stage):
    found = (await stage.call("describe_scaling_policies", **RESOURCE))["ScalingPolicies"]
    return [(p["PolicyName"], p["TargetTrackingScalingPolicyConfiguration"]) for p in found]


async def has(stage, *wanted):
    async def so():
        return await targets(stage) == list(wanted)

    await until(so)


async def test_a_service_has_the_target_and_the_policy_that_it_asks_for(stage):
    await stage.autoscaler()
    await created(stage, minTaskCount=2, maxTaskCount=4, autoScalingTargetValue=70)
    await has(stage, ("service/main/shop", 2, 4))
    predefined = {"PredefinedMetricSpecification": {"PredefinedMetricType": "ECSServiceAverageCPUUtilization"}}
    assert await policies(stage) == [("express", {"TargetValue": 70.0, **predefined})]
    await stage.ecs("update_express_gateway_service", serviceArn=ARN, scalingTarget={"minTaskCount": 3})
    await has(stage, ("service/main/shop", 3, 4))
    await until(lambda: desired(stage) == 3)


async def test_requests_per_target_scale_it(stage):
    await stage.autoscaler()
    await created(stage, minTaskCount=1, maxTaskCount=4, autoScalingMetric="REQUEST_COUNT_PER_TARGET",
                  autoScalingTargetValue=100)  # fmt: skip
    await has(stage, ("service/main/shop", 1, 4))
    await stage.monitor.says("RequestCountPerTarget", 250.0)
    await until(lambda: desired(stage) == 3)
    (query,) = {(q.namespace, q.name, q.statistic, q.period_s) for a in stage.monitor.asked for q in a.queries}
    assert query == ("AWS/ApplicationELB", "RequestCountPerTarget", "Sum", 60)


async def test_what_its_owner_changes_stays_until_the_service_is_changed(stage):
    await stage.autoscaler()
    await created(stage, minTaskCount=1, maxTaskCount=4)
    await has(stage, ("service/main/shop", 1, 4))
    own = {**RESOURCE, "ScalableDimension": "ecs:service:DesiredCount"}
    await stage.call("register_scalable_target", **own, MinCapacity=1, MaxCapacity=9)
    await stage.autoscaler("a2")
    await stage.ecs("update_express_gateway_service", serviceArn=ARN, healthCheckPath="/healthz")
    assert await targets(stage) == [("service/main/shop", 1, 9)]
    await stage.ecs("update_express_gateway_service", serviceArn=ARN, scalingTarget={"maxTaskCount": 5})
    await has(stage, ("service/main/shop", 1, 5))


async def test_a_service_that_is_deleted_while_nobody_looks_leaves_nothing_behind(stage):
    app = await stage.autoscaler()
    await created(stage, minTaskCount=1, maxTaskCount=4)
    await has(stage, ("service/main/shop", 1, 4))
    await stage.kill(app)
    await stage.ecs("delete_express_gateway_service", serviceArn=ARN)
    key = ("000000000000", "us-east-1", "main", "shop")
    await until(lambda: stage.scheduler.world.store.table(SERVICE).record(*key).status == "INACTIVE")
    del stage.call
    await stage.autoscaler("a2")
    await has(stage)
    assert await policies(stage) == []
