"""What the usage of tasks says as CloudWatch metrics: AWS/ECS and ECS/ContainerInsights, by service and cluster."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from contracts.records.metrics import MetricSample, TaskUsage, UsageBatch

ECS, INSIGHTS = "AWS/ECS", "ECS/ContainerInsights"
RESOLUTION_S = 5
STALE_PERIODS = 3

Group = tuple[str, str, str, str]
"""account, region, cluster, service ("" for the whole cluster)."""


class NodeUsage(msgspec.Struct, frozen=True):
    """The newest batch of a node, and the tasks' usage a second (bytes) made of it."""

    node: str
    at: float
    period_s: float
    tasks: list[TaskUsage]


def _groups(task: TaskUsage) -> Iterator[Group]:
    yield task.account, task.region, task.cluster, ""
    if task.service:
        yield task.account, task.region, task.cluster, task.service


def _values(task: TaskUsage, period_s: float) -> Iterator[tuple[str, str, str, float]]:
    """(namespace, name, unit, value) of one task. Percentages only of what is reserved."""
    if task.cpu_reserved:
        yield ECS, "CPUUtilization", "Percent", 100 * task.cpu_units / task.cpu_reserved
    if task.memory_reserved:
        yield ECS, "MemoryUtilization", "Percent", 100 * task.memory_mib / task.memory_reserved
    yield INSIGHTS, "CpuUtilized", "None", task.cpu_units
    yield INSIGHTS, "CpuReserved", "None", float(task.cpu_reserved)
    yield INSIGHTS, "MemoryUtilized", "Megabytes", task.memory_mib
    yield INSIGHTS, "MemoryReserved", "Megabytes", float(task.memory_reserved)
    yield INSIGHTS, "NetworkRxBytes", "Bytes/Second", task.rx_bytes / period_s
    yield INSIGHTS, "NetworkTxBytes", "Bytes/Second", task.tx_bytes / period_s


def samples_of(batch: UsageBatch) -> list[MetricSample]:
    """The samples of a batch: the tasks of each service and cluster added up, one value a task."""
    found: dict[tuple[Group, str, str, str], list[float]] = {}
    for task in batch.tasks:
        for group in _groups(task):
            for namespace, name, unit, value in _values(task, batch.period_s):
                found.setdefault((group, namespace, name, unit), []).append(value)
    # The middle of the period: a period that ends on a bucket's edge belongs to the bucket before it.
    at = batch.at - batch.period_s / 2
    return [_sample(*key, values, at) for key, values in found.items()]


def running_counts(nodes: dict[str, NodeUsage], batch: UsageBatch) -> list[MetricSample]:
    """RunningTaskCount of each service and cluster that the batch tells of, over all nodes that spoke lately."""
    counts = {group: 0 for task in batch.tasks for group in _groups(task)}
    for usage in nodes.values():
        if usage.at >= batch.at - STALE_PERIODS * max(batch.period_s, usage.period_s):
            for task in usage.tasks:
                for group in _groups(task):
                    if group in counts:
                        counts[group] += 1
    at = batch.at - batch.period_s / 2
    return [_sample(group, INSIGHTS, "RunningTaskCount", "Count", [float(n)], at) for group, n in counts.items()]


def _sample(group: Group, namespace: str, name: str, unit: str, values: list[float], at: float) -> MetricSample:
    account, region, cluster, service = group
    dimensions = {"ClusterName": cluster, **({"ServiceName": service} if service else {})}
    return MetricSample(
        account=account,
        region=region,
        namespace=namespace,
        name=name,
        dimensions=dimensions,
        unit=unit,
        count=float(len(values)),
        sum=sum(values),
        minimum=min(values),
        maximum=max(values),
        at=at,
        resolution_s=RESOLUTION_S,
    )
