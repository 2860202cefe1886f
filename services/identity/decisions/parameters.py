"""Parameter Store's rules: names, versions, what a selector means.

https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_PutParameter.html
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from contracts.records.identity import Parameter, ParameterVersion

NAME = re.compile(r"[a-zA-Z0-9_.\-/]{1,1011}\Z")
VERSIONS_KEPT = 100
BYTES_KEPT = 600_000
"""Of all versions together, as they are stored: a record is one message."""

LIMITS = {"Standard": 4096, "Advanced": 8192, "Intelligent-Tiering": 8192}
"""Bytes of a value, by tier."""

DEPTH = 15


def parameter_name(reference: str) -> list[str]:
    """The names that a reference may mean. An ARN does not tell whether a name of one level has a leading slash."""
    if not reference.startswith("arn:"):
        return [reference]
    name = reference.partition(":parameter/")[2]
    return [f"/{name}", name]


def parameter_arn(account: str, region: str, name: str) -> str:
    """Its ARN."""
    return f"arn:aws:ssm:{region}:{account}:parameter/{name.removeprefix('/')}"


def select(reference: str) -> tuple[str, str]:
    """(name or ARN, selector): `name:3` is version 3."""
    if reference.startswith("arn:"):
        head, _, tail = reference.partition(":parameter/")
        name, _, selector = tail.partition(":")
        return f"{head}:parameter/{name}", selector
    name, _, selector = reference.partition(":")
    return name, selector


def pick(parameter: Parameter, selector: str) -> ParameterVersion | None:
    """The version that a selector names, the latest without one; None when there is none."""
    if not selector:
        return parameter.versions[-1]
    return next((v for v in parameter.versions if str(v.version) == selector), None)


def kept(versions: Sequence[ParameterVersion]) -> list[ParameterVersion]:
    """The latest of them, within the limits."""
    found: list[ParameterVersion] = []
    size = 0
    for version in reversed(versions[-VERSIONS_KEPT:]):
        size += len(version.sealed) + 300
        if found and size > BYTES_KEPT:
            break
        found.append(version)
    return found[::-1]


def name_problem(name: str) -> str:
    """Why this can't be a parameter's name; empty when it can."""
    if not NAME.match(name) or name.endswith("/") or "//" in name:
        return "Only a mix of letters, numbers and the following 4 symbols .-_/ is allowed in a parameter name."
    if "/" in name and not name.startswith("/"):
        return 'Parameter name must be a fully qualified name, so it must begin with "/".'
    if name.count("/") > DEPTH:
        return f"A parameter name may have at most {DEPTH} levels."
    first = name.lstrip("/").lower()
    if first.startswith(("aws", "ssm")):
        return 'Parameter name can\'t be prefixed with "aws" or "ssm" (case-insensitive).'
    return ""
