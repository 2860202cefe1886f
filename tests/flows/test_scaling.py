"""Counts that change by themselves: bounds, a schedule, and containers that are really busy."""

import os
from datetime import UTC, datetime, timedelta

import pytest

from tests.builders.images import busybox_image
from tests.builders.platform import FARGATE, busy_when_told, roadstead, sleeper, until

CLUSTER = "scaling"
SETTINGS = {
    "ROADSTEAD_AGENT_USAGE_S": "5",
    "ROADSTEAD_AUTOSCALER_PERIOD_S": "5",
    "ROADSTEAD_AUTOSCALER_SCALE_IN_WINDOW_S": "10",
}


def target(service: str) -> dict[str, str]:
    return {
        "ServiceNamespace": "ecs",
        "ResourceId": f"service/{CLUSTER}/{service}",
        "ScalableDimension": "ecs:service:DesiredCount",
    }


def counts(ecs, service: str) -> tuple[int, int]:
    """(desired, running)."""
    (found,) = ecs.describe_services(cluster=CLUSTER, services=[service])["services"]
    return found["desiredCount"], found["runningCount"]


def causes(scaling, service: str) -> list[str]:
    found = scaling.describe_scaling_activities(ServiceNamespace="ecs", ResourceId=f"service/{CLUSTER}/{service}")
    return [a["Cause"] for a in found["ScalingActivities"]]


@pytest.fixture(scope="module")
def web(platform, busybox):
    """A service of one task on the platform that all flows share."""
    ecs = platform.client("ecs")
    ecs.create_cluster(clusterName=CLUSTER)
    ecs.register_task_definition(**{**sleeper(busybox, "sleep", "86397"), "family": "scaled"})
    ecs.create_service(cluster=CLUSTER, serviceName="web", taskDefinition="scaled", desiredCount=1, **FARGATE)
    yield ecs
    ecs.delete_service(cluster=CLUSTER, service="web", force=True)


def test_tasks_of_a_raised_minimum_start_in_the_trace_of_the_call_that_raised_it(platform, web):
    scaling, trace = platform.client("application-autoscaling"), os.urandom(16).hex()

    def traced(request, **kwargs):
        request.headers["traceparent"] = f"00-{trace}-{os.urandom(8).hex()}-01"

    event = "before-send.application-autoscaling.RegisterScalableTarget"
    scaling.meta.events.register(event, traced)
    scaling.register_scalable_target(**target("web"), MinCapacity=2, MaxCapacity=4)
    scaling.meta.events.unregister(event, traced)
    until(lambda: counts(web, "web") == (2, 2))
    spans = ("autoscaler.scale", "rpc.scheduler.set_desired_count", "scheduler.reconcile", "agent")
    until(lambda: all(name in platform.command("trace", trace, check=False) for name in spans), every=0.2)
    assert causes(scaling, "web") == ["minimum capacity was set to 2"]


def test_a_scheduled_action_fires(platform, web):
    scaling = platform.client("application-autoscaling")
    scaling.register_scalable_target(**target("web"), MinCapacity=1, MaxCapacity=4)
    at = (datetime.now(UTC) + timedelta(seconds=2)).strftime("%Y-%m-%dT%H:%M:%S")
    scaling.put_scheduled_action(
        **target("web"),
        ScheduledActionName="rush",
        Schedule=f"at({at})",
        ScalableTargetAction={"MinCapacity": 3},
    )
    until(lambda: counts(web, "web") == (3, 3))
    assert "scheduled action name rush was triggered" in causes(scaling, "web")
    scaling.deregister_scalable_target(**target("web"))


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """A platform that measures each 5 s and scales in after 10: a flow should not take minutes."""
    if os.geteuid() != 0:
        pytest.skip("real containers take root")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        with roadstead(zones=1, runtime="oci") as platform:
            yield platform


@pytest.fixture(scope="module")
def busy(quick, tmp_path_factory):
    """A service whose tasks use what they get of the processor as long as the file `on` is there; its folder."""
    load = tmp_path_factory.mktemp("load")
    ecs = quick.client("ecs")
    ecs.create_cluster(clusterName=CLUSTER)
    image = quick.push(busybox_image(), "busybox")
    ecs.register_task_definition(**busy_when_told(image, load))
    ecs.create_service(cluster=CLUSTER, serviceName="busy", taskDefinition="busy", desiredCount=1, launchType="EC2")
    until(lambda: counts(ecs, "busy") == (1, 1))
    return load


def test_busy_containers_become_more_and_then_fewer(quick, busy):
    ecs, scaling = quick.client("ecs"), quick.client("application-autoscaling")
    scaling.register_scalable_target(**target("busy"), MinCapacity=1, MaxCapacity=2)
    scaling.put_scaling_policy(
        **target("busy"),
        PolicyName="cpu",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 40.0,
            "PredefinedMetricSpecification": {"PredefinedMetricType": "ECSServiceAverageCPUUtilization"},
            "ScaleOutCooldown": 0,
            "ScaleInCooldown": 0,
        },
    )
    (busy / "on").touch()
    until(lambda: counts(ecs, "busy") == (2, 2), 60)
    (busy / "on").unlink()
    until(lambda: counts(ecs, "busy") == (1, 1), 90)
    inwards, outwards = causes(scaling, "busy")
    assert outwards.startswith("policy cpu: ECSServiceAverageCPUUtilization is ")
    assert "asks for" in inwards and "for 10 s" in inwards
