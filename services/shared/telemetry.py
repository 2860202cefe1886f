"""Spans and log lines, joined by the trace id.

One trace runs from an HTTP request through every NATS hop: `inject` puts the context into headers, `received` takes
it out. Finished spans go to the TRACES stream (read by `roadstead trace`) and, when the usual `OTEL_EXPORTER_OTLP_*`
variables are set, to a collector. Services that share a process share this module: which service a span or a line
belongs to is the context variable that `as_service` sets.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator, Mapping, MutableMapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import msgspec
from opentelemetry import context as otel_context
from opentelemetry import trace as otel
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from contracts.records.traces import Span, SpanBatch
from contracts.subjects import trace as trace_subject

if TYPE_CHECKING:
    from services.shared.bus import Bus

FLUSH_S = 0.2
READS_TRACED_PER_S = 20
_READ_VERBS = ("Describe", "List", "Get", "GET", "HEAD")

_service: ContextVar[str] = ContextVar("roadstead_service", default="roadstead")
_propagator = TraceContextTextMapPropagator()
_tracers: dict[str, otel.Tracer] = {}


def current_service() -> str:
    """The service in whose name this code runs."""
    return _service.get()


def become(service: str) -> None:
    """From here on, this context (and what is spawned from it) runs in the name of `service`."""
    _service.set(service)


@contextlib.contextmanager
def as_service(service: str) -> Iterator[None]:
    """Run a block in the name of `service`."""
    token = _service.set(service)
    try:
        yield
    finally:
        _service.reset(token)


class _ReadLimit:
    """Every change is traced; reads that nobody asked to trace are traced at a bounded rate."""

    def __init__(self) -> None:
        self._tokens = float(READS_TRACED_PER_S)
        self._at = 0.0

    def passes(self, name: str) -> bool:
        """Whether a trace that would begin with a span of this name is to be kept."""
        if not name.rsplit(".", 1)[-1].startswith(_READ_VERBS):
            return True
        now = time.monotonic()
        self._tokens = min(READS_TRACED_PER_S, self._tokens + (now - self._at) * READS_TRACED_PER_S)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class _Shipper(SpanProcessor):
    """Gathers finished spans and publishes them, a message a trace, through their service's own bus."""

    def __init__(self) -> None:
        self.buses: dict[str, Bus] = {}
        self._pending: list[tuple[str, Span]] = []
        self._scheduled = False
        self._flushing: asyncio.Task[None] | None = None

    def on_end(self, span: ReadableSpan) -> None:
        service = str(span.resource.attributes.get("service.name", ""))
        if service not in self.buses:
            return
        self._pending.append((service, to_record(span, service)))
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_later(FLUSH_S, self._start)

    def _start(self) -> None:
        self._flushing = asyncio.ensure_future(self.flush())

    async def flush(self) -> None:
        self._scheduled = False
        pending, self._pending = self._pending, []
        groups: dict[tuple[str, str], list[Span]] = {}
        for service, span in pending:
            groups.setdefault((service, span.trace_id), []).append(span)
        for (service, trace_id), spans in groups.items():
            bus = self.buses.get(service)
            if bus is not None:
                await bus.tell(trace_subject(trace_id), msgspec.json.encode(SpanBatch(spans=spans)))


_reads = _ReadLimit()
_sampler = ParentBased(ALWAYS_ON)
# Stands for the spans that are not made: making one only to drop it costs as much as answering a read. What would be
# its children is dropped by the sampler, and it is never told to others.
_UNTRACED = otel.NonRecordingSpan(otel.SpanContext(1, 1, is_remote=False))
_shipper = _Shipper()


def ship_through(service: str, bus: Bus) -> None:
    """Publish `service`'s finished spans through this bus from now on."""
    _shipper.buses[service] = bus


async def flush(service: str) -> None:
    """Publish what is pending, before `service` lets go of its bus."""
    await _shipper.flush()
    _shipper.buses.pop(service, None)


def _tracer() -> otel.Tracer:
    service = _service.get()
    tracer = _tracers.get(service)
    if tracer is None:
        provider = TracerProvider(
            sampler=_sampler,
            resource=Resource({"service.name": service, "service.namespace": "roadstead"}),
            shutdown_on_exit=False,
        )
        provider.add_span_processor(_shipper)
        if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
            _export_otlp(provider)
        tracer = _tracers[service] = provider.get_tracer("roadstead")
    return tracer


def _export_otlp(provider: TracerProvider) -> None:
    # Imported on use: protobuf and requests cost more to import than everything else here together.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))


def to_record(span: ReadableSpan, service: str) -> Span:
    """A finished span as it is stored."""
    context = span.get_span_context()
    attributes = {
        k: v if isinstance(v, str | int | float | bool) else str(v) for k, v in (span.attributes or {}).items()
    }
    return Span(
        trace_id=f"{context.trace_id:032x}",
        span_id=f"{context.span_id:016x}",
        parent_id=f"{span.parent.span_id:016x}" if span.parent else None,
        name=span.name,
        service=service,
        start_ns=span.start_time or 0,
        end_ns=span.end_time or 0,
        kind=span.kind.name,
        status=span.status.status_code.name,
        status_message=span.status.description or "",
        attributes=attributes,
    )


@contextlib.contextmanager
def span(name: str, *, kind: str = "INTERNAL", **attributes: str | int | float | bool) -> Iterator[otel.Span]:
    """A span around a block, child of the current one. An exception marks it as failed and goes on."""
    with _running(name, kind, None, attributes) as running:
        yield running


@contextlib.contextmanager
def received(
    name: str,
    headers: Mapping[str, str] | None,
    *,
    kind: str = "CONSUMER",
    **attributes: str | int | float | bool,
) -> Iterator[otel.Span]:
    """A span whose parent is in the headers of what was received (HTTP or NATS), if it is there."""
    with _running(name, kind, extract(headers), attributes) as running:
        yield running


@contextlib.contextmanager
def continued(
    name: str, traceparent: str | None, *, kind: str = "CONSUMER", **attributes: str | int | float | bool
) -> Iterator[otel.Span]:
    """A span that continues the trace of a record (`Entry.trace`)."""
    with received(name, {"traceparent": traceparent} if traceparent else None, kind=kind, **attributes) as running:
        yield running


@contextlib.contextmanager
def _running(name: str, kind: str, parent: Any, attributes: Mapping[str, Any]) -> Iterator[otel.Span]:
    if parent is not None and not parent and not _reads.passes(name):
        started: otel.Span = _UNTRACED
    else:
        started = _tracer().start_span(name, context=parent, kind=SpanKind[kind], attributes=attributes)
    token = otel_context.attach(otel.set_span_in_context(started, parent))
    try:
        yield started
    except Exception as error:
        started.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"[:300]))
        raise
    finally:
        otel_context.detach(token)
        started.end()


def start_server_span(name: str, headers: Mapping[str, str] | None, attributes: Mapping[str, Any]) -> otel.Span:
    """A server span that the caller ends; it is not made current (use `current` for that)."""
    parent = extract(headers)
    if not parent and not _reads.passes(name):
        return _UNTRACED
    return _tracer().start_span(name, context=parent, kind=SpanKind.SERVER, attributes=attributes)


@contextlib.contextmanager
def current(running: otel.Span) -> Iterator[None]:
    """Make a span the current one for a block, without ending it."""
    token = otel_context.attach(otel.set_span_in_context(running))
    try:
        yield
    finally:
        otel_context.detach(token)


def extract(headers: Mapping[str, str] | None) -> Any:
    """The remote context in these headers; an empty one, so a new trace, when there is none."""
    if headers:
        value = headers.get("traceparent") or headers.get("Traceparent")
        if value:
            return _propagator.extract({"traceparent": value}, context=otel_context.Context())
    return otel_context.Context()


def inject(headers: MutableMapping[str, str]) -> MutableMapping[str, str]:
    """Put the current context into headers, if it is traced; returns them."""
    context = otel.get_current_span().get_span_context()
    if context.trace_flags.sampled:
        headers["traceparent"] = f"00-{context.trace_id:032x}-{context.span_id:016x}-01"
    return headers


def traceparent() -> str | None:
    """The current context as a `traceparent`, to be stored with what it leads to."""
    return inject({}).get("traceparent")


def current_trace_id() -> str | None:
    """The trace id of the current span, 32 hex digits."""
    context = otel.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.trace_flags.sampled else None
