"""EC2's query protocol: the query protocol's form with flat lists, and XML without its wrappers.

A member's name in the form begins with a capital where its name in XML does not.
https://smithy.io/2.0/aws/protocols/aws-ec2-query-protocol.html
"""

from __future__ import annotations

import msgspec

from contracts.aws.model import Api, Operation
from services.shared.aws.http import AwsHttpRequest, AwsHttpResponse
from services.shared.aws.plans import plan_of
from services.shared.aws.protocols.query import read, tree, write
from services.shared.aws.routing import Route
from services.shared.aws.validation import explain
from services.shared.errors import AwsError


def decode(request: AwsHttpRequest, operation: Operation, route: Route) -> msgspec.Struct:
    """The form as the operation's input. What is missing has a code of its own, MissingParameter."""
    plan = plan_of(operation.input)
    value = read(plan, tree(route.params), "", _spelled)
    for field in plan.fields:
        if field.required and field.wire not in value:
            raise AwsError("MissingParameter", f"The request must contain the parameter {_spelled(field.wire)}")
    try:
        return msgspec.convert(value, operation.input)
    except msgspec.ValidationError as refusal:
        raise explain(plan, value, str(refusal)) from None


def encode(output: msgspec.Struct | None, operation: Operation, api: Api, request_id: str) -> AwsHttpResponse:
    """The output's members beside the request id. An operation without an output says that it returned true."""
    parts = [f'<{operation.name}Response xmlns="{api.xml_namespace}/"><requestId>{request_id}</requestId>']
    if output is not None and operation.output is not None:
        write(plan_of(operation.output), output, parts, "item")
    else:
        parts.append("<return>true</return>")
    parts.append(f"</{operation.name}Response>")
    headers = {"x-amzn-RequestId": request_id, "Content-Type": "text/xml;charset=UTF-8"}
    return AwsHttpResponse(200, headers, "".join(parts).encode())


def _spelled(wire: str) -> str:
    return wire[:1].upper() + wire[1:]
