"""A policy document: read, and refused when it is none. Messages are IAM's for the same mistake.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import msgspec

from services.shared.policies.conditions import OPERATORS, QUANTIFIERS, Condition

IDENTITY, TRUST, RESOURCE = "identity", "trust", "resource"
WITH_VARIABLES = "2012-10-17"
VERSIONS = (WITH_VARIABLES, "2008-10-17")
PRINCIPALS = ("AWS", "Service", "Federated", "CanonicalUser")

_SYNTAX = "Syntax errors in policy."
_ACTION = re.compile(r"(\*|[a-zA-Z0-9-]+:[a-zA-Z0-9*?]+)\Z")
_SID = re.compile(r"[a-zA-Z0-9]*\Z")
_MEMBERS = frozenset(
    ("Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Principal", "NotPrincipal", "Condition")
)


class MalformedPolicy(Exception):
    """The document is no policy, or none of this kind. The message says what is wrong."""


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """One statement. With `not_…` it is about all but what it names. `principals`: (type, value) pairs."""

    allow: bool
    actions: tuple[str, ...]
    not_actions: bool = False
    resources: tuple[str, ...] = ()
    not_resources: bool = False
    principals: tuple[tuple[str, str], ...] = ()
    not_principals: bool = False
    conditions: tuple[Condition, ...] = ()


class Document(msgspec.Struct, frozen=True):
    """A policy. `variables` are in force from version 2012-10-17 on."""

    statements: tuple[Statement, ...]
    variables: bool = True


@lru_cache(maxsize=2048)
def parse(text: str, kind: str = IDENTITY) -> Document:
    """The policy in this text. Raises MalformedPolicy."""
    try:
        given = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        raise MalformedPolicy(_SYNTAX) from None
    if not isinstance(given, dict) or not set(given) <= {"Version", "Id", "Statement"}:
        raise MalformedPolicy(_SYNTAX)
    version = given.get("Version", "2008-10-17")
    if version not in VERSIONS:
        raise MalformedPolicy(f"The policy must contain a valid version string, not {version!r}")
    statements = given.get("Statement")
    statements = [statements] if isinstance(statements, dict) else statements
    if not isinstance(statements, list) or not statements:
        raise MalformedPolicy(_SYNTAX)
    sids = [s["Sid"] for s in statements if isinstance(s, dict) and s.get("Sid")]
    if len(set(map(str, sids))) != len(sids):
        raise MalformedPolicy("Statement IDs (SID) in a single policy must be unique.")
    return Document(tuple(_statement(s, kind) for s in statements), version == WITH_VARIABLES)


def _statement(given: Any, kind: str) -> Statement:
    if not isinstance(given, dict) or not set(given) <= _MEMBERS or given.get("Effect") not in ("Allow", "Deny"):
        raise MalformedPolicy(_SYNTAX)
    sid = given.get("Sid", "")
    # Resource-based policies may have anything there: KMS' own default key policy does.
    if not isinstance(sid, str) or not (kind == RESOURCE or _SID.match(sid)):
        raise MalformedPolicy("Statement IDs (SID) should be alpha-numeric.")
    actions, not_actions = _either(given, "Action", "NotAction", required=True)
    resources, not_resources = _either(given, "Resource", "NotResource", required=kind in (IDENTITY, RESOURCE))
    for action in actions:
        if not _ACTION.match(action):
            raise MalformedPolicy("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.")
    for resource in resources:
        if resource != "*" and not _is_arn(resource):
            raise MalformedPolicy(f'Resource {resource} must be in ARN format or "*".')
    _check_kind(given, kind)
    return Statement(
        allow=given["Effect"] == "Allow",
        actions=actions,
        not_actions=not_actions,
        resources=resources,
        not_resources=not_resources,
        principals=_principals(given.get("Principal", given.get("NotPrincipal"))),
        not_principals="NotPrincipal" in given,
        conditions=_conditions(given.get("Condition", {})),
    )


def _check_kind(given: dict[str, Any], kind: str) -> None:
    named = "Principal" in given or "NotPrincipal" in given
    if kind == IDENTITY and named:
        raise MalformedPolicy("Policy document should not specify a principal.")
    if kind == TRUST:
        for member in ("Resource", "NotResource"):
            if member in given:
                raise MalformedPolicy(f"Has prohibited field {member}")
    if kind in (TRUST, RESOURCE):
        if not named:
            raise MalformedPolicy("Missing required field Principal")
        if "Principal" in given and "NotPrincipal" in given:
            raise MalformedPolicy(_SYNTAX)


def _either(given: dict[str, Any], member: str, other: str, *, required: bool) -> tuple[tuple[str, ...], bool]:
    if member in given and other in given:
        raise MalformedPolicy(_SYNTAX)
    if member not in given and other not in given:
        if required:
            raise MalformedPolicy(f"Policy statement must contain {member.lower()}s.")
        return (), False
    return _texts(given.get(member, given.get(other))), other in given


def _texts(given: Any) -> tuple[str, ...]:
    found = given if isinstance(given, list) else [given]
    if not found or not all(isinstance(one, str) for one in found):
        raise MalformedPolicy(_SYNTAX)
    return tuple(found)


def _is_arn(text: str) -> bool:
    parts = text.split(":", 5)
    return parts[0] == "arn" and (len(parts) == 6 or (len(parts) >= 3 and text.endswith("*")))


def _principals(given: Any) -> tuple[tuple[str, str], ...]:
    if given is None:
        return ()
    if given == "*":
        return (("AWS", "*"),)
    if not isinstance(given, dict) or not given:
        raise MalformedPolicy(_SYNTAX)
    found = []
    for kind, values in given.items():
        if kind not in PRINCIPALS:
            raise MalformedPolicy(f"Invalid principal in policy: {kind}")
        found += [(kind, value) for value in _texts(values)]
    for kind, value in found:
        if kind == "AWS" and not re.match(r"(\*|\d{12}|arn:aws[a-z-]*:(iam|sts)::\d{12}:.+)\Z", value):
            raise MalformedPolicy(f'Invalid principal in policy: "AWS":"{value}"')
    return tuple(found)


def _conditions(given: Any) -> tuple[Condition, ...]:
    if not isinstance(given, dict):
        raise MalformedPolicy(_SYNTAX)
    found = []
    for name, keys in given.items():
        quantifier, _, rest = name.rpartition(":")
        base = rest[: -len("IfExists")] if rest.lower().endswith("ifexists") else rest
        known = OPERATORS.get(base.lower())
        unknown_quantifier = quantifier and quantifier.lower() not in QUANTIFIERS
        if known is None or unknown_quantifier or (known == "Null" and base != rest):
            raise MalformedPolicy(f"Invalid Condition type : {name}.")
        if not isinstance(keys, dict) or not keys:
            raise MalformedPolicy(_SYNTAX)
        for key, values in keys.items():
            if ":" not in key:
                raise MalformedPolicy("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.")
            found.append(Condition(known, key, _scalars(values), base != rest, QUANTIFIERS.get(quantifier.lower(), "")))
    return tuple(found)


def _scalars(values: Any) -> tuple[str, ...]:
    found = values if isinstance(values, list) else [values]
    if not all(isinstance(one, str | bool | int | float) for one in found):
        raise MalformedPolicy(_SYNTAX)
    return tuple(str(one).lower() if isinstance(one, bool) else str(one) for one in found)
