"""The query protocol: a form with dotted names in, XML out.

Lists are `Name.member.N`, maps `Name.entry.N.key` and `.value`; none of the models has a flattened list.
https://smithy.io/2.0/aws/protocols/aws-query-protocol.html
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from contracts.aws.model import Api, Operation
from services.shared.aws.http import AwsHttpRequest, AwsHttpResponse
from services.shared.aws.plans import Plan, plan_of
from services.shared.aws.routing import Route
from services.shared.aws.validation import explain
from services.shared.aws.xml import xml_text
from services.shared.errors import SerializationFailure

Node = dict[str, Any]


def decode(request: AwsHttpRequest, operation: Operation, route: Route) -> msgspec.Struct:
    """The form as the operation's input."""
    plan = plan_of(operation.input)
    value = read(plan, tree(route.params), "")
    try:
        return msgspec.convert(value, operation.input)
    except msgspec.ValidationError as refusal:
        raise explain(plan, value, str(refusal)) from None


def tree(fields: dict[str, str]) -> Node:
    """Dotted names as nested dicts; a node's own value is under the empty name."""
    root: Node = {}
    for name, value in fields.items():
        node = root
        for part in name.split("."):
            node = node.setdefault(part, {})
        node[""] = value
    return root


def read(plan: Plan, node: Node, path: str, spelled: Callable[[str], str] = str) -> Any:
    """A node as what its plan says; `spelled` gives a member's name in the form for its name in XML."""
    match plan.kind:
        case "struct":
            return {
                field.wire: read(field.plan, node[name], f"{path}.{name}".strip("."), spelled)
                for field in plan.fields
                if (name := spelled(field.wire)) in node
            }
        case "list":
            return [read(plan.item, item, path, spelled) for item in _numbered(node.get("member", node), path)]
        case "map":
            entries = _numbered(node.get("entry", node), path)
            return {
                _text(entry.get("key", {})): read(plan.item, entry.get("value", {}), path, spelled) for entry in entries
            }
        case _:
            return _scalar(plan.kind, _text(node), path)


def _text(node: Node) -> str:
    return node.get("", "")


def _numbered(node: Node, path: str) -> list[Node]:
    try:
        return [node[name] for name in sorted((name for name in node if name), key=int)]
    except ValueError:
        raise SerializationFailure(f"The list at '{path}' has a key that is not a number") from None


def _scalar(kind: str, text: str, path: str) -> Any:
    try:
        match kind:
            case "int" if "_" not in text:
                return int(text)
            case "float" if "_" not in text:
                return float(text)
            case "timestamp":
                return _seconds(text)
            case "bool" if text.lower() in ("true", "false"):
                return text.lower() == "true"
            case "str" | "blob":
                return text
            case _:
                raise ValueError(text)
    except ValueError:
        raise SerializationFailure(f"'{text}' at '{path}' is not a valid {kind}") from None


def _seconds(text: str) -> float:
    """Seconds since the epoch of an ISO 8601 time (UTC if it names no zone), or of a number."""
    try:
        seconds = float(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
    else:
        if math.isfinite(seconds):
            return seconds
        raise ValueError(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def encode(output: msgspec.Struct | None, operation: Operation, api: Api, request_id: str) -> AwsHttpResponse:
    """The output as XML inside `<OperationResponse><OperationResult>`."""
    name = operation.name
    parts = [f'<{name}Response xmlns="{api.xml_namespace}">']
    if operation.output is not None:
        parts.append(f"<{name}Result>")
        if output is not None:
            write(plan_of(operation.output), output, parts)
        parts.append(f"</{name}Result>")
    parts.append(f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{name}Response>")
    headers = {"x-amzn-RequestId": request_id, "Content-Type": "text/xml"}
    return AwsHttpResponse(200, headers, "".join(parts).encode())


def write(plan: Plan, value: Any, parts: list[str], member: str = "member") -> None:
    """A value as XML; `member` is what an element of a list is called."""
    match plan.kind:
        case "struct":
            for field in plan.fields:
                given = getattr(value, field.attribute)
                if given is not None:
                    _element(field.wire, field.plan, given, parts, member)
        case "list":
            for item in value:
                _element(member, plan.item, item, parts, member)
        case "map":
            for key, item in value.items():
                parts.append("<entry>")
                _element("key", plan.key, key, parts, member)
                _element("value", plan.item, item, parts, member)
                parts.append("</entry>")
        case _:
            parts.append(_shown(plan.kind, value))


def _element(name: str, plan: Plan, value: Any, parts: list[str], member: str) -> None:
    parts.append(f"<{name}>")
    write(plan, value, parts, member)
    parts.append(f"</{name}>")


def _shown(kind: str, value: Any) -> str:
    match kind:
        case "bool":
            return "true" if value else "false"
        case "timestamp":
            return iso(value)
        case "blob":
            return msgspec.to_builtins(value)
        case _:
            return xml_text(str(value))


def iso(seconds: float) -> str:
    """A time as AWS' XML has it: ISO 8601, UTC, milliseconds only if there are any."""
    moment = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
    return moment.isoformat(timespec="milliseconds" if moment.microsecond >= 1000 else "seconds") + "Z"
