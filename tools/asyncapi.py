"""The subjects of the platform as an AsyncAPI 3 document: who says what on which of them. Pure."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from contracts.events import EVENTS
from contracts.kinds import Kind
from contracts.records import KINDS
from contracts.records.agent import Heartbeat
from contracts.records.events import AwsEvent
from contracts.records.exec import ExecAttach, ExecOpen
from contracts.records.logs import LogBatch
from contracts.records.metrics import MetricBatch, UsageBatch
from contracts.records.traces import SpanBatch
from contracts.rpc.command import Command

VERSION = "3.0.0"


STREAMED: dict[str, tuple[str, type[msgspec.Struct]]] = {
    "logs.batch": ("logs.{account}.{region}.{group}.{stream}", LogBatch),
    "traces.batch": ("traces.{trace_id}", SpanBatch),
    "metrics.batch": ("metrics.{source}.{instance}", MetricBatch),
    "metrics.usage": ("metrics.agent.{node}", UsageBatch),
    "heartbeat.agent": ("heartbeat.agent.{node}", Heartbeat),
    "aws.event": ("aws.events.{account}.{region}.{source}.{detail_type}", AwsEvent),
    "exec.open": ("exec.open.{node}", ExecOpen),
    "exec.attach": ("exec.attach.{node}.{session}", ExecAttach),
}
"""What is said beside state and commands: the name of its document -> its subject and its shape."""


def asyncapi(commands: tuple[Command[Any, Any], ...]) -> dict[str, Any]:
    """The document: a channel for each kind of entity, its copy in the event log, each command, and the rest."""
    schemas: dict[str, Any] = {}
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for kind in KINDS:
        _entity(kind, schemas, channels, operations)
    for command in commands:
        _command(command, schemas, channels, operations)
    for name, (address, shape) in STREAMED.items():
        _streamed(name, address, shape, schemas, channels, operations)
    return {
        "asyncapi": VERSION,
        "info": {"title": "Roadstead", "version": "0.1.0", "description": "State, events and commands on NATS."},
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"schemas": dict(sorted(schemas.items()))},
    }


def _schema(shape: type[msgspec.Struct], schemas: dict[str, Any]) -> dict[str, str]:
    (reference,), parts = msgspec.json.schema_components([shape], ref_template="#/components/schemas/{name}")
    schemas.update(parts)
    return dict(reference)


def _entity(kind: Kind[Any], schemas: dict[str, Any], channels: dict[str, Any], operations: dict[str, Any]) -> None:
    name = f"{kind.service}_{kind.name}"
    headers = {
        "type": "object",
        "required": ["Event"],
        "properties": {
            "Event": {"type": "string", "enum": list(EVENTS[kind])},
            "Op": {"type": "string", "const": "delete"},
            "traceparent": {"type": "string"},
            "Cause": {"type": "string"},
        },
    }
    message = {"headers": headers, "payload": _schema(kind.record, schemas)}
    parameters = {field: {"description": "A key field, escaped as RFC 3986 does."} for field in kind.key_fields}
    tail = ".".join((kind.service, kind.name, *("{" + field + "}" for field in kind.key_fields)))
    for prefix in ("state", "events"):
        channels[f"{prefix}_{name}"] = {
            "address": f"{prefix}.{tail}",
            "parameters": parameters,
            "messages": {"record": message},
        }
    operations[f"change_{name}"] = {"action": "send", "channel": {"$ref": f"#/channels/state_{name}"}}
    operations[f"follow_{name}"] = {"action": "receive", "channel": {"$ref": f"#/channels/events_{name}"}}


def _streamed(
    document: str,
    address: str,
    shape: type[msgspec.Struct],
    schemas: dict[str, Any],
    channels: dict[str, Any],
    operations: dict[str, Any],
) -> None:
    name = document.replace(".", "_")
    fields = re.findall(r"\{(\w+)\}", address)
    channels[name] = {
        "address": address,
        "parameters": {field: {"description": "Escaped as RFC 3986 does."} for field in fields},
        "messages": {"message": {"payload": _schema(shape, schemas)}},
    }
    operations[f"send_{name}"] = {"action": "send", "channel": {"$ref": f"#/channels/{name}"}}


def _command(
    command: Command[Any, Any], schemas: dict[str, Any], channels: dict[str, Any], operations: dict[str, Any]
) -> None:
    name = f"{command.service}_{command.name}"
    channels[name] = {
        "address": command.subject,
        "messages": {"request": {"payload": _schema(command.request, schemas)}},
    }
    channels[f"{name}_reply"] = {
        "address": None,
        "messages": {"reply": {"payload": _schema(command.reply, schemas)}},
    }
    operations[name] = {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{name}"},
        "reply": {"channel": {"$ref": f"#/channels/{name}_reply"}},
    }
