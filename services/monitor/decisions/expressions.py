"""Metric math: arithmetic and a few functions on the results of other queries.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from services.shared.errors import AwsError

Values = dict[float, float]
Value = Values | float | list[Values]

_ARITHMETIC: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.Mod: math.fmod,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_FOLDS: dict[str, Callable[[list[float]], float]] = {
    "SUM": sum,
    "AVG": lambda values: sum(values) / len(values),
    "MIN": min,
    "MAX": max,
}
_EACH: dict[str, Callable[[float], float]] = {"ABS": abs, "CEIL": math.ceil, "FLOOR": math.floor}
MOST_NODES = 200
LARGEST = 2.0**360
"""As for the values of metrics."""


def refused(expression: str, why: str) -> AwsError:
    """ValidationException."""
    return AwsError("ValidationException", f"Error in expression '{expression}': {why}")


def parse(expression: str) -> ast.expr:
    """The expression's tree. Raises ValidationException for what can't be evaluated."""
    try:
        tree = ast.parse(expression.replace("^", "**").strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise refused(expression, "syntax error") from error
    nodes = list(ast.walk(tree))
    if len(nodes) > MOST_NODES:
        raise refused(expression, "it is too long")
    for node in nodes:
        match node:
            case ast.BinOp(op=op) if type(op) in _ARITHMETIC:
                continue
            case ast.Compare(ops=[op]) if type(op) in _COMPARISONS:
                continue
            case ast.UnaryOp(op=ast.USub()) | ast.Name() | ast.List() | ast.expr_context() | ast.USub():
                continue
            case ast.Constant(value=bool() | str() | bytes() | None):
                raise refused(expression, "only numbers are understood")
            case ast.Constant(value=int() | float() as value):
                if not -LARGEST <= value <= LARGEST:
                    raise refused(expression, "a number is too large")
                continue
            case ast.Call(func=ast.Name(id=name), keywords=[]) if name in {*_FOLDS, *_EACH, "METRICS", "FILL", "IF"}:
                continue
            case ast.operator() | ast.cmpop():
                continue
        raise refused(expression, "this part of metric math is not supported")
    return tree


def names_in(tree: ast.expr) -> set[str]:
    """The ids that an expression refers to; METRICS() is `*`."""
    functions = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and id(n) not in functions and n.id != "REPEAT"}
    every = any(isinstance(n, ast.Call) and getattr(n.func, "id", "") == "METRICS" for n in ast.walk(tree))
    return names | ({"*"} if every else set())


def evaluate(expression: str, known: Mapping[str, Values], metrics: list[str]) -> Values:
    """The values of an expression, by time. `known` are the results by id, `metrics` the ids that are metrics.

    Two series are joined where both have a value. A single number stands for itself at every time that any of the
    series it was made of has. Raises ValidationException.
    """
    tree = parse(expression)
    result = _Evaluation(expression, known, metrics).of(tree)
    if isinstance(result, list):
        raise refused(expression, "its result must be one time series")
    if isinstance(result, dict):
        return dict(sorted(result.items()))
    if not math.isfinite(result):
        return {}
    used = names_in(tree)
    times = {at for name, values in known.items() if name in used or ("*" in used and name in metrics) for at in values}
    return dict.fromkeys(sorted(times), result)


class _Evaluation:
    def __init__(self, expression: str, known: Mapping[str, Values], metrics: list[str]) -> None:
        self._expression = expression
        self._known = known
        self._metrics = metrics

    def of(self, node: ast.expr) -> Value:
        match node:
            case ast.Constant(value=value):
                return float(value)  # type: ignore[arg-type]
            case ast.Name(id=name):
                if name not in self._known:
                    raise refused(self._expression, f"there is no query with the id {name}")
                return self._known[name]
            case ast.UnaryOp(operand=operand):
                return self._join(operator.mul, -1.0, self.of(operand))
            case ast.BinOp(left=left, op=op, right=right):
                return self._join(_ARITHMETIC[type(op)], self.of(left), self.of(right))
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                compare = _COMPARISONS[type(op)]
                return self._join(lambda a, b: float(compare(a, b)), self.of(left), self.of(right))
            case ast.List(elts=parts):
                return [self._series(self.of(part)) for part in parts]
            case ast.Call(func=ast.Name(id=name), args=arguments):
                return self._call(name, arguments)
        raise refused(self._expression, "this part of metric math is not supported")

    def _series(self, value: Value) -> Values:
        if not isinstance(value, dict):
            raise refused(self._expression, "a time series is wanted there")
        return value

    def _join(self, apply: Callable[[float, float], float], left: Value, right: Value) -> Value:
        match left, right:
            case dict(), dict():
                pairs = ((at, left[at], right[at]) for at in left if at in right)
            case dict(), float():
                pairs = ((at, value, right) for at, value in left.items())
            case float(), dict():
                pairs = ((at, left, value) for at, value in right.items())
            case float(), float():
                found = _number(apply, left, right)
                return math.nan if found is None else found
            case list(), _:
                return [self._series(self._join(apply, each, right)) for each in left]
            case _:
                return [self._series(self._join(apply, left, each)) for each in right]  # type: ignore[union-attr]
        told = ((at, _number(apply, a, b)) for at, a, b in pairs)
        return {at: value for at, value in told if value is not None}

    def _call(self, name: str, arguments: list[ast.expr]) -> Value:
        if name == "METRICS":
            if arguments:
                raise refused(self._expression, "METRICS takes no argument")
            return [self._known[each] for each in self._metrics]
        wanted = {"FILL": 2, "IF": 3}.get(name, 1)
        if len(arguments) not in ((2, 3) if name == "IF" else (wanted,)):
            raise refused(self._expression, f"{name} takes {wanted} arguments")
        if name == "FILL":
            return self._fill(arguments)
        given = [self.of(argument) for argument in arguments]
        if name == "IF":
            return self._if(given)
        (value,) = given
        if name in _EACH:
            each = _EACH[name]
            return self._join(lambda a, _: float(each(a)), value, 0.0)
        fold = _FOLDS[name]
        if isinstance(value, list):
            times = sorted({at for series in value for at in series})
            return {at: float(fold([series[at] for series in value if at in series])) for at in times}
        values = list(self._series(value).values())
        return float(fold(values)) if values else {}

    def _fill(self, arguments: list[ast.expr]) -> Value:
        series = self._series(self.of(arguments[0]))
        times = sorted({at for values in self._known.values() for at in values})
        repeat = isinstance(arguments[1], ast.Name) and arguments[1].id == "REPEAT"
        last = None if repeat else self.of(arguments[1])
        filled: Values = {}
        for at in times:
            value = series.get(at, last)
            if isinstance(value, float):
                filled[at] = value
                last = value if repeat else last
        return filled

    def _if(self, given: list[Value]) -> Value:
        condition = self._series(given[0])

        def at(value: Value, time: float) -> float | None:
            return value.get(time) if isinstance(value, dict) else value if isinstance(value, float) else None

        otherwise = given[2] if len(given) == 3 else {}
        chosen = ((time, at(given[1] if flag else otherwise, time)) for time, flag in condition.items())
        return {time: value for time, value in chosen if value is not None}


def _number(apply: Callable[[float, float], Any], left: float, right: float) -> float | None:
    try:
        value = apply(left, right)
    except (ZeroDivisionError, OverflowError, ValueError):
        return None
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
