"""AWS JSON 1.0 and 1.1: a JSON object in, a JSON object out, the operation in X-Amz-Target.

https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from contracts.aws.model import Api, Operation
from services.shared.aws.http import AwsHttpRequest, AwsHttpResponse
from services.shared.aws.plans import plan_of
from services.shared.aws.routing import Route
from services.shared.aws.validation import explain
from services.shared.errors import SerializationFailure

_encode = msgspec.json.Encoder().encode
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_TYPES = {"1.0": "application/x-amz-json-1.0", "1.1": "application/x-amz-json-1.1"}


@cache
def _decoder(cls: type[msgspec.Struct]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(cls)


def decode(request: AwsHttpRequest, operation: Operation, route: Route) -> msgspec.Struct:
    """The body as the operation's input; an empty body is an empty object."""
    body = request.body or b"{}"
    try:
        return _decoder(operation.input).decode(body)
    except msgspec.ValidationError as refusal:
        raise explain(plan_of(operation.input), read_json(body), str(refusal)) from None
    except UNREADABLE as error:
        raise not_json(error) from None


def read_json(body: bytes) -> Any:
    """The body as plain values. Raises SerializationFailure."""
    try:
        return msgspec.json.decode(body)
    except UNREADABLE as error:
        raise not_json(error) from None


def not_json(error: Exception) -> SerializationFailure:
    """The refusal of a body that is not JSON, or has no bottom."""
    return SerializationFailure(f"The request body is not JSON: {error}")


def encode(output: msgspec.Struct | None, operation: Operation, api: Api, request_id: str) -> AwsHttpResponse:
    """The output as a JSON object, or an empty body where the model has no output."""
    headers = {"x-amzn-RequestId": request_id, "Content-Type": _TYPES[api.json_version]}
    return AwsHttpResponse(200, headers, b"" if output is None else _encode(output))
