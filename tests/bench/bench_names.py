"""From a task's start to the first DNS answer that has its address."""

from __future__ import annotations

import time

from tests.bench.figures import Figure, at_most, median, percentile
from tests.builders import dns
from tests.builders.images import busybox_image
from tests.builders.platform import FARGATE, Roadstead, roadstead, skopeo_push, sleeper, until

NAMES = ("first", "second")
TASKS = 8
"""A DNS answer has at most eight addresses, so that many tasks are seen at once."""


def run() -> list[Figure]:
    """One more task at a time, of services that are found by name."""
    with roadstead(zones=1, runtime="oci") as platform:
        ecs = platform.client("ecs")
        uri = skopeo_push(platform, busybox_image(), "busybox")
        ecs.create_cluster(clusterName="bench")
        ecs.register_task_definition(**sleeper(uri, "sleep", "86398"))
        for name, arn in _registries(platform).items():
            registry = {"serviceRegistries": [{"registryArn": arn}]}
            ecs.create_service(
                cluster="bench", serviceName=name, taskDefinition="sleeper", desiredCount=0, **registry, **FARGATE
            )
        waits = [_one_more(platform, ecs, name, count) for name in NAMES for count in range(1, TASKS + 1)]
    return [
        at_most("task started to its first DNS answer, p50", median(waits), "ms", 30),
        Figure("… p99", percentile(waits, 99), "ms"),
    ]


def _registries(platform: Roadstead) -> dict[str, str]:
    cloud_map = platform.client("servicediscovery", inject_host_prefix=False)
    operation = cloud_map.create_private_dns_namespace(Name="bench.local", Vpc="vpc-local")["OperationId"]
    namespace = cloud_map.get_operation(OperationId=operation)["Operation"]["Targets"]["NAMESPACE"]
    records = {"NamespaceId": namespace, "DnsRecords": [{"Type": "A", "TTL": 5}]}
    return {name: cloud_map.create_service(Name=name, DnsConfig=records)["Service"]["Arn"] for name in NAMES}


def _one_more(platform: Roadstead, ecs, name: str, count: int) -> float:
    """Milliseconds from the start of the container, as its node tells it, to the first answer that has its address."""
    ecs.update_service(cluster="bench", service=name, desiredCount=count)
    port = platform.info["dns_port"]
    until(lambda: len(dns.ask(port, f"{name}.bench.local").data()) == count, every=0.0005)
    answered = time.time()
    arns = ecs.list_tasks(cluster="bench", serviceName=name)["taskArns"]
    tasks = until(lambda: _started(ecs, arns, count))
    return (answered - max(tasks)) * 1000


def _started(ecs, arns: list[str], count: int) -> list[float]:
    found = ecs.describe_tasks(cluster="bench", tasks=arns)["tasks"]
    times = [task["startedAt"].timestamp() for task in found if "startedAt" in task]
    return times if len(times) == count else []
