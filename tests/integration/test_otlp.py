"""Spans reach a collector when the usual variables name one."""

import asyncio

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from services.shared import telemetry


@pytest.fixture
async def collector(monkeypatch):
    """An OTLP collector; yields the queue of what it was sent."""
    sent: asyncio.Queue = asyncio.Queue()

    async def take(request: web.Request) -> web.Response:
        sent.put_nowait(ExportTraceServiceRequest.FromString(await request.read()))
        return web.Response()

    app = web.Application()
    app.add_routes([web.post("/v1/traces", take)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    monkeypatch.setattr(telemetry, "_tracers", {})
    yield sent
    await runner.cleanup()


async def test_a_finished_span_is_sent_with_its_service_and_trace(collector):
    with telemetry.as_service("registry"), telemetry.span("push", repository="shop"):
        trace_id = telemetry.current_trace_id()
    request = await asyncio.wait_for(collector.get(), 30)
    (resource,) = request.resource_spans
    names = {a.key: a.value.string_value for a in resource.resource.attributes}
    (span,) = resource.scope_spans[0].spans
    assert (names["service.name"], span.name, span.trace_id.hex()) == ("registry", "push", trace_id)
