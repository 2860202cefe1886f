"""What the monitor decides, without I/O: where in a log stream a page begins and ends, which lines a pattern means,
which events may be written, what a list of traces shows."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

import msgspec

from contracts.records.logs import LogEvent
from contracts.records.traces import Span
from services.shared.errors import AwsError

PAGE_EVENTS = 10_000
PAGE_BYTES = 1024 * 1024
EVENT_OVERHEAD = 26
BATCH_BYTES = 1024 * 1024
TOO_OLD_MS = 14 * 24 * 3600 * 1000
TOO_NEW_MS = 2 * 3600 * 1000
SPAN_MS = 24 * 3600 * 1000
RETENTION_DAYS = frozenset(
    (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653)
)


def invalid(message: str) -> AwsError:
    """InvalidParameterException."""
    return AwsError("InvalidParameterException", message)


class Position(msgspec.Struct, frozen=True, order=True):
    """A place between events: the stream's sequence of a batch and the index of the event behind the place."""

    sequence: int = 0
    index: int = 0


class HappenedEvent(msgspec.Struct, kw_only=True, frozen=True):
    """A domain event: what happened (`event`, with its version) to the entity `key` of one service's kind, when
    (seconds since the epoch), and the trace it happened in, if it did in one."""

    sequence: int
    at: float
    event: str
    service: str
    kind: str
    key: list[str]
    trace_id: str | None


def trace_id_of(traceparent: str) -> str | None:
    """The trace in a W3C traceparent header; None when there is none in it."""
    parts = traceparent.split("-")
    return parts[1] if len(parts) >= 4 and len(parts[1]) == 32 else None


class Placed(msgspec.Struct, frozen=True):
    """An event with the place before it, the subject it lies on, and when it came in (milliseconds)."""

    position: Position
    event: LogEvent
    ingested_at: int
    subject: str = ""


def token(direction: str, position: Position) -> str:
    """A page token: `f` forward from a place, `b` backward from it."""
    return f"{direction}/{position.sequence:020d}:{position.index:06d}/s"


def read_token(text: str) -> tuple[str, Position]:
    """Direction and place of a token. Raises InvalidParameterException."""
    found = re.fullmatch(r"([fb])/(\d{20}):(\d{6})/s", text)
    if found is None:
        raise invalid("The specified nextToken is invalid.")
    return found[1], Position(int(found[2]), int(found[3]))


def within(event: LogEvent, start: int | None, end: int | None) -> bool:
    """Whether it lies at or after `start` and before `end` (milliseconds)."""
    return (start is None or event.timestamp >= start) and (end is None or event.timestamp < end)


class Page:
    """Events being gathered, up to a number and to AWS' 1 MiB."""

    def __init__(self, limit: int | None) -> None:
        self._limit = min(limit or PAGE_EVENTS, PAGE_EVENTS)
        self._bytes = 0
        self.events: list[Placed] = []

    def add(self, placed: Placed) -> bool:
        """Take it in; False when the page is full without it."""
        size = len(placed.event.message.encode()) + EVENT_OVERHEAD
        if len(self.events) >= self._limit or (self.events and self._bytes + size > PAGE_BYTES):
            return False
        self._bytes += size
        self.events.append(placed)
        return True


class Pattern:
    """A filter pattern of plain terms: every term must be in the line, `-term` must not, of `?terms` one must be; a
    term in double quotes may hold blanks. Case matters.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html
    """

    def __init__(self, text: str | None) -> None:
        text = (text or "").strip()
        if text[:1] in ("{", "[", "%"):
            raise invalid("Invalid filter pattern: JSON, space-delimited and regular expressions are not supported yet")
        self._all: list[str] = []
        self._any: list[str] = []
        self._none: list[str] = []
        for sign, quoted, plain in re.findall(r'([?-]?)(?:"((?:[^"\\]|\\.)*)"|(\S+))', text):
            term = re.sub(r"\\(.)", r"\1", quoted) if quoted else plain
            if '"' in plain:
                raise invalid("Invalid filter pattern: a quote is not closed")
            {"?": self._any, "-": self._none, "": self._all}[sign].append(term)

    def matches(self, message: str) -> bool:
        """Whether a line is meant."""
        return (
            all(term in message for term in self._all)
            and not any(term in message for term in self._none)
            and (not self._any or any(term in message for term in self._any))
        )


class Accepted(msgspec.Struct, frozen=True):
    """Which events of a request are taken, and the indexes of those that are not (as PutLogEvents tells them)."""

    events: list[LogEvent]
    too_old_end: int | None = None
    too_new_start: int | None = None
    expired_end: int | None = None


def accept(events: list[LogEvent], now_ms: int, retention_days: int | None) -> Accepted:
    """Judge a PutLogEvents request: its order, size and span (InvalidParameterException), its events' age."""
    stamps = [event.timestamp for event in events]
    if any(a > b for a, b in itertools.pairwise(stamps)):
        raise invalid("Log events in a single PutLogEvents request must be in chronological order.")
    if sum(len(event.message.encode()) + EVENT_OVERHEAD for event in events) > BATCH_BYTES:
        raise invalid(f"Upload too large: more than {BATCH_BYTES} bytes.")
    old = sum(stamp < now_ms - TOO_OLD_MS for stamp in stamps)
    expiry = now_ms - retention_days * 24 * 3600 * 1000 if retention_days else 0
    expired = sum(stamp < expiry for stamp in stamps)
    new = sum(stamp > now_ms + TOO_NEW_MS for stamp in stamps)
    taken = events[max(old, expired) : len(events) - new]
    if taken and taken[-1].timestamp - taken[0].timestamp > SPAN_MS:
        raise invalid("The batch of log events in a single PutLogEvents request cannot span more than 24 hours.")
    return Accepted(taken, old or None, len(events) - new if new else None, expired if expired > old else None)


class TraceLine(msgspec.Struct, kw_only=True, frozen=True):
    """A trace in a list: what began it, when, how long it took in all, how many spans it has."""

    trace_id: str
    name: str
    service: str
    start_ns: int
    end_ns: int
    spans: int
    status: str = "UNSET"


def trace_line(spans: Iterable[Span]) -> TraceLine:
    """One trace in a list; its root is the span without a parent, or else the first."""
    ordered = sorted(spans, key=lambda s: (s.parent_id is not None, s.start_ns))
    root = ordered[0]
    failed = any(span.status == "ERROR" for span in ordered)
    return TraceLine(
        trace_id=root.trace_id,
        name=root.name,
        service=root.service,
        start_ns=min(span.start_ns for span in ordered),
        end_ns=max(span.end_ns for span in ordered),
        spans=len(ordered),
        status="ERROR" if failed else root.status,
    )
