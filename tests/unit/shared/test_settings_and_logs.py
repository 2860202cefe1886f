"""Settings from the environment; log lines as JSON; spans that continue a trace."""

import io
import json

import msgspec
import pytest
import structlog

from services.shared import logs, telemetry
from services.shared.settings import SettingsError, load


class Some(msgspec.Struct, kw_only=True, frozen=True):
    port: int = 4566
    wait_s: float = 1.5
    strict: bool = False


def test_defaults_stand_where_nothing_is_said():
    assert load(Some, "T_", {}) == Some()


def test_the_environment_overrides_and_the_caller_overrides_that():
    assert load(Some, "T_", {"T_PORT": "1", "T_STRICT": "true"}, port=2, wait_s=None) == Some(port=2, strict=True)


def test_a_value_that_does_not_fit_is_named_with_its_variable():
    with pytest.raises(SettingsError, match="T_PORT='many'"):
        load(Some, "T_", {"T_PORT": "many"})


@pytest.fixture
def lines():
    stream = io.StringIO()
    logs.configure(logs.StreamSink(stream))
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    structlog.reset_defaults()


def test_a_line_has_service_event_and_trace(lines):
    with telemetry.as_service("registry"), telemetry.span("push"):
        trace_id = telemetry.current_trace_id()
        structlog.get_logger().info("image.pushed", repository="shop")
    (line,) = lines()
    line.pop("timestamp")
    assert line == {
        "level": "info",
        "service": "registry",
        "event": "image.pushed",
        "repository": "shop",
        "trace_id": trace_id,
    }


def test_an_exception_is_in_the_line_it_was_logged_with(lines):
    try:
        raise ValueError("no")
    except ValueError:
        structlog.get_logger().exception("failed")
    assert "ValueError: no" in lines()[0]["exception"]


def test_a_trace_goes_on_through_headers():
    with telemetry.span("first"):
        headers = telemetry.inject({})
        trace_id = telemetry.current_trace_id()
    with telemetry.received("second", headers):
        assert telemetry.current_trace_id() == trace_id


def test_without_headers_a_trace_begins_even_inside_another():
    with telemetry.span("first"):
        outer = telemetry.current_trace_id()
        with telemetry.received("second", {}):
            assert telemetry.current_trace_id() != outer


def test_a_log_file_is_replaced_when_it_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "MAX_BYTES", 100)
    sink = logs.FileSink(tmp_path)
    for i in range(10):
        sink.write("edge", f"line {i} " + "x" * 30)
    assert (tmp_path / "edge.log.1").exists() and (tmp_path / "edge.log").stat().st_size < 100
