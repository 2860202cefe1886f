"""A load step to the new desired count of a service, by a customized metric and by containers that become busy."""

from __future__ import annotations

import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench.figures import Figure, at_most, median
from tests.builders.images import busybox_image
from tests.builders.platform import FARGATE, Roadstead, busy_when_told, roadstead, sleeper, until

PERIOD_S = 10.0
"""The default: how often the autoscaler looks, whatever comes."""

STEPS = 3
CLUSTER = "bench"


def target(service: str) -> dict[str, str]:
    """How the API names a service."""
    return {
        "ServiceNamespace": "ecs",
        "ResourceId": f"service/{CLUSTER}/{service}",
        "ScalableDimension": "ecs:service:DesiredCount",
    }


def tracked(platform: Roadstead, service: str, metric: dict[str, Any], high: int) -> None:
    """Let a policy keep this metric at 50, without cooldowns."""
    scaling = platform.client("application-autoscaling")
    scaling.register_scalable_target(**target(service), MinCapacity=1, MaxCapacity=high)
    configuration = {"TargetValue": 50.0, "ScaleOutCooldown": 0, "ScaleInCooldown": 0, "DisableScaleIn": True, **metric}
    scaling.put_scaling_policy(
        **target(service),
        PolicyName="bench",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration=configuration,
    )


def seconds_to(ecs: Any, service: str, count: int) -> float:
    """Seconds until at least so many tasks are wanted."""
    began = time.monotonic()

    def wanted() -> bool:
        found = ecs.describe_services(cluster=CLUSTER, services=[service])["services"]
        return found[0]["desiredCount"] >= count

    until(wanted, 60, every=0.02)
    return time.monotonic() - began


def by_metric(platform: Roadstead, ecs: Any, image: str) -> list[float]:
    """Steps of a metric of high resolution that somebody puts, each on a service of its own."""
    cloudwatch = platform.client("cloudwatch")
    ecs.register_task_definition(**sleeper(image))
    times = []
    for number in range(STEPS):
        name = f"put-{number}"
        ecs.create_service(cluster=CLUSTER, serviceName=name, taskDefinition="sleeper", desiredCount=1, **FARGATE)
        metric = {"MetricName": name, "Namespace": "Bench", "Statistic": "Average"}
        tracked(platform, name, {"CustomizedMetricSpecification": metric}, 2)
        datum = {"MetricName": name, "Value": 90.0, "StorageResolution": 1}
        cloudwatch.put_metric_data(Namespace="Bench", MetricData=[datum])
        times.append(seconds_to(ecs, name, 2))
    return times


def by_load(platform: Roadstead, ecs: Any, image: str, load: Path) -> list[float]:
    """A container that begins to use all of its quarter of a core: seconds to the second task, of services of their
    own, one after the other."""
    ecs.register_task_definition(**busy_when_told(image, load))
    predefined = {"PredefinedMetricType": "ECSServiceAverageCPUUtilization"}
    times = []
    for number in range(STEPS):
        name, mark = f"busy-{number}", load / "on"
        mark.unlink(missing_ok=True)
        ecs.create_service(cluster=CLUSTER, serviceName=name, taskDefinition="busy", desiredCount=1, launchType="EC2")
        tracked(platform, name, {"PredefinedMetricSpecification": predefined}, 2)
        running = partial(_running, ecs, name)
        until(running)
        time.sleep(PERIOD_S)  # what the start of the container costs is not the load
        mark.touch()
        times.append(seconds_to(ecs, name, 2))
        ecs.delete_service(cluster=CLUSTER, service=name, force=True)
    return times


def _running(ecs: Any, service: str) -> bool:
    return ecs.describe_services(cluster=CLUSTER, services=[service])["services"][0]["runningCount"] == 1


def run() -> list[Figure]:
    """Both against one evaluation period and a second."""
    os.environ["ROADSTEAD_AUTOSCALER_PERIOD_S"] = str(PERIOD_S)
    with tempfile.TemporaryDirectory() as directory, roadstead(runtime="oci") as platform:
        ecs = platform.client("ecs")
        ecs.create_cluster(clusterName=CLUSTER)
        image = platform.push(busybox_image(), "bench")
        put = by_metric(platform, ecs, image)
        busy = by_load(platform, ecs, image, Path(directory))
    return [
        at_most(f"load step to desired count, a metric put (period {PERIOD_S:g} s)", median(put), "s", PERIOD_S + 1),
        at_most(f"load step to desired count, busy containers (period {PERIOD_S:g} s)", max(busy), "s", PERIOD_S + 1),
    ]
