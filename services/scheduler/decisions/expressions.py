"""Placement constraints and strategies as requests have them, read into what placement works with.

Of the cluster query language, comparisons of one attribute joined by `and` are understood; anything else is refused
with a message, never ignored.
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/cluster-query-language.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from services.shared.errors import AwsError

_SUBJECT = r"attribute:(?P<name>[\w.:/\\-]+)"
_LIST = re.compile(_SUBJECT + r"\s+(?P<op>in|not_in)\s+\[(?P<values>[^\]]*)\]\Z")
_COMPARE = re.compile(_SUBJECT + r"\s*(?P<op>==|!=|=~|!~|equals|not_equals|matches|not_matches)\s*(?P<value>\S+)\Z")
_EXISTS = re.compile(
    r"(?P<no>!\s*)?(?:" + _SUBJECT + r"\s+exists|exists\s+" + _SUBJECT.replace("name", "other") + r")\Z"
)
_ALIASES = {"equals": "==", "not_equals": "!=", "matches": "=~", "not_matches": "!~"}


class Expression(msgspec.Struct, frozen=True):
    """One comparison. `operator` is ==, !=, =~, !~, in, not_in, exists or !exists."""

    attribute: str
    operator: str
    values: tuple[str, ...] = ()

    def holds(self, attributes: Mapping[str, str]) -> bool:
        """Whether a node with these attributes satisfies it."""
        value = attributes.get(self.attribute)
        match self.operator:
            case "exists":
                return value is not None
            case "!exists":
                return value is None
            case "==" | "in":
                return value in self.values
            case "!=" | "not_in":
                return value not in self.values
        found = value is not None and re.fullmatch(self.values[0], value) is not None
        return found == (self.operator == "=~")


class Placing(msgspec.Struct, frozen=True):
    """The constraints and the strategy of a request."""

    distinct: bool = False
    expressions: tuple[Expression, ...] = ()
    strategy: tuple[tuple[str, str], ...] = ()


def read(constraints: Iterable[Mapping[str, Any]], strategy: Iterable[Mapping[str, Any]]) -> Placing:
    """Constraints and strategy in wire form, understood. Raises InvalidParameterException for what is not."""
    expressions: list[Expression] = []
    distinct = False
    for constraint in constraints:
        if constraint.get("type") == "distinctInstance":
            distinct = True
        else:
            expressions += parse(constraint.get("expression") or "")
    return Placing(distinct, tuple(expressions), tuple(_strategy(step) for step in strategy))


def parse(text: str) -> list[Expression]:
    """The comparisons of an expression. Raises InvalidParameterException."""
    return [_comparison(part.strip(), text) for part in re.split(r"\s+(?:and|&&)\s+", text)]


def _comparison(text: str, whole: str) -> Expression:
    if found := _LIST.match(text):
        values = tuple(value.strip() for value in found["values"].split(","))
        return Expression(found["name"], found["op"], values)
    if found := _COMPARE.match(text):
        operator = _ALIASES.get(found["op"], found["op"])
        if operator in ("=~", "!~"):
            try:
                re.compile(found["value"])
            except re.error:
                raise _invalid(whole) from None
        return Expression(found["name"], operator, (found["value"],))
    if found := _EXISTS.match(text):
        return Expression(found["name"] or found["other"], "!exists" if found["no"] else "exists")
    raise _invalid(whole)


def _invalid(whole: str) -> AwsError:
    return AwsError(
        "InvalidParameterException",
        f"The placement constraint expression '{whole}' is invalid or not supported by Roadstead: comparisons of "
        "'attribute:<name>' with ==, !=, =~, !~, in, not_in and exists, joined by 'and', are.",
    )


def _strategy(step: Mapping[str, Any]) -> tuple[str, str]:
    kind, field = step.get("type") or "", step.get("field") or ""
    if kind == "binpack" and field.lower() not in ("cpu", "memory"):
        raise AwsError(
            "InvalidParameterException", f"The binpack strategy takes the field cpu or memory, not '{field}'."
        )
    if kind == "spread" and field not in ("instanceId", "host") and not field.startswith("attribute:"):
        raise AwsError(
            "InvalidParameterException",
            f"The spread strategy takes the field instanceId, host or attribute:<name>, not '{field}'.",
        )
    return kind, field.lower() if kind == "binpack" else field.removeprefix("attribute:")
