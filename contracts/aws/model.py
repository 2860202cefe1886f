"""What every generated API module is made of: the shape base, wire metadata, and the description of an API.

Times are seconds since the epoch (float) in every protocol; how a time looks on the wire is the protocol's
business.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

#: A time. On the wire: a number (JSON), tag 1 (CBOR), ISO 8601 (query).
Timestamp = Annotated[float, Meta(extra={"timestamp": True})]

#: A document type: any JSON value.
Document = Any


class Shape(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A structure of an AWS API: attributes in snake_case, wire names by `rename` or `field(name=…)`.

    A member that is not required defaults to None, and None is left out on the wire.
    """


class TaggedUnion(Shape):
    """A structure of which exactly one member is set; anything else is a ValueError, and refused when decoded."""

    def __post_init__(self) -> None:
        members = sum(getattr(self, name) is not None for name in self.__struct_fields__)
        if members != 1:
            raise ValueError(f"{type(self).__name__} must have exactly one member, not {members}")


class NoInput(Shape):
    """The input of an operation whose model has none."""


class Error(msgspec.Struct, frozen=True):
    """An error of an API: its shape's name, its code in query protocols, its HTTP status.

    `message` is the wire name of the member that holds the message.
    """

    name: str
    code: str
    status: int = 400
    message: str = "message"

    @property
    def fault(self) -> str:
        """Whose fault it is: `Sender` (4xx) or `Receiver` (5xx)."""
        return "Receiver" if self.status >= 500 else "Sender"


class Http(msgspec.Struct, frozen=True):
    """Where a REST operation lives: method, URI with `{labels}`, and which members are not in the body.

    `path` maps a label to a member's wire name; `query` maps a query parameter to the member's wire name and
    its kind (`str`, `int`, `bool`, or `list` of str).
    """

    method: str
    uri: str
    path: dict[str, str] = {}
    query: dict[str, tuple[str, str]] = {}


class Operation(msgspec.Struct, frozen=True):
    """One operation: `method` is the name of the service method, `output` is None where the model has none.

    `tokens` are the input's idempotency tokens (attribute names). `unsupported` says why the operation cannot
    be served at all (an event stream), or is empty. `unsigned` operations are open to callers without a key.
    """

    name: str
    method: str
    input: type[msgspec.Struct]
    output: type[msgspec.Struct] | None
    errors: tuple[str, ...] = ()
    http: Http | None = None
    tokens: tuple[str, ...] = ()
    unsupported: str = ""
    unsigned: bool = False


class Api(msgspec.Struct, frozen=True, kw_only=True):
    """An AWS API as its model describes it. `name` is the module's name in contracts.aws."""

    name: str
    service_id: str
    api_version: str
    signing_name: str
    endpoint_prefix: str
    protocols: tuple[str, ...]
    target_prefix: str = ""
    json_version: str = "1.0"
    xml_namespace: str = ""
    query_compatible: bool = False
    errors: dict[str, Error]
    operations: dict[str, Operation]

    def error(self, name: str) -> Error | None:
        """The error with this shape name or query code, or None if the API has no such error."""
        found = self.errors.get(name)
        if found is None:
            return next((error for error in self.errors.values() if error.code == name), None)
        return found


class ApiIndex(msgspec.Struct, frozen=True, kw_only=True):
    """What a router must know of an API without its shapes. `routes` are (method, URI, operation)."""

    name: str
    api_version: str
    signing_name: str
    endpoint_prefix: str
    service_id: str
    target_prefix: str
    protocols: tuple[str, ...]
    operations: frozenset[str]
    routes: tuple[tuple[str, str, str], ...] = ()
    unsigned: tuple[str, ...] = ()


def errors(*entries: Error) -> dict[str, Error]:
    """The errors by shape name."""
    return {entry.name: entry for entry in entries}


def operations(entries: Iterable[Operation]) -> dict[str, Operation]:
    """The operations by name."""
    return {entry.name: entry for entry in entries}
