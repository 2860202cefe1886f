"""The subjects of the platform as an AsyncAPI 3 document: who says what on which of them. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from contracts.events import EVENTS
from contracts.kinds import Kind
from contracts.records import KINDS
from contracts.rpc.command import Command

VERSION = "3.0.0"


def asyncapi(commands: tuple[Command[Any, Any], ...]) -> dict[str, Any]:
    """The document: a channel for each kind of entity, its copy in the event log, and each command."""
    schemas: dict[str, Any] = {}
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for kind in KINDS:
        _entity(kind, schemas, channels, operations)
    for command in commands:
        _command(command, schemas, channels, operations)
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
