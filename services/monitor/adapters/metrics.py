"""The METRICS stream and the series that are made of it: everything that is measured comes in here, and only here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import structlog

from contracts.records.metrics import MetricBatch, UsageBatch
from contracts.subjects import METRICS_STREAM, metrics
from services.monitor.adapters.streams import StreamReader
from services.monitor.decisions.series import HOURS_3, WEEK
from services.monitor.decisions.store import MetricKey, MetricStore, add_samples
from services.monitor.decisions.usage import NodeUsage, running_counts, samples_of
from services.shared.bus import Bus
from services.shared.clock import Clock
from services.shared.errors import StateUnavailable
from services.shared.tails import Tail
from services.shared.waiting import within

log = structlog.get_logger()

AGENTS = "metrics.agent."
EVERYTHING = "metrics.>"
VISIBLE_S = 3.0
FORGET_NODES_S = 3600
AHEAD_S = 2 * 3600 + 60
"""A clock that is further ahead than this is wrong, and would make what the others measure look old."""
_decode_usage = msgspec.json.Decoder(UsageBatch).decode
_decode_samples = msgspec.json.Decoder(MetricBatch).decode

Listener = Callable[[list[tuple[MetricKey, float]]], None]


class Measurements:
    """The series, brought up to date by the stream. Open it with `Measurements.open`."""

    def __init__(self, bus: Bus, clock: Clock, instance: str, budget_bytes: int) -> None:
        self.store = MetricStore(budget_bytes)
        self.nodes: dict[str, NodeUsage] = {}
        self.batches: dict[str, MetricBatch] = {}
        """The newest batch of each source, for those who ask what is now."""
        self.clock = clock
        self._bus = bus
        self._subject = metrics("monitor", instance)
        self._source = f"monitor.{instance}"
        self._listeners: list[Listener] = []
        self._reader = StreamReader(bus, METRICS_STREAM)
        self._tail = Tail(bus, METRICS_STREAM, EVERYTHING, self._take)

    @classmethod
    async def open(cls, bus: Bus, clock: Clock, instance: str, budget_bytes: int) -> Measurements:
        """With all that was put by callers in the last week, and all that was measured in the last three hours. What
        agents and others measured before that follows while it is served already. Raises StateUnavailable."""
        made = cls(bus, clock, instance, budget_bytes)
        week, hours = await asyncio.gather(made._sequence_at(clock() - WEEK), made._sequence_at(clock() - HOURS_3))
        async for message in made._reader.read("metrics.monitor.*", week, hours):
            made._take(message.subject, message.data, message.sequence)
        await made._tail.start(hours)
        made._older = bus.spawn(made._read_older(week, hours), "older metrics")
        return made

    async def close(self) -> None:
        """Stop following."""
        self._older.cancel()
        await asyncio.gather(self._older, return_exceptions=True)
        await self._tail.stop()

    def listen(self, listener: Listener) -> None:
        """Be told which metrics got values of which times."""
        self._listeners.append(listener)

    async def put(self, batch: MetricBatch) -> None:
        """Write samples into the stream, and return when they can be read here. Raises StateUnavailable."""
        sequence = await self._bus.publish(self._subject, msgspec.json.encode(batch))
        # Written is written: if the stream's own word stays away for so long, it is only not visible here yet.
        with contextlib.suppress(TimeoutError):
            await within(VISIBLE_S, self._tail.reached(sequence))

    def batch(self, samples: list) -> MetricBatch:
        """A batch of this monitor's own, now."""
        return MetricBatch(source=self._source, at=self.clock(), samples=samples)

    async def _sequence_at(self, time: float) -> int:
        """The sequence of the first message at or after a time; the one to come when there is none."""
        first, last = await self._reader.bounds()
        if last < first:
            return last + 1
        stamp = datetime.fromtimestamp(max(time, 0), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        found = await self._reader.since(EVERYTHING, stamp)
        return found.sequence if found is not None else last + 1

    async def _read_older(self, start: int, end: int) -> None:
        """What is behind the last three hours, without those that `open` has read. It fills in coarse buckets only."""
        if start >= end:
            return
        try:
            async for message in self._reader.read(EVERYTHING, start, end):
                if not message.subject.startswith("metrics.monitor."):
                    self._take(message.subject, message.data, message.sequence)
        except StateUnavailable as error:
            log.warning("metrics.older_not_read", error=error.message)

    def _take(self, subject: str, data: bytes, sequence: int) -> None:
        try:
            latest = self.clock() + AHEAD_S
            if subject.startswith(AGENTS):
                touched = self._take_usage(_decode_usage(data), latest)
            else:
                batch = _decode_samples(data)
                known = self.batches.get(batch.source)
                if known is None or known.at <= batch.at <= latest:  # older ones are read after newer ones
                    self.batches[batch.source] = batch
                touched = add_samples(self.store, batch.samples, batch.at, latest)
        except (msgspec.MsgspecError, ValueError) as error:
            log.error("metrics.unreadable", subject=subject, sequence=sequence, error=str(error))
            return
        for listener in self._listeners:
            listener(touched)

    def _take_usage(self, batch: UsageBatch, latest: float) -> list[tuple[MetricKey, float]]:
        if batch.at > latest or batch.period_s <= 0:
            log.warning("metrics.wrong_clock", node=batch.node, at=batch.at)
            return []
        known = self.nodes.get(batch.node)
        if known is None or known.at <= batch.at:
            self.nodes[batch.node] = NodeUsage(batch.node, batch.at, batch.period_s, batch.tasks)
            self._forget_nodes(batch.at)
        samples = samples_of(batch)
        if self.nodes[batch.node].at == batch.at:
            samples += running_counts(self.nodes, batch)
        return add_samples(self.store, samples, batch.at)

    def _forget_nodes(self, now: float) -> None:
        for name in [n for n, usage in self.nodes.items() if usage.at < now - FORGET_NODES_S]:
            del self.nodes[name]
