"""What App Runner's gateway measured, as Prometheus is told of it."""

from __future__ import annotations

from types import SimpleNamespace

from contracts.records.metrics import MetricBatch, MetricSample
from services.monitor.routes import LATELY_S, measure_app_runner
from services.shared.metrics import Metrics

NOW = 1_700_000_000.0


def sample(name: str, total: float, count: float = 1.0, namespace: str = "AWS/AppRunner") -> MetricSample:
    return MetricSample(
        account="0" * 12,
        region="us-east-1",
        namespace=namespace,
        name=name,
        dimensions={"ServiceName": "front", "ServiceID": "x"},
        count=count,
        sum=total,
    )


def told(at: float, *samples: MetricSample) -> list[str]:
    metrics = Metrics("monitor")
    batch = MetricBatch(source="gateway", at=at, period_s=10.0, samples=list(samples))
    measure_app_runner(metrics, SimpleNamespace(clock=lambda: NOW, batches={"gateway": batch}))
    return sorted(line for line in metrics.expose().decode().splitlines() if line.startswith("roadstead_app_runner"))


def test_counts_are_averages_and_requests_are_rates():
    lines = told(
        NOW - 5, sample("ActiveInstances", 3), sample("Concurrency", 40, count=10), sample("Requests", 120),
        sample("5xxStatusResponses", 1), sample("Requests", 999, namespace="Mine"),
    )  # fmt: skip
    assert lines == [
        'roadstead_app_runner_in_flight{service="front"} 4.0',
        'roadstead_app_runner_instances{service="front"} 3.0',
        'roadstead_app_runner_requests_per_second{service="front"} 12.0',
        'roadstead_app_runner_server_errors_per_second{service="front"} 0.1',
    ]


def test_what_is_old_is_not_told_as_if_it_were_now():
    assert told(NOW - LATELY_S - 1, sample("ActiveInstances", 3)) == []
