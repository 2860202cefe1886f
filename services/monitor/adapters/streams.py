"""Reading the LOGS and TRACES streams by subject, without a consumer: direct gets, several messages an answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import datetime

import msgspec
import nats.errors

from contracts.events import INTERNAL
from contracts.kinds import unescape
from contracts.records.logs import LogBatch, LogEvent
from contracts.records.traces import Span, SpanBatch
from contracts.subjects import EVENTS_STREAM, LOGS_STREAM, TRACES_STREAM, trace
from services.monitor.decisions.logs import HappenedEvent, Placed, Position, trace_id_of
from services.shared.bus import Bus
from services.shared.errors import StateUnavailable

BATCH = 128
ANSWER_BYTES = 4 * 1024 * 1024
WINDOW = 256
MOST_LOOKED_AT = 4096
"""Messages of EVENTS that are read at most for one question."""
_decode_logs = msgspec.json.Decoder(LogBatch).decode
_decode_spans = msgspec.json.Decoder(SpanBatch).decode


class Stored(msgspec.Struct, frozen=True):
    """A message of a stream, with the headers that its writer and NATS gave it."""

    sequence: int
    subject: str
    data: bytes
    headers: dict[str, str] = {}


class StreamReader:
    """Reads one stream."""

    def __init__(self, bus: Bus, stream: str) -> None:
        self._bus = bus
        self._stream = stream

    async def subjects(self, pattern: str) -> dict[str, int]:
        """The subjects that match, with how many messages each has."""
        found: dict[str, int] = {}
        while True:
            body = {"subjects_filter": pattern, "offset": len(found)}
            info = await self._bus.api(f"STREAM.INFO.{self._stream}", body)
            found |= info["state"].get("subjects") or {}
            if len(found) >= info.get("total", 0):
                return found

    async def bounds(self) -> tuple[int, int]:
        """The first and the last sequence."""
        state = (await self._bus.api(f"STREAM.INFO.{self._stream}"))["state"]
        return state["first_seq"], state["last_seq"]

    async def first(self, subject: str) -> Stored | None:
        """The oldest message on a subject."""
        return await self._one({"seq": 1, "next_by_subj": subject})

    async def last(self, subject: str) -> Stored | None:
        """The newest message on a subject (no wildcard)."""
        return await self._one({"last_by_subj": subject})

    async def since(self, pattern: str, stamp: str) -> Stored | None:
        """The first message on matching subjects at or after a time (RFC 3339)."""
        found = await self._get({"start_time": stamp, "next_by_subj": pattern, "batch": 1})
        return found[0] if found else None

    async def _one(self, body: dict[str, object]) -> Stored | None:
        message = await self._bus.request(f"$JS.API.DIRECT.GET.{self._stream}", msgspec.json.encode(body))
        headers = message.headers or {}
        if "Nats-Sequence" not in headers:
            return None
        return Stored(int(headers["Nats-Sequence"]), headers["Nats-Subject"], message.data)

    async def read(self, pattern: str, start: int, end: int | None = None) -> AsyncIterator[Stored]:
        """The messages on matching subjects from a sequence on, up to and without `end`. Raises StateUnavailable."""
        while True:
            messages = await self._several(pattern, max(start, 1))
            for message in messages:
                if end is not None and message.sequence >= end:
                    return
                yield message
            if not messages:
                return
            start = messages[-1].sequence + 1

    async def _several(self, pattern: str, start: int) -> list[Stored]:
        body = {"seq": start, "next_by_subj": pattern, "batch": BATCH, "max_bytes": ANSWER_BYTES}
        return await self._get(body)

    async def _get(self, body: dict[str, object]) -> list[Stored]:
        if not self._bus.connected.is_set():
            raise StateUnavailable()
        client = self._bus.client
        inbox = client.new_inbox()
        found: list[Stored] = []
        subscription = await client.subscribe(inbox)
        try:
            await client.publish(f"$JS.API.DIRECT.GET.{self._stream}", msgspec.json.encode(body), reply=inbox)
            while True:
                message = await subscription.next_msg(3)
                headers = message.headers or {}
                if "Nats-Sequence" not in headers:
                    return found
                found.append(Stored(int(headers["Nats-Sequence"]), headers["Nats-Subject"], message.data, headers))
        except (nats.errors.Error, TimeoutError) as error:
            raise StateUnavailable() from error
        finally:
            await subscription.unsubscribe()


class EventReader(StreamReader):
    """The EVENTS stream, read when somebody asks."""

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus, EVENTS_STREAM)

    async def after(self, sequence: int, limit: int) -> tuple[list[HappenedEvent], int]:
        """The last `limit` events behind a sequence, oldest first, and the sequence to go on behind. What the shared
        parts write for themselves is no news. Raises StateUnavailable."""
        first, last = await self.bounds()
        found: list[HappenedEvent] = []
        end, least, window = last + 1, max(first, sequence + 1, last - MOST_LOOKED_AT), WINDOW
        while end > least and len(found) < limit:
            start = max(least, end - window)
            messages = [message async for message in self.read("events.>", start, end)]
            found = [event for message in messages if (event := happened(message)) is not None] + found
            end, window = start, window * 4
        return found[-limit:], last


def happened(message: Stored) -> HappenedEvent | None:
    """What a message of EVENTS tells; None for what services tell themselves."""
    headers = message.headers
    name = headers.get("Event", "")
    if not name or name in INTERNAL:
        return None
    _, service, kind, *key = message.subject.split(".")
    return HappenedEvent(
        sequence=message.sequence,
        at=datetime.fromisoformat(headers["Nats-Time-Stamp"]).timestamp() if "Nats-Time-Stamp" in headers else 0.0,
        event=name,
        service=service,
        kind=kind,
        key=[unescape(token) for token in key],
        trace_id=trace_id_of(headers.get("traceparent", "")),
    )


class LogReader(StreamReader):
    """The LOGS stream, event by event."""

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus, LOGS_STREAM)

    async def forward(self, pattern: str, position: Position) -> AsyncIterator[Placed]:
        """The events behind a place, in the order they came in."""
        async for message in self.read(pattern, position.sequence):
            for placed in events_of(message):
                if placed.position >= position:
                    yield placed

    async def backward(self, subject: str, before: Position | None) -> AsyncIterator[Placed]:
        """The events before a place (None: the end), newest first. Reads windows that grow, backwards."""
        newest = await self.last(subject)
        oldest = await self.first(subject)
        if newest is None or oldest is None:
            return
        end = newest.sequence + 1 if before is None else min(before.sequence, newest.sequence) + 1
        window = WINDOW
        while end > oldest.sequence:
            start = max(oldest.sequence, end - window)
            messages = [message async for message in self.read(subject, start, end)]
            for message in reversed(messages):
                for placed in reversed(list(events_of(message))):
                    if before is None or placed.position < before:
                        yield placed
            end, window = start, window * 4


def events_of(message: Stored) -> Iterator[Placed]:
    """The events of a batch, each with its place."""
    batch = _decode_logs(message.data)
    for index, event in enumerate(batch.events):
        yield Placed(Position(message.sequence, index), event, batch.ingested_at, message.subject)


def edge_event(message: Stored | None, index: int) -> tuple[LogEvent, int] | None:
    """The first (0) or last (-1) event of a batch, and when it came in."""
    if message is None:
        return None
    batch = _decode_logs(message.data)
    return batch.events[index], batch.ingested_at


class TraceReader(StreamReader):
    """The TRACES stream."""

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus, TRACES_STREAM)

    async def spans(self, trace_id: str) -> list[Span]:
        """All spans of one trace, by their start."""
        found = [span async for message in self.read(trace(trace_id), 1) for span in _decode_spans(message.data).spans]
        return sorted(found, key=lambda span: span.start_ns)

    async def latest(self, limit: int) -> list[str]:
        """The ids of the traces that something was added to last, newest first."""
        first, end = await self.bounds()
        end += 1
        ids: dict[str, None] = {}
        window = WINDOW
        while end > first and len(ids) < limit:
            start = max(first, end - window)
            messages = [message async for message in self.read("traces.*", start, end)]
            for message in reversed(messages):
                ids.setdefault(message.subject.partition(".")[2])
            end, window = start, window * 4
        return list(ids)[:limit]
