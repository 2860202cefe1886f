"""Smithy RPC v2 CBOR: a CBOR map in, a CBOR map out; times are tag 1.

https://smithy.io/2.0/additional-specs/protocols/smithy-rpc-v2.html
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import cbor2
import msgspec

from contracts.aws.model import Api, Operation
from services.shared.aws.http import AwsHttpRequest, AwsHttpResponse
from services.shared.aws.plans import Plan, plan_of
from services.shared.aws.routing import Route
from services.shared.aws.validation import explain
from services.shared.errors import SerializationFailure

_EPOCH_SECONDS = 1


def decode(request: AwsHttpRequest, operation: Operation, route: Route) -> msgspec.Struct:
    """The body as the operation's input; no body is an empty map."""
    try:
        value = _plain(cbor2.loads(request.body)) if request.body else {}
    except (cbor2.CBORDecodeError, ValueError, OverflowError, TypeError, RecursionError) as error:
        raise SerializationFailure(f"The request body is not CBOR: {error}") from None
    try:
        return msgspec.convert(value, operation.input)
    except msgspec.ValidationError as refusal:
        raise explain(plan_of(operation.input), value, str(refusal)) from None


def _plain(value: Any) -> Any:
    """The value with times as seconds; what CBOR has beyond that, no model uses."""
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def encode(output: msgspec.Struct | None, operation: Operation, api: Api, request_id: str) -> AwsHttpResponse:
    """The output as a CBOR map, or an empty body where the model has no output."""
    headers = {"x-amzn-RequestId": request_id, "smithy-protocol": "rpc-v2-cbor"}
    if operation.output is None:
        return AwsHttpResponse(200, headers, b"")
    headers["Content-Type"] = "application/cbor"
    body = {} if output is None else _value(plan_of(operation.output), output)
    return AwsHttpResponse(200, headers, cbor2.dumps(body))


def _value(plan: Plan, value: Any) -> Any:
    match plan.kind:
        case "struct":
            found = ((field, getattr(value, field.attribute)) for field in plan.fields)
            return {field.wire: _value(field.plan, member) for field, member in found if member is not None}
        case "list":
            return [_value(plan.item, item) for item in value]
        case "map":
            return {key: _value(plan.item, item) for key, item in value.items()}
        case "timestamp":
            return cbor2.CBORTag(_EPOCH_SECONDS, float(value))
        case "float":
            return float(value)
        case _:
            return value
