"""EventBridge's event patterns: whether an event matches one, and whether it is one at all.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html
"""

from __future__ import annotations

import ipaddress
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Pattern = Mapping[str, Any]

_NUMERIC: dict[str, Callable[[float, float], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_OR = "$or"


class BadPattern(ValueError):
    """No event pattern; the message names the field and says why."""


def matches(pattern: Pattern, event: Mapping[str, Any]) -> bool:
    """Whether an event (plain JSON) matches a pattern that `check` let through. {} matches every event.

    Every field of the pattern must be matched, by any one of its alternatives; a field of the event that is an array by
    any of its elements.
    """
    for name, wanted in pattern.items():
        if name == _OR:
            if not any(matches(alternative, event) for alternative in wanted):
                return False
        elif isinstance(wanted, Mapping):
            inner = event.get(name)
            inside = inner if isinstance(inner, list) else [inner if isinstance(inner, Mapping) else {}]
            if not any(matches(wanted, each) for each in inside if isinstance(each, Mapping)):
                return False
        elif not _field_matches(wanted, event, name):
            return False
    return True


def _field_matches(alternatives: Sequence[Any], event: Mapping[str, Any], name: str) -> bool:
    found = event.get(name)
    values = found if isinstance(found, list) else [found]
    leaf = name in event and not isinstance(found, Mapping) and found != []
    for alternative in alternatives:
        if isinstance(alternative, Mapping) and "exists" in alternative:
            if alternative["exists"] == leaf:
                return True
        elif leaf and any(_value_matches(alternative, value) for value in values):
            return True
    return False


def _value_matches(wanted: Any, value: Any) -> bool:
    if not isinstance(wanted, Mapping):
        return _same(wanted, value)
    ((name, what),) = wanted.items()
    return _MATCHERS[name](what, value)


def _same(wanted: Any, value: Any) -> bool:
    """300 and 300.0 are not the same: what is written is compared."""
    return type(wanted) is type(value) and wanted == value


def _prefix(wanted: Any, value: Any) -> bool:
    return isinstance(value, str) and _folded(wanted, value, str.startswith)


def _suffix(wanted: Any, value: Any) -> bool:
    return isinstance(value, str) and _folded(wanted, value, str.endswith)


def _folded(wanted: Any, value: str, test: Callable[[str, str], bool]) -> bool:
    if isinstance(wanted, Mapping):
        return test(value.lower(), str(wanted["equals-ignore-case"]).lower())
    return test(value, wanted)


def _ignoring_case(wanted: Any, value: Any) -> bool:
    return isinstance(value, str) and any(one.lower() == value.lower() for one in _several(wanted))


def _wildcard(wanted: Any, value: Any) -> bool:
    return isinstance(value, str) and any(_expression(one).fullmatch(value) for one in _several(wanted))


def _expression(text: str) -> re.Pattern[str]:
    """`*` is any text; `\\*` and `\\\\` are themselves."""
    parts = re.findall(r"\\[*\\]|\*|[^*\\]+|\\", text)
    return re.compile(
        "".join(".*" if part == "*" else re.escape(re.sub(r"^\\(.)", r"\1", part)) for part in parts), re.S
    )


def _anything_but(wanted: Any, value: Any) -> bool:
    if isinstance(wanted, Mapping):
        ((name, what),) = wanted.items()
        return not any(_MATCHERS[name](one, value) for one in _several(what))
    return not any(_same(one, value) for one in _several(wanted))


def _numeric(wanted: Sequence[Any], value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return all(_NUMERIC[sign](value, bound) for sign, bound in zip(wanted[::2], wanted[1::2], strict=True))


def _cidr(wanted: str, value: Any) -> bool:
    try:
        return ipaddress.ip_address(value) in ipaddress.ip_network(wanted, strict=False)
    except ValueError:
        return False


def _several(wanted: Any) -> Sequence[Any]:
    return wanted if isinstance(wanted, list) else [wanted]


_MATCHERS: dict[str, Callable[[Any, Any], bool]] = {
    "prefix": _prefix,
    "suffix": _suffix,
    "equals-ignore-case": _ignoring_case,
    "wildcard": _wildcard,
    "anything-but": _anything_but,
    "numeric": _numeric,
    "cidr": _cidr,
}


def check(pattern: Any) -> Pattern:
    """The pattern, if it is one. Raises BadPattern."""
    if not isinstance(pattern, Mapping):
        raise BadPattern("Event pattern is not valid. Reason: it must be a JSON object")
    _check_object(pattern, "")
    return pattern


def _check_object(pattern: Pattern, path: str) -> None:
    for name, wanted in pattern.items():
        where = f"{path}.{name}" if path else name
        if name == _OR:
            if not isinstance(wanted, list) or len(wanted) < 2 or not all(isinstance(w, Mapping) and w for w in wanted):
                raise _bad(where, "must be an array of at least two objects")
            for alternative in wanted:
                _check_object(alternative, path)
        elif isinstance(wanted, Mapping):
            if not wanted:
                raise _bad(where, "must not be an empty object")
            _check_object(wanted, where)
        elif not isinstance(wanted, list):
            raise _bad(where, "must be an object or an array")
        elif not wanted:
            raise _bad(where, "must not be an empty array")
        else:
            for alternative in wanted:
                _check_alternative(alternative, where)


def _check_alternative(alternative: Any, where: str) -> None:
    if isinstance(alternative, list):
        raise _bad(where, "an alternative must be a value or a match expression")
    if not isinstance(alternative, Mapping):
        return
    if len(alternative) != 1:
        raise _bad(where, "a match expression has one name")
    ((name, what),) = alternative.items()
    if name == "exists":
        if not isinstance(what, bool):
            raise _bad(where, "exists must be true or false")
    elif name not in _MATCHERS:
        raise _bad(where, f"unrecognized match type {name}")
    else:
        _CHECKS[name](what, where)


def _check_text(what: Any, where: str) -> None:
    folded = isinstance(what, Mapping) and set(what) == {"equals-ignore-case"}
    if not isinstance(what["equals-ignore-case"] if folded else what, str):
        raise _bad(where, "prefix and suffix must be a string")


def _check_texts(what: Any, where: str) -> None:
    if not isinstance(what, str):
        raise _bad(where, "the match expression must be a string")


def _check_anything_but(what: Any, where: str) -> None:
    if isinstance(what, Mapping):
        if len(what) != 1 or next(iter(what)) not in ("prefix", "suffix", "equals-ignore-case", "wildcard"):
            raise _bad(where, "anything-but takes values, prefix, suffix, equals-ignore-case or wildcard")
        what = next(iter(what.values()))
        if not _several(what) or not all(isinstance(one, str) for one in _several(what)):
            raise _bad(where, "anything-but must have strings here")
    elif not _several(what) or any(isinstance(one, list | Mapping) for one in _several(what)):
        raise _bad(where, "anything-but must have a value, or an array of values")


def _check_numeric(what: Any, where: str) -> None:
    good = isinstance(what, list) and len(what) in (2, 4)
    if not good or not all(sign in _NUMERIC for sign in what[::2] if isinstance(sign, str)):
        raise _bad(where, "numeric must be one or two pairs of an operator and a number")
    for sign, bound in zip(what[::2], what[1::2], strict=True):
        if not isinstance(sign, str) or isinstance(bound, bool) or not isinstance(bound, int | float):
            raise _bad(where, "numeric must be one or two pairs of an operator and a number")


def _check_cidr(what: Any, where: str) -> None:
    try:
        ipaddress.ip_network(what, strict=False)
    except (ValueError, TypeError):
        raise _bad(where, "cidr must be an address with the length of its prefix") from None


_CHECKS: dict[str, Callable[[Any, str], None]] = {
    "prefix": _check_text,
    "suffix": _check_text,
    "equals-ignore-case": _check_texts,
    "wildcard": _check_texts,
    "anything-but": _check_anything_but,
    "numeric": _check_numeric,
    "cidr": _check_cidr,
}


def _bad(where: str, why: str) -> BadPattern:
    return BadPattern(f"Event pattern is not valid. Reason: {where}: {why}")
