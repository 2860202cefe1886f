"""CloudWatch: values in, values out, and what the usage of a thousand tasks costs the monitor."""

from __future__ import annotations

import http.client
import time

import msgspec

from contracts.records.metrics import TaskUsage, UsageBatch
from services.monitor.decisions.store import MetricStore, add_samples
from services.monitor.decisions.usage import NodeUsage, running_counts, samples_of
from tests.bench.figures import Figure, median, percentile
from tests.bench.load import load
from tests.builders.platform import Endpoint, roadstead

TARGET = "GraniteServiceVersion20100801"
TASKS, SERVICES, NODES = 1000, 200, 12
PERIOD_S = 10
MINUTES = 10
READS = 200


def run() -> list[Figure]:
    """Against a platform, then the monitor's own work on its own."""
    with roadstead(zones=1) as platform:
        datum = {"MetricName": "Orders", "Value": 1.0, "Dimensions": [{"Name": "Shop", "Value": "main"}]}
        put = platform.signed(f"{TARGET}.PutMetricData", {"Namespace": "Bench", "MetricData": [datum]}, "monitoring")
        puts = load(platform.port, put, seconds=5)
        reads = _reads(platform)
    return [
        Figure("PutMetricData, 8 connections, written before it answers", puts, "/s"),
        Figure("GetMetricData, a metric and an expression over an hour, p50", median(reads), "ms"),
        Figure("… p99", percentile(reads, 99), "ms"),
        Figure(f"usage of {TASKS} tasks in {SERVICES} services: the monitor's work a minute", _usage(), "ms CPU"),
    ]


def _reads(platform: Endpoint) -> list[float]:
    """Milliseconds of each GetMetricData, one after the other."""
    metric = {"Namespace": "Bench", "MetricName": "Orders", "Dimensions": [{"Name": "Shop", "Value": "main"}]}
    queries = [
        {"Id": "orders", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Sum"}},
        {"Id": "half", "Expression": "orders / 2"},
    ]
    now = time.time()
    body = {"MetricDataQueries": queries, "StartTime": now - 3600, "EndTime": now}
    head, _, payload = platform.signed(f"{TARGET}.GetMetricData", body, "monitoring").partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    connection = http.client.HTTPConnection("127.0.0.1", platform.port)
    times = []
    for _ in range(READS):
        began = time.perf_counter()
        connection.request("POST", "/", body=payload, headers=headers)
        answer = connection.getresponse()
        read = answer.read()
        times.append((time.perf_counter() - began) * 1000)
        if answer.status != 200:
            raise RuntimeError(read.decode())
    return times


def _batch(node: int, at: float) -> bytes:
    tasks = [
        TaskUsage(
            account="000000000000", region="us-east-1", cluster="main", service=f"s{n % SERVICES}", task=f"t{n}",
            cpu_units=float(n % 256), memory_mib=64.0, cpu_reserved=256, memory_reserved=512, rx_bytes=n, tx_bytes=n,
        )
        for n in range(node, TASKS, NODES)
    ]  # fmt: skip
    return msgspec.json.encode(UsageBatch(node=f"n{node}", at=at, period_s=PERIOD_S, tasks=tasks))


def _usage() -> float:
    """Milliseconds of processor time a minute for decoding the batches and adding them to the series."""
    store, nodes = MetricStore(48 << 20), dict[str, NodeUsage]()
    decode = msgspec.json.Decoder(UsageBatch).decode
    start = 1_700_000_000.0
    messages = [_batch(n, start + p * PERIOD_S) for p in range(MINUTES * 60 // PERIOD_S) for n in range(NODES)]
    began = time.process_time()
    for message in messages:
        batch = decode(message)
        nodes[batch.node] = NodeUsage(batch.node, batch.at, batch.period_s, batch.tasks)
        add_samples(store, samples_of(batch) + running_counts(nodes, batch), batch.at)
    return (time.process_time() - began) * 1000 / MINUTES
