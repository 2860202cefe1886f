"""The cluster query language: what `memberOf` constraints and ListContainerInstances' filter are written in.

    attribute:ecs.instance-type =~ t3.* and not (task:group == database or attribute:zone in [a, b])

Subjects: attribute:<name>, task:group, agentConnected, agentVersion, ec2InstanceId, registeredAt, runningTasksCount.
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/cluster-query-language.html
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Container, Mapping
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from services.shared.errors import AwsError

MOST_CHARACTERS = 2000
MOST_DEPTH = 32
TASK_GROUP = "task:group"
_FACTS = frozenset(("agentConnected", "agentVersion", "ec2InstanceId", "registeredAt", "runningTasksCount"))
_ALIASES = {
    "equals": "==",
    "not_equals": "!=",
    "greater_than": ">",
    "greater_than_equal": ">=",
    "less_than": "<",
    "less_than_equal": "<=",
    "not_exists": "!exists",
    "!in": "not_in",
    "matches": "=~",
    "not_matches": "!~",
}
_ORDER = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
_SUBJECT = re.compile(r"attribute:[\w.:/\\-]+|task:group|[A-Za-z]\w*")
_WORDS = r"not_equals|equals|greater_than_equal|greater_than|less_than_equal|less_than|not_exists|exists|not_in|in"
_OPERATOR = re.compile(r"==|!=|>=|<=|=~|!~|>|<|!exists\b|!in\b|(?:" + _WORDS + r"|not_matches|matches)\b")
_UNARY = ("exists", "!exists")


class Facts(msgspec.Struct, frozen=True):
    """A node as expressions see it: its attributes, the groups of the cluster's tasks on it, and what else is known by
    the names of the language (agentVersion …)."""

    attributes: Mapping[str, str] = {}
    groups: Container[str] = ()
    known: Mapping[str, str] = {}


class Expression(msgspec.Struct, frozen=True):
    """A comparison, or some joined: operator is `and`, `or` or `not` of `parts`, or compares `subject` with `values`
    (==, !=, >, >=, <, <=, =~, !~, in, not_in, exists, !exists)."""

    operator: str
    subject: str = ""
    values: tuple[str, ...] = ()
    parts: tuple[Expression, ...] = ()

    def holds(self, node: Facts) -> bool:
        """Whether a node satisfies it."""
        return test_of(self)(node)


Test = Callable[[Facts], bool]


@lru_cache(1024)
def test_of(expression: Expression) -> Test:
    """The expression as a function: one expression is asked of thousands of nodes."""
    if expression.parts:
        tests = tuple(test_of(part) for part in expression.parts)
        match expression.operator:
            case "and":
                return lambda node: all(test(node) for test in tests)
            case "or":
                return lambda node: any(test(node) for test in tests)
        return lambda node: not tests[0](node)
    if expression.subject == TASK_GROUP:
        return _group_test(expression)
    value_of = _reader(expression.subject)
    compare = _comparison(expression)
    return lambda node: compare(value_of(node))


@lru_cache(1024)
def asks_attributes_only(expression: Expression) -> bool:
    """Whether nothing but attributes decides it, so that it is the same until the node changes."""
    if expression.parts:
        return all(asks_attributes_only(part) for part in expression.parts)
    return expression.subject.startswith("attribute:")


def _reader(subject: str) -> Callable[[Facts], str | None]:
    if subject.startswith("attribute:"):
        name = subject.removeprefix("attribute:")
        return lambda node: node.attributes.get(name)
    return lambda node: node.known.get(subject)


def _group_test(expression: Expression) -> Test:
    """A node has many groups: a positive comparison holds if it does for one of them, a negative one for none."""
    compare = _comparison(expression)
    match expression.operator:
        case "==" | "in":
            values = expression.values
            return lambda node: any(value in node.groups for value in values)
        case "!=" | "not_in":
            values = expression.values
            return lambda node: not any(value in node.groups for value in values)
        case "exists":
            return lambda node: bool(node.groups)
        case "!exists":
            return lambda node: not node.groups
        case "!~":
            return lambda node: all(compare(group) for group in node.groups)  # type: ignore[attr-defined]
    return lambda node: any(compare(group) for group in node.groups)  # type: ignore[attr-defined]


def _comparison(expression: Expression) -> Callable[[str | None], bool]:
    values = expression.values
    match expression.operator:
        case "exists":
            return lambda value: value is not None
        case "!exists":
            return lambda value: value is None
        case "==" | "in":
            wanted = frozenset(values)
            return lambda value: value in wanted
        case "!=" | "not_in":
            unwanted = frozenset(values)
            return lambda value: value not in unwanted
        case "=~":
            matches = re.compile(values[0]).fullmatch
            return lambda value: value is not None and matches(value) is not None
        case "!~":
            matches = re.compile(values[0]).fullmatch
            return lambda value: value is None or matches(value) is None
    compare, size = _ORDER[expression.operator], _size_of(expression.subject)
    bound = size(values[0])

    def ordered(value: str | None) -> bool:
        return value is not None and compare(size(value), bound)

    return ordered


def _size_of(subject: str) -> Callable[[str], tuple[object, ...]]:
    """How values of this subject are ordered: versions by their numbers, dates by time, numbers before words."""
    if subject == "agentVersion":
        return lambda text: tuple(int(number) for number in re.findall(r"\d+", text))
    if subject == "registeredAt":
        return _moment

    def number_or_word(text: str) -> tuple[object, ...]:
        try:
            return (0, float(text), "")
        except ValueError:
            return (1, 0.0, text)

    return number_or_word


def _moment(text: str) -> tuple[object, ...]:
    """Seconds since the epoch, out of themselves or of an ISO date or time (UTC unless it says otherwise)."""
    try:
        return (float(text),)
    except ValueError:
        moment = datetime.fromisoformat(text)
        return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp(),)


def parse(text: str) -> Expression:
    """An expression, understood. Raises InvalidParameterException."""
    if not text.strip() or len(text) > MOST_CHARACTERS:
        raise invalid(text)
    reader = _Reader(text)
    found = reader.any_of(0)
    if reader.rest():
        raise invalid(text)
    return found


def invalid(text: str) -> AwsError:
    """What a request with this expression is answered."""
    return AwsError("InvalidParameterException", f"The expression '{text[:200]}' is invalid.")


class _Reader:
    """Reads an expression from left to right: `or` binds weakest, then `and`, then `not`."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def rest(self) -> str:
        """What is not read yet."""
        return self._text[self._at :].strip()

    def any_of(self, depth: int) -> Expression:
        """Parts joined by `or`."""
        return self._joined(depth, "or", r"(?:or\b|\|\|)", self._all_of)

    def _all_of(self, depth: int) -> Expression:
        return self._joined(depth, "and", r"(?:and\b|&&)", self._one)

    def _joined(self, depth: int, kind: str, between: str, part: Callable[[int], Expression]) -> Expression:
        parts = [part(depth)]
        while self._take(between):
            parts.append(part(depth))
        return parts[0] if len(parts) == 1 else Expression(kind, parts=tuple(parts))

    def _one(self, depth: int) -> Expression:
        if depth > MOST_DEPTH:
            raise invalid(self._text)
        if prefixed := self._take(r"!?\s*exists\b"):
            return Expression("!exists" if prefixed.startswith("!") else "exists", self._subject())
        if self._take(r"(?:not\b|!)"):
            return Expression("not", parts=(self._one(depth + 1),))
        if self._take(r"\("):
            inside = self.any_of(depth + 1)
            if not self._take(r"\)"):
                raise invalid(self._text)
            return inside
        return self._comparison()

    def _comparison(self) -> Expression:
        subject = self._subject()
        found = self._take(_OPERATOR.pattern)
        kind = _ALIASES.get(found or "", found)
        if kind is None:
            raise invalid(self._text)
        values: tuple[str, ...] = ()
        if kind in ("in", "not_in"):
            values = self._list()
        elif kind not in _UNARY:
            values = (self._value(),)
        made = Expression(kind, subject, values)
        try:
            test_of(made)
        except (re.error, ValueError):
            raise invalid(self._text) from None
        return made

    def _subject(self) -> str:
        found = self._take(_SUBJECT.pattern)
        if found is None or not (":" in found or found in _FACTS):
            raise invalid(self._text)
        return found

    def _list(self) -> tuple[str, ...]:
        found = self._take(r"\[[^\]]*\]")
        values = tuple(v.strip().strip("'\"") for v in found[1:-1].split(",")) if found else ()
        if not values or "" in values:
            raise invalid(self._text)
        return values

    def _value(self) -> str:
        """Up to white space, or to a parenthesis that was not opened in it: a regular expression may have its own."""
        quoted = self._take(r"\"[^\"]*\"|'[^']*'")
        if quoted is not None:
            return quoted[1:-1]
        self._take("")
        begin, depth = self._at, 0
        while self._at < len(self._text) and not self._text[self._at].isspace():
            letter = self._text[self._at]
            depth += (letter == "(") - (letter == ")")
            if depth < 0:
                break
            self._at += 1
        if begin == self._at:
            raise invalid(self._text)
        return self._text[begin : self._at]

    def _take(self, pattern: str) -> str | None:
        """What comes next, white space aside, if it looks like this."""
        found = re.compile(r"\s*(" + pattern + ")").match(self._text, self._at)
        if found is None:
            return None
        self._at = found.end()
        return found[1]
