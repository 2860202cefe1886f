"""Placement constraints and strategies as requests have them, read into what placement works with.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-placement.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from services.scheduler.decisions.query import Expression, parse
from services.shared.errors import AwsError


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
            expressions.append(parse(constraint.get("expression") or ""))
    return Placing(distinct, tuple(expressions), tuple(_strategy(step) for step in strategy))


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
