"""What a generated type looks like from outside: members, constraints and wire names, for the slow paths.

msgspec reads JSON into Structs by itself. Where it cannot (forms, XML, CBOR's times) or must not (an error must be
told in AWS' words), the code walks a value beside its plan.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import msgspec
from msgspec import inspect

from contracts.aws.model import TaggedUnion

_ANCHORED = re.compile(r"\\A\(\?a?:(.*)\)\\Z", re.DOTALL)


class Field:
    """A member: its attribute, its wire name, its plan, and whether it must be there."""

    __slots__ = ("attribute", "plan", "required", "wire")

    def __init__(self, attribute: str, wire: str, plan: Plan, required: bool) -> None:
        self.attribute = attribute
        self.wire = wire
        self.plan = plan
        self.required = required


class Plan:
    """A type: `kind` is struct, list, map, str, int, float, bool, blob, timestamp or any.

    `low` and `high` bound a number, or the length of anything else. `pattern` is Java's text, `regex` Python's.
    A `sensitive` value is never shown; a `union` has exactly one member.
    """

    __slots__ = ("choices", "fields", "high", "item", "key", "kind", "low", "pattern", "regex", "sensitive", "union")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.fields: tuple[Field, ...] = ()
        self.item: Plan = self
        self.key: Plan = self
        self.low: float | None = None
        self.high: float | None = None
        self.pattern = ""
        self.regex: re.Pattern[str] | None = None
        self.choices: tuple[Any, ...] = ()
        self.sensitive = False
        self.union = False


_structs: dict[type, Plan] = {}
_SIMPLE = {inspect.BoolType: "bool", inspect.AnyType: "any"}
_NUMBERS = {inspect.IntType: "int", inspect.FloatType: "float"}
_SIZED = {
    inspect.StrType: "str",
    inspect.BytesType: "blob",
    inspect.ListType: "list",
    inspect.DictType: "map",
}


@cache
def plan_of(cls: type[msgspec.Struct]) -> Plan:
    """The plan of a Struct class."""
    return _build(inspect.type_info(cls))


def _build(info: Any, extra: dict[str, Any] | None = None) -> Plan:
    if isinstance(info, inspect.Metadata):
        return _build(info.type, {**(extra or {}), **(info.extra or {})})
    if isinstance(info, inspect.UnionType):
        return _build(next(one for one in info.types if not isinstance(one, inspect.NoneType)), extra)
    if isinstance(info, inspect.StructType):
        return _struct(info)
    kind = type(info)
    if kind in _SIMPLE:
        return Plan(_SIMPLE[kind])
    if kind is inspect.LiteralType:
        plan = Plan("str")
        plan.choices = tuple(info.values)
        return plan
    if kind in _NUMBERS:
        plan = Plan("timestamp" if extra and extra.get("timestamp") else _NUMBERS[kind])
        plan.low, plan.high = info.ge, info.le
        return plan
    return _sized(info, extra or {})


def _sized(info: Any, extra: dict[str, Any]) -> Plan:
    plan = Plan(_SIZED[type(info)])
    plan.low, plan.high = info.min_length, info.max_length
    plan.sensitive = bool(extra.get("sensitive"))
    if plan.kind == "str" and info.pattern:
        plan.regex = re.compile(info.pattern)
        unwrapped = _ANCHORED.fullmatch(info.pattern)
        plan.pattern = extra.get("pattern") or (unwrapped[1] if unwrapped else info.pattern)
    elif plan.kind == "list":
        plan.item = _build(info.item_type)
    elif plan.kind == "map":
        plan.key, plan.item = _build(info.key_type), _build(info.value_type)
    return plan


def _struct(info: inspect.StructType) -> Plan:
    known = _structs.get(info.cls)
    if known is not None:
        return known
    plan = _structs[info.cls] = Plan("struct")
    plan.union = issubclass(info.cls, TaggedUnion)
    fields = [Field(one.name, one.encode_name, _build(one.type), one.required) for one in info.fields]
    plan.fields = tuple(fields)
    return plan
