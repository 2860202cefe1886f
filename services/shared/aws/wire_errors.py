"""The one place where an exception becomes an answer: which code, which status, which form."""

from __future__ import annotations

from typing import Any

import cbor2
import msgspec

from contracts.aws.model import Api
from services.shared.aws.http import AwsHttpResponse
from services.shared.aws.routing import CBOR, EC2, FORMS, QUERY, REST_JSON
from services.shared.aws.styles import authentication_code, common_codes, style_of, validation_message
from services.shared.aws.xml import xml_text
from services.shared.errors import (
    AuthenticationFailure,
    AwsError,
    InternalFailure,
    ServiceUnavailable,
    ValidationFailure,
)


class WireError(msgspec.Struct, frozen=True):
    """An error with everything decided. `name` is its shape's name, `code` its code in query protocols."""

    name: str
    code: str
    status: int
    message: str
    message_name: str
    fields: dict[str, Any]

    @property
    def fault(self) -> str:
        """Whose fault it is, as query protocols say it."""
        return "Receiver" if self.status >= 500 else "Sender"


def resolve(error: AwsError, api_name: str, api: Api | None, protocol: str) -> WireError:
    """Decide code, status and message of an error for an API (by module name; its model if there is one)."""
    name, status, message = error.code, error.status, error.message
    style = style_of(api_name)
    if isinstance(error, AuthenticationFailure):
        name, status = authentication_code(error.kind, protocol)
    elif isinstance(error, ValidationFailure):
        name, message = style.validation, validation_message(api_name, error)
    elif isinstance(error, InternalFailure):
        name = style.internal
    elif isinstance(error, ServiceUnavailable):
        name = style.unavailable
    elif name == "AccessDeniedException" and protocol == REST_JSON:
        status = status or 403
    elif name == "UnknownOperationException" and protocol in (REST_JSON, CBOR):
        status = status or 404
    message = message.encode("utf-8", "replace").decode()
    known = api.error(name) if api else None
    if known is not None:
        return WireError(known.name, known.code, status or known.status, message, known.message, error.fields)
    code = name
    if name in (common := common_codes(protocol)):
        code, common_status = common[name]
        status = status or common_status
    return WireError(name, code, status or 400, message, "message", error.fields)


def error_response(
    error: AwsError, request_id: str, protocol: str, api_name: str = "", api: Api | None = None
) -> AwsHttpResponse:
    """The answer that tells an error in a protocol."""
    wire = resolve(error, api_name, api, protocol)
    if protocol == EC2:
        return _ec2(wire, request_id)
    if protocol == QUERY:
        return _query(wire, request_id, api.xml_namespace if api else "")
    body: dict[str, Any] = {wire.message_name: wire.message, **wire.fields}
    headers = {"x-amzn-RequestId": request_id}
    if api is not None and api.query_compatible:
        headers["x-amzn-query-error"] = f"{wire.code};{wire.fault}"
    if protocol == CBOR:
        headers |= {"smithy-protocol": "rpc-v2-cbor", "Content-Type": "application/cbor"}
        return AwsHttpResponse(wire.status, headers, cbor2.dumps({"__type": wire.name, **body}))
    headers["x-amzn-errortype"] = wire.name
    headers["Content-Type"] = "application/json" if protocol == REST_JSON else _json_type(api)
    if protocol != REST_JSON:
        body = {"__type": wire.name, **body}
    return AwsHttpResponse(wire.status, headers, msgspec.json.encode(body))


def error_code(error: AwsError, api_name: str, api: Api | None, protocol: str) -> str:
    """The code an error has on the wire, for logs and metrics."""
    wire = resolve(error, api_name, api, protocol)
    return wire.code if protocol in FORMS else wire.name


def _json_type(api: Api | None) -> str:
    return f"application/x-amz-json-{api.json_version if api else '1.1'}"


def _query(wire: WireError, request_id: str, namespace: str) -> AwsHttpResponse:
    fields = "".join(f"<{key}>{xml_text(str(value))}</{key}>" for key, value in wire.fields.items())
    attribute = f' xmlns="{namespace}"' if namespace else ""
    body = (
        f"<ErrorResponse{attribute}><Error><Type>{wire.fault}</Type><Code>{wire.code}</Code>"
        f"<Message>{xml_text(wire.message)}</Message>{fields}</Error><RequestId>{request_id}</RequestId>"
        "</ErrorResponse>"
    )
    headers = {"x-amzn-RequestId": request_id, "Content-Type": "text/xml"}
    return AwsHttpResponse(wire.status, headers, body.encode())


def _ec2(wire: WireError, request_id: str) -> AwsHttpResponse:
    body = (
        f"<Response><Errors><Error><Code>{wire.code}</Code><Message>{xml_text(wire.message)}</Message></Error></Errors>"
        f"<RequestID>{request_id}</RequestID></Response>"
    )
    headers = {"x-amzn-RequestId": request_id, "Content-Type": "text/xml;charset=UTF-8"}
    return AwsHttpResponse(wire.status, headers, body.encode())
