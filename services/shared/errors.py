"""The errors a service raises. services.shared.aws gives them their form on the wire, in one place."""

from __future__ import annotations

from typing import Any


class AwsError(Exception):
    """An answer that is an error.

    `code` is the name of an error shape of the API (`ClusterNotFoundException`), its query code, or one of
    AWS' common errors. `status` is the HTTP status; None means what the API's model says, or else 400.
    `fields` are further members of the error shape, by their wire names.
    """

    def __init__(self, code: str, message: str, status: int | None = None, **fields: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.fields = fields


class AccessDenied(AwsError):
    """The caller is known and may not do this: `AccessDeniedException`, `AccessDenied` in query protocols."""

    def __init__(self, message: str = "You are not authorized to perform this operation.") -> None:
        super().__init__("AccessDeniedException", message)


class ServiceUnavailable(AwsError):
    """Something the service needs is away; the same request may succeed later (503)."""

    def __init__(self, message: str = "The service is not available; try again", **fields: Any) -> None:
        super().__init__("ServiceUnavailable", message, 503, **fields)


class StateUnavailable(ServiceUnavailable):
    """The state store cannot be reached, so nothing was read or written (503)."""

    def __init__(self, message: str = "The platform's state store is not reachable; try again") -> None:
        super().__init__(message)


class InternalFailure(AwsError):
    """A fault of the service's own (500)."""

    def __init__(self, message: str = "The request processing has failed because of an internal error") -> None:
        super().__init__("InternalFailure", message, 500)


class NotImplementedYet(AwsError):
    """The operation is in the AWS API and not in Roadstead (501)."""

    def __init__(self, api: str, operation: str, reason: str = "it does not exist in Roadstead yet") -> None:
        super().__init__("NotImplemented", f"{api} {operation} is not implemented: {reason}.", 501)


class UnknownOperation(AwsError):
    """The API has no such operation: `UnknownOperationException`, `InvalidAction` in query protocols."""

    def __init__(self, message: str = "The requested operation is not known to this service.") -> None:
        super().__init__("UnknownOperationException", message)


class SerializationFailure(AwsError):
    """The body cannot be read as what the protocol says it is, or a member has the wrong type."""

    def __init__(self, message: str) -> None:
        super().__init__("SerializationException", message)


class ValidationFailure(AwsError):
    """The input breaks a constraint. The code and wording on the wire are those of the API.

    `problems` are (member path, value, constraint): the path in AWS' form, the value as a client would
    write it or None for a missing one, the constraint as a phrase (`Member must not be null`). A service that
    has its own words for a problem raises AwsError instead.
    """

    def __init__(self, problems: list[tuple[str, str | None, str]]) -> None:
        super().__init__("ValidationException", "; ".join(f"{path}: {rule}" for path, _, rule in problems))
        self.problems = problems


class AuthenticationFailure(AwsError):
    """Nobody can be told to be behind this request.

    `kind` is one of `missing`, `incomplete`, `unknown-key`, `bad-token`, `expired-token`, `mismatch`, `expired`,
    `expired-request` (a presigned one), `wrong-scope`; the code and status of each depend on the protocol.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__("UnrecognizedClientException", message)
        self.kind = kind
