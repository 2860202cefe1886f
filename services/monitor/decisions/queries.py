"""Metric data queries: metrics and expressions that refer to each other, checked and evaluated."""

from __future__ import annotations

import re

from contracts.aws import cloudwatch
from services.monitor.decisions.expressions import Values, evaluate, names_in, parse
from services.monitor.decisions.store import MetricKey, MetricStore, check_period, check_statistic, key_of
from services.shared.errors import AwsError

MOST_QUERIES = 500
_ID = re.compile(r"[a-z][a-zA-Z0-9_]*\Z")


def invalid(message: str) -> AwsError:
    """ValidationException."""
    return AwsError("ValidationException", message)


def dimensions_of(dimensions: list[cloudwatch.Dimension] | None) -> dict[str, str]:
    """Dimensions as a dict. Raises InvalidParameterValueException when a name comes twice."""
    found = {each.name: each.value for each in dimensions or []}
    if len(found) != len(dimensions or []):
        raise AwsError("InvalidParameterValueException", "The parameter Dimensions has the same name more than once.")
    return found


def key_in(account: str, region: str, metric: cloudwatch.Metric) -> MetricKey:
    """The key of the metric that a query names."""
    if not metric.namespace or not metric.metric_name:
        raise invalid("The parameter MetricStat.Metric must have a Namespace and a MetricName")
    return key_of(account, region, metric.namespace, metric.metric_name, dimensions_of(metric.dimensions))


def check(queries: list[cloudwatch.MetricDataQuery]) -> None:
    """Raises ValidationException for queries that can't be answered: their ids, what they ask for, what they refer to,
    circles."""
    if not queries or len(queries) > MOST_QUERIES:
        raise invalid(f"The collection MetricDataQueries must have from 1 to {MOST_QUERIES} members")
    known = {query.id: query for query in queries}
    if len(known) != len(queries):
        raise invalid("The values for parameter id in MetricDataQueries must be unique")
    for query in queries:
        if not _ID.match(query.id):
            raise invalid(f"Value '{query.id}' for MetricDataQueries.Id must begin with a lower-case letter")
        if (query.metric_stat is None) == (query.expression is None):
            raise invalid(f"MetricDataQueries.{query.id} must have exactly one of MetricStat and Expression")
        if query.metric_stat is not None:
            check_statistic(query.metric_stat.stat)
            check_period(query.metric_stat.period)
        elif query.expression is not None:
            missing = names_in(parse(query.expression)) - set(known) - {"*"}
            if missing:
                raise invalid(f"Error in expression '{query.id}': there is no query with the id {min(missing)}")
    _no_circle({q.id: names_in(parse(q.expression)) - {"*"} for q in queries if q.expression is not None})


def _no_circle(waiting: dict[str, set[str]]) -> None:
    """Take away, again and again, what waits for nothing that waits."""
    while waiting:
        ready = [name for name, wanted in waiting.items() if not wanted & set(waiting)]
        if not ready:
            raise invalid(f"Error in expression '{min(waiting)}': it refers to itself")
        for name in ready:
            del waiting[name]


def answer(
    store: MetricStore,
    account: str,
    region: str,
    queries: list[cloudwatch.MetricDataQuery],
    start: float,
    end: float,
) -> dict[str, Values]:
    """The values of each query by its id; `check` them before."""
    known: dict[str, Values] = {}
    metrics = [query.id for query in queries if query.metric_stat is not None]
    for query in queries:
        if (stat := query.metric_stat) is not None:
            key = key_in(account, region, stat.metric)
            known[query.id] = store.values(key, stat.stat, start, end, stat.period, stat.unit)
    waiting = {query.id: query.expression for query in queries if query.expression is not None}
    wanted = {name: names_in(parse(expression)) for name, expression in waiting.items()}
    while waiting:
        for name in [name for name in waiting if not wanted[name] & waiting.keys()]:
            known[name] = evaluate(waiting.pop(name), known, metrics)
    return known


def period_of(queries: list[cloudwatch.MetricDataQuery]) -> int:
    """The longest period of the metrics: that of what is made of them."""
    return max((query.metric_stat.period for query in queries if query.metric_stat is not None), default=60)
