"""How each API words the errors every API has, and what AWS calls them in each family of protocols.

Collected from the services' public API references and from answers seen in public issue trackers; the codes of
authentication are those of "Common Error Types" in each API reference.
"""

from __future__ import annotations

import msgspec

from services.shared.aws.routing import EC2, FORMS
from services.shared.errors import ValidationFailure


class Style(msgspec.Struct, frozen=True):
    """An API's names for a broken constraint, for a fault of its own, and for being unavailable.

    `shows_values` says whether its messages repeat the value that broke a constraint.
    """

    validation: str = "ValidationException"
    internal: str = "InternalFailure"
    unavailable: str = "ServiceUnavailable"
    shows_values: bool = True


STYLES = {
    "apprunner": Style("InvalidRequestException", "InternalServiceErrorException"),
    "application_autoscaling": Style("ValidationException", "InternalServiceException"),
    "cloudwatch": Style("ValidationError", "InternalServiceFault"),
    "ec2": Style("InvalidParameterValue", "InternalError", "Unavailable"),
    "ecr": Style("InvalidParameterException", "ServerException"),
    "ecs": Style("InvalidParameterException", "ServerException"),
    "eks": Style("InvalidParameterException", "ServerException", "ServiceUnavailableException"),
    "elbv2": Style("ValidationError"),
    "iam": Style("ValidationError", "ServiceFailureException"),
    "kms": Style("ValidationException", "KMSInternalException"),
    "logs": Style("InvalidParameterException", "InternalServerException", "ServiceUnavailableException", False),
    "secretsmanager": Style("ValidationException", "InternalServiceError"),
    "servicediscovery": Style("InvalidInput"),
    "ssm": Style("ValidationException", "InternalServerError"),
    "sts": Style("ValidationError"),
}
DEFAULT = Style()

#: kind: (code and status in JSON and CBOR, code and status in query protocols)
AUTHENTICATION = {
    "missing": (("MissingAuthenticationTokenException", 400), ("MissingAuthenticationToken", 403)),
    "incomplete": (("IncompleteSignatureException", 400), ("IncompleteSignature", 400)),
    "unknown-key": (("UnrecognizedClientException", 400), ("InvalidClientTokenId", 403)),
    "bad-token": (("UnrecognizedClientException", 400), ("InvalidClientTokenId", 403)),
    "expired-token": (("ExpiredTokenException", 400), ("ExpiredToken", 403)),
    "mismatch": (("InvalidSignatureException", 400), ("SignatureDoesNotMatch", 403)),
    "expired": (("InvalidSignatureException", 400), ("SignatureDoesNotMatch", 403)),
    "expired-request": (("RequestExpired", 400), ("RequestExpired", 400)),
    "wrong-scope": (("InvalidSignatureException", 400), ("SignatureDoesNotMatch", 403)),
}

#: What query protocols call the errors that are common to all APIs, with their status.
QUERY_CODES = {
    "AccessDeniedException": ("AccessDenied", 403),
    "UnknownOperationException": ("InvalidAction", 400),
    "SerializationException": ("MalformedInput", 400),
    "ThrottlingException": ("Throttling", 400),
}

#: What EC2 calls some of them: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
EC2_CODES = {**QUERY_CODES, "AccessDeniedException": ("UnauthorizedOperation", 403)}
EC2_AUTHENTICATION = {"unknown-key": ("AuthFailure", 401), "bad-token": ("AuthFailure", 401)}


def common_codes(protocol: str) -> dict[str, tuple[str, int]]:
    """What a protocol calls the errors that are common to all APIs; those that are not named keep their names."""
    return (EC2_CODES if protocol == EC2 else QUERY_CODES) if protocol in FORMS else {}


def style_of(api: str) -> Style:
    """The style of an API by its module's name."""
    return STYLES.get(api, DEFAULT)


def authentication_code(kind: str, protocol: str) -> tuple[str, int]:
    """Code and status of a failed authentication."""
    json_form, query_form = AUTHENTICATION[kind]
    if protocol in FORMS:
        return EC2_AUTHENTICATION.get(kind, query_form) if protocol == EC2 else query_form
    return (json_form[0], 403) if protocol == "rest-json" else json_form


def validation_message(api: str, failure: ValidationFailure) -> str:
    """A failure's message in the API's words."""
    if api == "ecr":
        path, _, rule = failure.problems[0]
        rule = rule.replace("Member must satisfy regular expression pattern: ", "must satisfy regular expression '")
        rule += "'" if rule.startswith("must satisfy regular") else ""
        return f"Invalid parameter at '{path}' failed to satisfy constraint: '{rule}'"
    shows = style_of(api).shows_values
    told = [
        f"Value{_quoted(value) if shows else ''} at '{path}' failed to satisfy constraint: {rule}"
        for path, value, rule in failure.problems
    ]
    plural = "s" if len(told) > 1 else ""
    return f"{len(told)} validation error{plural} detected: {'; '.join(told)}"


def _quoted(value: str | None) -> str:
    if value is None:
        return " null"
    return f" '{value if len(value) <= 256 else value[:253] + '...'}'"
