"""Finished spans, as they lie in the TRACES stream until they age out."""

import msgspec


class Span(msgspec.Struct, kw_only=True, frozen=True):
    """A span. Times are nanoseconds since the epoch, as OpenTelemetry has them. status: OK | ERROR | UNSET."""

    trace_id: str
    span_id: str
    name: str
    service: str
    start_ns: int
    end_ns: int
    parent_id: str | None = None
    kind: str = "INTERNAL"
    status: str = "UNSET"
    status_message: str = ""
    attributes: dict[str, str | int | float | bool] = {}


class SpanBatch(msgspec.Struct, kw_only=True, frozen=True):
    """Spans of one trace that one service finished at about the same time."""

    spans: list[Span]
