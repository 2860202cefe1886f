"""Why a value is not what an operation takes, in AWS' words. Only walked when msgspec has already said no."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from services.shared.aws.plans import Plan
from services.shared.errors import AwsError, SerializationFailure, ValidationFailure

Problem = tuple[str, str | None, str]

_TYPES: dict[str, tuple[type, ...]] = {
    "struct": (dict,),
    "map": (dict,),
    "list": (list, tuple),
    "str": (str,),
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "timestamp": (int, float),
    "blob": (str, bytes),
}
_NAMES = {"str": "a String", "int": "an Integer", "float": "a Double", "bool": "a Boolean", "timestamp": "a Date"}
_NAMES |= {"blob": "a Blob", "struct": "a Structure", "map": "a Map", "list": "a List"}


def explain(plan: Plan, value: Any, fallback: str) -> AwsError:
    """The error for a value msgspec refused: a wrong type first, else every broken constraint.

    `fallback` is what msgspec said, for a refusal this walk does not find.
    """
    problems: list[Problem] = []
    try:
        _walk(plan, value, "", problems)
    except SerializationFailure as failure:
        return failure
    return ValidationFailure(problems) if problems else SerializationFailure(fallback)


def shown(plan: Plan, value: Any) -> str:
    """A value as AWS' messages show it."""
    if plan.sensitive:
        return "*** Sensitive Data Redacted ***"
    if isinstance(value, dict):
        plans = {field.wire: field.plan for field in plan.fields}
        told = (f"{key}={shown(plans.get(key, plan.item), item)}" for key, item in value.items())
        return "{" + ", ".join(told) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(shown(plan.item, item) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _walk(plan: Plan, value: Any, path: str, problems: list[Problem]) -> None:
    if plan.kind == "any":
        return
    _check_type(plan, value, path)
    for rule in _broken(plan, value):
        problems.append((path, shown(plan, value), rule))
    if plan.kind == "struct":
        if plan.union and sum(value.get(field.wire) is not None for field in plan.fields) != 1:
            raise SerializationFailure(f"Union must have exactly one member set at '{path}'")
        for field in plan.fields:
            where = _member(path, field.wire)
            given = value.get(field.wire)
            if given is not None:
                _walk(field.plan, given, where, problems)
            elif field.required:
                problems.append((where, None, "Member must not be null"))
    elif plan.kind == "list":
        for number, item in enumerate(value, 1):
            _item(plan.item, item, f"{path}.{number}.member", problems)
    elif plan.kind == "map":
        for key, item in value.items():
            _walk(plan.key, key, f"{path}.key", problems)
            _item(plan.item, item, f"{path}.{key}.member", problems)


def _item(plan: Plan, value: Any, path: str, problems: list[Problem]) -> None:
    if value is None:
        problems.append((path, None, "Member must not be null"))
    else:
        _walk(plan, value, path, problems)


def _member(path: str, wire: str) -> str:
    name = wire[:1].lower() + wire[1:]
    return f"{path}.{name}" if path else name


def _check_type(plan: Plan, value: Any, path: str) -> None:
    right = isinstance(value, _TYPES[plan.kind]) and (plan.kind == "bool" or not isinstance(value, bool))
    if plan.kind == "int" and isinstance(value, float) and value.is_integer():
        right = True
    if right and plan.kind == "blob" and isinstance(value, str):
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise SerializationFailure(f"The value at '{path}' is not valid base64") from None
    if not right:
        raise SerializationFailure(_mismatch(plan, value) + (f" at '{path}'" if path else ""))


def _mismatch(plan: Plan, value: Any) -> str:
    if isinstance(value, list | tuple):
        return "Start of list found where not expected"
    if isinstance(value, dict):
        return "Start of structure or map found where not expected"
    if isinstance(value, bool):
        token = "TRUE_VALUE" if value else "FALSE_VALUE"
    else:
        token = {str: "STRING_VALUE", int: "NUMBER_VALUE", float: "NUMBER_VALUE"}.get(type(value), "NULL_VALUE")
    return f"{token} can not be converted to {_NAMES[plan.kind]}"


def _broken(plan: Plan, value: Any) -> list[str]:
    rules = []
    measure, noun = (value, "value") if plan.kind in ("int", "float", "timestamp") else (None, "length")
    if measure is None and (plan.low is not None or plan.high is not None):
        measure = len(base64.b64decode(value)) if plan.kind == "blob" and isinstance(value, str) else len(value)
    if plan.low is not None and measure < plan.low:
        rules.append(f"Member must have {noun} greater than or equal to {plan.low}")
    if plan.high is not None and measure > plan.high:
        rules.append(f"Member must have {noun} less than or equal to {plan.high}")
    if plan.regex is not None and not plan.regex.search(value):
        rules.append(f"Member must satisfy regular expression pattern: {plan.pattern}")
    if plan.choices and value not in plan.choices:
        rules.append(f"Member must satisfy enum value set: [{', '.join(map(str, plan.choices))}]")
    return rules
