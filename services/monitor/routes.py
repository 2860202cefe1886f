"""Traces, events and usage, for `roadstead trace`, `roadstead top` and whoever else asks over HTTP."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator

import msgspec
from aiohttp import web
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from contracts.records.metrics import TaskUsage
from contracts.records.traces import Span
from services.monitor.adapters.metrics import Measurements
from services.monitor.adapters.streams import EventReader, TraceReader
from services.monitor.decisions.logs import HappenedEvent, TraceLine, trace_line
from services.monitor.decisions.usage import NodeUsage
from services.shared.errors import StateUnavailable
from services.shared.http import Query, Route, answer, problem
from services.shared.metrics import Metrics

MOST_TRACES = 200
MOST_EVENTS = 500
LATELY_S = 60


class Trace(msgspec.Struct, frozen=True):
    """All spans of a trace, by their start."""

    trace_id: str
    spans: list[Span]


class NoTrace(msgspec.Struct, frozen=True):
    """Nothing of it is stored (any more)."""

    message: str
    spans: list[Span]


class TraceList(msgspec.Struct, frozen=True):
    """Traces, the newest first."""

    traces: list[TraceLine]


class EventList(msgspec.Struct, frozen=True):
    """Events, oldest first. `last` is what to ask `after` for those that come."""

    events: list[HappenedEvent]
    last: int


class Traces:
    """GET /traces and /traces/{trace_id}, as JSON."""

    def __init__(self, reader: TraceReader) -> None:
        self._reader = reader

    async def one(self, request: web.Request) -> web.Response:
        """{"trace_id", "spans": [contracts.records.traces.Span]}; 404 when nothing of it is stored (any more)."""
        trace_id = request.match_info["trace_id"].lower()
        if not re.fullmatch(r"[0-9a-f]{32}", trace_id):
            return problem("a trace id has 32 hexadecimal digits", 400)
        try:
            spans = await self._reader.spans(trace_id)
        except StateUnavailable as error:
            return problem(error.message, 503)
        if not spans:
            return answer(NoTrace(f"no span of {trace_id} is stored", []), 404)
        return answer(Trace(trace_id, spans))

    async def latest(self, request: web.Request) -> web.Response:
        """{"traces": [decisions.TraceLine]}, the newest first; `limit` 20 unless given."""
        text = request.query.get("limit", "20")
        if not text.isdigit() or not 0 < int(text) <= MOST_TRACES:
            return problem(f"limit is a number from 1 to {MOST_TRACES}", 400)
        try:
            ids = await self._reader.latest(int(text))
            traces = await asyncio.gather(*(self._reader.spans(trace_id) for trace_id in ids))
        except StateUnavailable as error:
            return problem(error.message, 503)
        lines = [trace_line(spans) for spans in traces if spans]
        return answer(TraceList(sorted(lines, key=lambda line: line.start_ns, reverse=True)))


class Events:
    """GET /events, as JSON. Nothing is followed while nobody asks."""

    def __init__(self, reader: EventReader) -> None:
        self._reader = reader

    async def latest(self, request: web.Request) -> web.Response:
        """An EventList: the last `limit` events, of those behind the sequence `after`."""
        limit, after = request.query.get("limit", "20"), request.query.get("after", "0")
        if not limit.isdecimal() or not 0 < int(limit) <= MOST_EVENTS:
            return problem(f"limit is a number from 1 to {MOST_EVENTS}", 400)
        if not after.isdecimal() or len(after) > 18:
            return problem("after is the number of an event", 400)
        try:
            events, last = await self._reader.after(int(after), int(limit))
        except StateUnavailable as error:
            return problem(error.message, 503)
        return answer(EventList(events, last))


class NodeTasks(msgspec.Struct, frozen=True):
    """What the tasks of a node used in the `period_s` seconds up to `at`."""

    node: str
    at: float
    period_s: float
    tasks: list[TaskUsage]


class UsageList(msgspec.Struct, frozen=True):
    """The nodes that spoke lately, by name."""

    nodes: list[NodeTasks]


class UsageOfTasks:
    """GET /usage, as JSON."""

    def __init__(self, measurements: Measurements) -> None:
        self._measurements = measurements

    async def latest(self, request: web.Request) -> web.Response:
        """A UsageList: the newest of each node, of the last minute."""
        return answer(UsageList([NodeTasks(n.node, n.at, n.period_s, n.tasks) for n in _lately(self._measurements)]))


def _lately(measurements: Measurements) -> list[NodeUsage]:
    since = measurements.clock() - LATELY_S
    return sorted((n for n in measurements.nodes.values() if n.at >= since), key=lambda usage: usage.node)


class TaskMetrics(Collector):
    """The same for Prometheus, beside the service's own metrics at /metrics."""

    _GAUGES = (
        ("roadstead_task_cpu_units", "CPU used, on average over the last period (1024 = one core)", "cpu_units"),
        ("roadstead_task_cpu_reserved_units", "CPU reserved (1024 = one core)", "cpu_reserved"),
        ("roadstead_task_memory_mib", "Memory used, MiB", "memory_mib"),
        ("roadstead_task_memory_reserved_mib", "Memory reserved, MiB", "memory_reserved"),
    )
    _RATES = (
        ("roadstead_task_network_receive_bytes_per_second", "Received, on average over the last period", "rx_bytes"),
        ("roadstead_task_network_transmit_bytes_per_second", "Sent, on average over the last period", "tx_bytes"),
    )

    def __init__(self, measurements: Measurements) -> None:
        self._measurements = measurements

    def describe(self) -> list[Metric]:
        """Nothing: what there is, is known when it is asked for."""
        return []

    def collect(self) -> Iterator[Metric]:
        """A value a task."""
        nodes = _lately(self._measurements)
        for rated, table in ((False, self._GAUGES), (True, self._RATES)):
            for name, text, member in table:
                family = GaugeMetricFamily(name, text, labels=("cluster", "service", "task", "node", "region"))
                for node in nodes:
                    for task in node.tasks:
                        value = getattr(task, member) / (node.period_s if rated else 1)
                        family.add_metric((task.cluster, task.service, task.task, node.node, task.region), value)
                yield family


def measure_app_runner(metrics: Metrics, measurements: Measurements) -> None:
    """The newest samples of App Runner's services for Prometheus, by service."""

    def newest(name: str, rated: bool = False) -> Callable[[], dict[tuple[str, ...], float]]:
        def look() -> dict[tuple[str, ...], float]:
            since = measurements.clock() - LATELY_S
            return {
                (sample.dimensions.get("ServiceName", ""),): sample.sum
                / (batch.period_s if rated else sample.count or 1)
                for batch in measurements.batches.values()
                if batch.at >= since and batch.period_s
                for sample in batch.samples
                if (sample.namespace, sample.name) == ("AWS/AppRunner", name)
            }

        return look

    for name, text, sample, rated in (
        ("instances", "Active instances of an App Runner service", "ActiveInstances", False),
        ("in_flight", "Requests in flight, on average over the last period", "Concurrency", False),
        ("requests_per_second", "Requests, on average over the last period", "Requests", True),
        ("server_errors_per_second", "5xx answers, on average over the last period", "5xxStatusResponses", True),
    ):
        metrics.observed(f"app_runner_{name}", text, ("service",), newest(sample, rated))


_AWAY = {503: "NATS is away"}
TRACE_ROUTES = (
    Route(
        "GET",
        "/traces",
        "latest",
        TraceList,
        "The latest traces.",
        (Query("limit", f"how many (1 to {MOST_TRACES})", "integer", 20),),
        {400: "`limit` is no such number", **_AWAY},
    ),
    Route(
        "GET",
        "/traces/{trace_id}",
        "one",
        Trace,
        "One trace: all its spans.",
        errors={400: "that is no trace id", 404: "no span of it is stored", **_AWAY},
    ),
)
EVENT_ROUTES = (
    Route(
        "GET",
        "/events",
        "latest",
        EventList,
        "The latest domain events of all services.",
        (
            Query("limit", f"how many (1 to {MOST_EVENTS})", "integer", 20),
            Query("after", "only those behind this sequence: `last` of the answer before", "integer", 0),
        ),
        {400: "`limit` or `after` is no such number", **_AWAY},
    ),
)
USAGE_ROUTES = (Route("GET", "/usage", "latest", UsageList, "What each task used in the newest period of its node."),)
ROUTES = (*TRACE_ROUTES, *EVENT_ROUTES, *USAGE_ROUTES)
