"""REST-JSON: method and path say the operation; some members are in the path or the query string.

https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import msgspec

from contracts.aws.model import Api, Http, Operation
from services.shared.aws.http import AwsHttpRequest, AwsHttpResponse
from services.shared.aws.plans import plan_of
from services.shared.aws.protocols.json import read_json
from services.shared.aws.routing import Route
from services.shared.aws.validation import explain
from services.shared.errors import SerializationFailure


def decode(request: AwsHttpRequest, operation: Operation, route: Route) -> msgspec.Struct:
    """The body, the path's labels and the query string's parameters as the operation's input."""
    value = read_json(request.body) if request.body else {}
    if isinstance(value, dict):
        value = {**value, **_bound(request, operation.http, route.params)}
    try:
        return msgspec.convert(value, operation.input)
    except msgspec.ValidationError as refusal:
        raise explain(plan_of(operation.input), value, str(refusal)) from None


def _bound(request: AwsHttpRequest, http: Http, labels: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {member: labels[label] for label, member in http.path.items()}
    given = parse_qs(request.query, keep_blank_values=True) if request.query and http.query else {}
    for name, (member, kind) in http.query.items():
        if name in given:
            found[member] = _parameter(given[name], kind, name)
    return found


def _parameter(values: list[str], kind: str, name: str) -> Any:
    if kind == "list":
        return values
    if kind == "int":
        try:
            return int(values[-1])
        except ValueError:
            raise SerializationFailure(f"STRING_VALUE can not be converted to an Integer at '{name}'") from None
    if kind == "bool":
        if values[-1].lower() not in ("true", "false"):
            raise SerializationFailure(f"STRING_VALUE can not be converted to a Boolean at '{name}'")
        return values[-1].lower() == "true"
    return values[-1]


def encode(output: msgspec.Struct | None, operation: Operation, api: Api, request_id: str) -> AwsHttpResponse:
    """The output as a JSON object."""
    headers = {"x-amzn-RequestId": request_id, "Content-Type": "application/json"}
    return AwsHttpResponse(200, headers, b"{}" if output is None else msgspec.json.encode(output))
