"""One module per protocol: each turns a request into an input Struct and an output Struct into a response."""

from __future__ import annotations

from typing import Protocol

import msgspec

from contracts.aws.model import Api, Operation
from services.shared.aws.http import AwsHttpRequest, AwsHttpResponse
from services.shared.aws.protocols import cbor, ec2, json, query, rest_json
from services.shared.aws.routing import CBOR, EC2, JSON, QUERY, REST_JSON, Route


class WireProtocol(Protocol):
    """What each module of this package offers."""

    def decode(self, request: AwsHttpRequest, operation: Operation, route: Route) -> msgspec.Struct:
        """The operation's input. Raises SerializationFailure or ValidationFailure."""
        ...

    def encode(self, output: msgspec.Struct | None, operation: Operation, api: Api, request_id: str) -> AwsHttpResponse:
        """The answer that carries an output."""
        ...


PROTOCOLS: dict[str, WireProtocol] = {JSON: json, QUERY: query, REST_JSON: rest_json, CBOR: cbor, EC2: ec2}
