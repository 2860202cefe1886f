"""`valueFrom` of a container's secrets.

https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Secret.html: the ARN of a secret with, after it,
`:json-key:version-stage:version-id` (each may be empty), the ARN of a parameter, or a parameter's name.
"""

from __future__ import annotations

import json

import msgspec


class SecretReference(msgspec.Struct, frozen=True):
    """A secret (ARN, with or without its suffix), one key of its JSON or all of it, and which version."""

    secret: str
    json_key: str = ""
    stage: str = ""
    version_id: str = ""


class ParameterReference(msgspec.Struct, frozen=True):
    """A parameter, by ARN or name, perhaps with `:version`."""

    parameter: str


class WrongReference(Exception):
    """It is none of these forms."""


def read(text: str) -> SecretReference | ParameterReference:
    """What a `valueFrom` means. Raises WrongReference."""
    if not text.startswith("arn:"):
        if not text:
            raise WrongReference("valueFrom must not be empty")
        return ParameterReference(text)
    parts = text.split(":")
    service = parts[2] if len(parts) > 2 else ""
    if service == "ssm" and len(parts) >= 6:
        return ParameterReference(text)
    if service == "secretsmanager" and 7 <= len(parts) <= 10 and parts[5] == "secret":
        return SecretReference(":".join(parts[:7]), *parts[7:])
    raise WrongReference(f"unexpected ARN format with parameters when trying to retrieve ASM secret: {text}")


def json_member(value: str, key: str, arn: str) -> str:
    """One member of a secret that is a JSON object. Raises WrongReference."""
    try:
        given = json.loads(value)
    except ValueError:
        raise WrongReference(f"secret {arn} is no JSON, so it has no key {key}") from None
    if not isinstance(given, dict) or key not in given:
        raise WrongReference(f"retrieved secret from Secrets Manager did not contain json key {key}")
    found = given[key]
    return found if isinstance(found, str) else json.dumps(found)
