"""Each operation as a span and as metrics, on the hot path: a few microseconds where a read is not sampled."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextvars import Token
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace as otel
from opentelemetry.trace import Status, StatusCode

from services.shared import telemetry
from services.shared.aws.context import RequestContext
from services.shared.metrics import Metrics


class Observation:
    """One operation being carried out, in the name of the service that owns it."""

    __slots__ = ("_context", "_metrics", "_span", "_started", "_token")

    def __init__(self, context: RequestContext, span: otel.Span, metrics: Metrics) -> None:
        self._context = context
        self._span = span
        self._metrics = metrics
        self._started = time.perf_counter()
        self._token: Token[Any] | None = otel_context.attach(otel.set_span_in_context(span, otel_context.Context()))

    def end(self, status: int, error: str) -> None:
        """It was answered."""
        if self._token is not None:
            otel_context.detach(self._token)
            self._token = None
        context, span = self._context, self._span
        if span.is_recording():
            span.set_attribute("http.response.status_code", status)
            if error:
                span.set_attribute("error.type", error)
            if status >= 500:
                span.set_status(Status(StatusCode.ERROR, error))
        span.end()
        self._metrics.answered(context.api, context.operation, status, time.perf_counter() - self._started)


class ServiceObserver:
    """Sees the operations of one service."""

    def __init__(self, service: str, metrics: Metrics) -> None:
        self._service = service
        self._metrics = metrics

    def start(self, context: RequestContext, headers: Mapping[str, str]) -> Observation:
        """Begin a span, child of the caller's if it sent a `traceparent`, and make it current."""
        telemetry.become(self._service)
        span = telemetry.start_server_span(f"{context.api}.{context.operation}", headers, {})
        if span.is_recording():
            span.set_attributes(
                {
                    "aws.account": context.account,
                    "aws.region": context.region,
                    "aws.request_id": context.request_id,
                    "aws.principal": context.principal_arn,
                }
            )
        return Observation(context, span, self._metrics)
