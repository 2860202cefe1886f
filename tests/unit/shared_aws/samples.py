"""Sample values for any generated type, and the same values as botocore has them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from services.shared.aws.plans import Plan, plan_of

NOON = 1_700_000_000.0
UUID = "2f70dcc6-9c1c-4ab4-b5d0-5c4d1b1ab0b1"
#: Tried in this order for a text; the first that fits is the sample.
TEXTS = (
    "a <&> ü", "abc", "arn:aws:iam::123456789012:role/abc", UUID, "123456789012", "1.2.3.4", "m" * 60, "x" * 130,
    "https://example.org/a", "i-0123456789abcdef0", "sha256:" + "a" * 64, "2026-11-23", "{}", "mi-0123456789abcdef0",
)  # fmt: skip


class NoSample(Exception):
    """No text of ours fits a pattern."""


def sample(cls: type[msgspec.Struct], depth: int = 4) -> msgspec.Struct:
    """A value with every member for which there is a sample, down to a depth. Raises NoSample."""
    plan = plan_of(cls)
    return msgspec.convert(_value(plan, depth), cls)


def _value(plan: Plan, depth: int) -> Any:
    match plan.kind:
        case "struct":
            return _members(plan, depth)
        case "list":
            return [_value(plan.item, depth - 1)] * int(plan.low or 1)
        case "map":
            if (plan.low or 0) > 1:
                raise NoSample(f"a map of {plan.low}")
            return {_value(plan.key, depth - 1): _value(plan.item, depth - 1)}
        case "str":
            return plan.choices[-1] if plan.choices else _text(plan)
        case "int" | "float":
            number = plan.low if plan.low is not None else min(7, plan.high or 7)
            return float(number) if plan.kind == "float" else int(number)
        case "blob":
            return b"\x00\xff" * max(1, int(plan.low or 0))
        case kind:
            return {"bool": True, "timestamp": NOON, "any": None}[kind]


def _members(plan: Plan, depth: int) -> dict[str, Any]:
    found = {}
    for field in plan.fields:
        if not field.required and (depth <= 0 or field.plan.kind == "any"):
            continue
        try:
            found[field.wire] = _value(field.plan, depth - 1)
        except NoSample:
            if field.required:
                raise
        if found and plan.union:
            break
    if plan.fields and not found:
        raise NoSample("nothing is left at this depth, and a form cannot say an empty structure")
    return found


def _text(plan: Plan) -> str:
    for text in TEXTS:
        long_enough = (plan.low or 0) <= len(text) <= (plan.high or 1_000)
        if long_enough and (plan.regex is None or plan.regex.search(text)):
            return text
    raise NoSample(plan.pattern)


def as_botocore(plan: Plan, value: Any, shape: Any) -> Any:
    """The value as botocore takes and gives it: its names of members, times as datetimes. `shape` is botocore's."""
    match plan.kind:
        case "struct":
            members = ((field, getattr(value, field.attribute)) for field in plan.fields)
            given = {_member(shape, field.wire): (field.plan, item) for field, item in members if item is not None}
            return {name: as_botocore(*pair, shape.members[name]) for name, pair in given.items()}
        case "list":
            return [as_botocore(plan.item, item, shape.member) for item in value]
        case "map":
            return {key: as_botocore(plan.item, item, shape.value) for key, item in value.items()}
        case "timestamp":
            return datetime.fromtimestamp(value, UTC)
        case _:
            return value


def _member(shape: Any, wire: str) -> str:
    """What botocore calls the member with this name on the wire: EC2's are other ones."""
    if wire in shape.members:
        return wire
    return next(name for name, member in shape.members.items() if member.serialization.get("name") == wire)
