"""Structured log lines: one JSON object a line, one event each.

Every line has time, level, event, service and, inside a span, trace_id. What it is about (account, region, cluster,
task …) is bound once at entry with `structlog.contextvars.bound_contextvars` or given with the event.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any, Protocol, TextIO

import msgspec
import structlog

from services.shared import telemetry

MAX_BYTES = 16 * 1024 * 1024
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Sink(Protocol):
    """Where lines go."""

    def write(self, service: str, line: str) -> None:
        """Take one line, without its line end."""


class StreamSink:
    """All lines to one stream: a service that is a process of its own."""

    def __init__(self, stream: TextIO = sys.stdout) -> None:
        self._stream = stream

    def write(self, service: str, line: str) -> None:
        """Write and flush."""
        print(line, file=self._stream, flush=True)


class FileSink:
    """A file a service, `<directory>/<service>.log`; at 16 MiB it becomes `.log.1` and a new one begins."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[str, TextIO] = {}
        directory.mkdir(parents=True, exist_ok=True)

    def write(self, service: str, line: str) -> None:
        """Write and flush; a full disk loses the line, not the service."""
        try:
            file = self._files.get(service)
            if file is None:
                path = self._directory / f"{service}.log"
                file = self._files[service] = open(path, "a", encoding="utf-8")  # noqa: SIM115
            file.write(line + "\n")
            file.flush()
            if file.tell() > MAX_BYTES:
                path = self._directory / f"{service}.log"
                file.close()
                del self._files[service]
                path.replace(path.with_suffix(".log.1"))
        except OSError:
            self._files.pop(service, None)


class _Logger:
    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def msg(self, message: str) -> None:
        self._sink.write(telemetry.current_service(), message)

    debug = info = warning = warn = error = critical = exception = msg


def _stamp(_: Any, level: str, event: dict[str, Any]) -> dict[str, Any]:
    event.setdefault("service", telemetry.current_service())
    trace_id = telemetry.current_trace_id()
    if trace_id:
        event.setdefault("trace_id", trace_id)
    return event


def _render(_: Any, __: str, event: dict[str, Any]) -> str:
    first = {name: event.pop(name) for name in ("timestamp", "level", "service", "event") if name in event}
    return msgspec.json.encode({**first, **event}, enc_hook=str).decode()


def configure(sink: Sink, level: str = "info") -> None:
    """Send the process' log lines to `sink`, those of libraries (warnings and worse) with them."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _stamp,
            structlog.processors.format_exc_info,
            _render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *args: _Logger(sink),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Bridge(sink)]
    root.setLevel(logging.WARNING)


class _Bridge(logging.Handler):
    """Lines of libraries, in our form."""

    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        error = self.formatter or logging.Formatter()
        line: dict[str, Any] = {
            "level": record.levelname.lower(),
            "service": telemetry.current_service(),
            "event": record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info:
            line["exception"] = error.formatException(record.exc_info)
        self._sink.write(telemetry.current_service(), msgspec.json.encode(line, enc_hook=str).decode())
