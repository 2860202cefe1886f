"""Conditions: operators, sets, keys that are not there.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from datetime import datetime, timezone
from ipaddress import ip_address, ip_network

import msgspec

from services.shared.policies.patterns import Context, Undefined, arn_like, expand, like, plain

Test = Callable[[str, str, Context, bool], bool]
"""(value in the policy, value of the request, context, whether variables are in force) -> whether they fit."""


class Condition(msgspec.Struct, frozen=True):
    """One line of a Condition block: an operator with its prefix and suffix taken off, a key, its values."""

    operator: str
    key: str
    values: tuple[str, ...]
    if_exists: bool = False
    quantifier: str = ""


def _same(wanted: str, given: str, context: Context, variables: bool) -> bool:
    return plain(wanted, context, variables=variables) == given


def _same_ignoring_case(wanted: str, given: str, context: Context, variables: bool) -> bool:
    return plain(wanted, context, variables=variables).casefold() == given.casefold()


def _like(wanted: str, given: str, context: Context, variables: bool) -> bool:
    return like(expand(wanted, context, variables=variables), given)


def _arn(wanted: str, given: str, context: Context, variables: bool) -> bool:
    return arn_like(wanted, given, context, variables=variables)


def _bool(wanted: str, given: str, context: Context, variables: bool) -> bool:
    return plain(wanted, context, variables=variables).lower() == given.lower()


def _inside(wanted: str, given: str, context: Context, variables: bool) -> bool:
    try:
        return ip_address(given) in ip_network(wanted, strict=False)
    except ValueError:
        return False


def _number(compare: Callable[[float, float], bool]) -> Test:
    def test(wanted: str, given: str, context: Context, variables: bool) -> bool:
        try:
            return compare(float(given), float(plain(wanted, context, variables=variables)))
        except ValueError:
            return False

    return test


def seconds(text: str) -> float:
    """A date of a policy (ISO 8601, or seconds since the epoch). Raises ValueError."""
    try:
        return float(text)
    except ValueError:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()  # noqa: UP017


def _date(compare: Callable[[float, float], bool]) -> Test:
    def test(wanted: str, given: str, context: Context, variables: bool) -> bool:
        try:
            return compare(seconds(given), seconds(plain(wanted, context, variables=variables)))
        except ValueError:
            return False

    return test


_COMPARED = {
    "Equals": operator.eq,
    "LessThan": operator.lt,
    "LessThanEquals": operator.le,
    "GreaterThan": operator.gt,
    "GreaterThanEquals": operator.ge,
}

TESTS: dict[str, Test] = {
    "StringEquals": _same,
    "StringEqualsIgnoreCase": _same_ignoring_case,
    "StringLike": _like,
    "BinaryEquals": _same,
    "Bool": _bool,
    "IpAddress": _inside,
    "ArnEquals": _arn,
    "ArnLike": _arn,
    **{f"Numeric{name}": _number(compare) for name, compare in _COMPARED.items()},
    **{f"Date{name}": _date(compare) for name, compare in _COMPARED.items()},
}

NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "NotIpAddress": "IpAddress",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
    "NumericNotEquals": "NumericEquals",
    "DateNotEquals": "DateEquals",
}
"""A negated operator and what it negates. It holds when the key is not there at all."""

OPERATORS = {name.lower(): name for name in (*TESTS, *NEGATED, "Null")}
"""Operators are named without regard to case."""

QUANTIFIERS = {"forallvalues": "ForAllValues", "foranyvalue": "ForAnyValue"}


def holds(condition: Condition, context: Context, *, variables: bool) -> bool:
    """Whether a condition holds for a request."""
    given = context.get(condition.key.lower())
    if condition.operator == "Null":
        return any((value.lower() == "true") == (given is None) for value in condition.values)
    negated = condition.operator in NEGATED
    if not given:
        if condition.quantifier:
            return condition.quantifier == "ForAllValues" or (condition.if_exists and given is None)
        return negated or condition.if_exists
    test = TESTS[NEGATED.get(condition.operator, condition.operator)]

    def fits(value: str) -> bool:
        return any(_try(test, wanted, value, context, variables) for wanted in condition.values) != negated

    if condition.quantifier == "ForAllValues" or (negated and not condition.quantifier):
        return all(map(fits, given))
    return any(map(fits, given))


def _try(test: Test, wanted: str, given: str, context: Context, variables: bool) -> bool:
    try:
        return test(wanted, given, context, variables)
    except Undefined:
        return False
