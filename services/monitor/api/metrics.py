"""CloudWatch metrics: put, listed, asked for."""

from __future__ import annotations

import re
from typing import TypeVar

from contracts.aws import cloudwatch
from services.monitor.adapters.metrics import Measurements
from services.monitor.decisions import queries
from services.monitor.decisions.putting import samples_from, wrong
from services.monitor.decisions.series import WEEK, Sums
from services.monitor.decisions.store import MetricKey, check_period, check_statistic, key_of, statistic_of
from services.shared.aws.context import RequestContext
from services.shared.aws.service import AwsService
from services.shared.errors import AwsError

LISTED = 500
MOST_POINTS = 1440
MOST_DATA_POINTS = 100_800
ACTIVE_S = 3 * 3600
Item = TypeVar("Item")
_TOKEN = re.compile(r"[1-9]\d{0,8}\Z")


class MetricApi(AwsService):
    """The values."""

    api = cloudwatch.API

    def __init__(self, measurements: Measurements) -> None:
        self._measurements = measurements
        self._series = measurements.store

    async def put_metric_data(self, context: RequestContext, request: cloudwatch.PutMetricDataInput) -> None:
        """Write values; one message, and when this returns it is in the stream and can be read."""
        data = [*(request.metric_data or [])]
        for entity in request.entity_metric_data or []:
            data += entity.metric_data or []
        now = self._measurements.clock()
        samples = samples_from(context.account, context.region, request.namespace, data, now)
        await self._measurements.put(self._measurements.batch(samples))

    async def list_metrics(
        self, context: RequestContext, request: cloudwatch.ListMetricsInput
    ) -> cloudwatch.ListMetricsOutput:
        """The metrics that fit, sorted, at most 500 a page."""
        since = self._measurements.clock() - (ACTIVE_S if request.recently_active else WEEK)
        fitting = sorted(
            key
            for key in self._series.keys(context.account, context.region)
            if _fits(key, request) and self._series.newest(key) >= since
        )
        shown, following = page(fitting, request.next_token, LISTED)
        metrics = [
            cloudwatch.Metric(namespace=key.namespace, metric_name=key.name, dimensions=dimensions(key))
            for key in shown
        ]
        return cloudwatch.ListMetricsOutput(metrics=metrics, next_token=following)

    async def get_metric_statistics(
        self, context: RequestContext, request: cloudwatch.GetMetricStatisticsInput
    ) -> cloudwatch.GetMetricStatisticsOutput:
        """The statistics of each period that has values, oldest first."""
        period = _period(request)
        if bool(request.statistics) == bool(request.extended_statistics):
            raise AwsError(
                "InvalidParameterCombinationException" if request.statistics else "MissingRequiredParameterException",
                "Exactly one of the parameters Statistics and ExtendedStatistics must be given.",
            )
        for extended in request.extended_statistics or []:
            check_statistic(extended)
        named = queries.dimensions_of(request.dimensions)
        key = key_of(context.account, context.region, request.namespace, request.metric_name, named)
        points = []
        for unit in [request.unit] if request.unit else self._series.units(key):
            found = self._series.periods(key, request.start_time, request.end_time, period, unit)
            points += [_datapoint(at, sums, unit, request) for at, sums in found.items()]
        points.sort(key=lambda point: point.timestamp or 0)
        return cloudwatch.GetMetricStatisticsOutput(label=request.metric_name, datapoints=points)

    async def get_metric_data(
        self, context: RequestContext, request: cloudwatch.GetMetricDataInput
    ) -> cloudwatch.GetMetricDataOutput:
        """The values of metrics and expressions, newest first unless asked otherwise."""
        asked = request.metric_data_queries
        if request.start_time >= request.end_time:
            raise queries.invalid("The parameter StartTime must be less than the parameter EndTime.")
        queries.check(asked)
        known = queries.answer(
            self._series, context.account, context.region, asked, request.start_time, request.end_time
        )
        shown = [query for query in asked if query.return_data is not False]
        limit = min(request.max_datapoints or MOST_DATA_POINTS, MOST_DATA_POINTS)
        skipped = _skipped(request.next_token)
        results, following = [], None
        for query in shown:
            values = list(known[query.id].items())
            if request.scan_by != "TimestampAscending":
                values.reverse()
            left = values[skipped:]
            values, skipped = left[:limit], max(0, skipped - len(values))
            partial = len(values) < len(left)
            if partial and following is None:
                following = str(_skipped(request.next_token) + (request.max_datapoints or MOST_DATA_POINTS))
            limit -= len(values)
            results.append(_result(query, values, partial))
        return cloudwatch.GetMetricDataOutput(metric_data_results=results, next_token=following, messages=[])


def _fits(key: MetricKey, request: cloudwatch.ListMetricsInput) -> bool:
    if request.namespace is not None and key.namespace != request.namespace:
        return False
    if request.metric_name is not None and key.name != request.metric_name:
        return False
    has = dict(key.dimensions)
    return all(wanted.name in has and wanted.value in (None, has[wanted.name]) for wanted in request.dimensions or [])


def dimensions(key: MetricKey) -> list[cloudwatch.Dimension]:
    """The dimensions of a metric, as the wire has them."""
    return [cloudwatch.Dimension(name=name, value=value) for name, value in key.dimensions]


def _skipped(token: str | None) -> int:
    if token is not None and not _TOKEN.match(token):
        raise AwsError("InvalidNextToken", "The next token specified is invalid.")
    return int(token) if token is not None else 0


def page(items: list[Item], token: str | None, limit: int) -> tuple[list[Item], str | None]:
    """The items behind a token, at most `limit`, and the next token when there are more. Raises InvalidNextToken."""
    start = _skipped(token)
    end = start + limit
    return items[start:end], str(end) if end < len(items) else None


def _period(request: cloudwatch.GetMetricStatisticsInput) -> int:
    if request.start_time >= request.end_time:
        raise wrong("The parameter StartTime must be less than the parameter EndTime.")
    period = check_period(request.period)
    points = (request.end_time - request.start_time) / period
    if points > MOST_POINTS:
        raise AwsError(
            "InvalidParameterCombinationException",
            f"The time range has up to {points:.0f} datapoints of this Period; at most {MOST_POINTS} can be asked for.",
        )
    return period


def _datapoint(at: float, sums: Sums, unit: str, request: cloudwatch.GetMetricStatisticsInput) -> cloudwatch.Datapoint:
    told = {name: statistic_of(sums, name) for name in request.statistics or []}
    extended = {name: statistic_of(sums, name) for name in request.extended_statistics or []}
    known = {name: value for name, value in extended.items() if value is not None}
    return cloudwatch.Datapoint(
        timestamp=at,
        sample_count=told.get("SampleCount"),
        average=told.get("Average"),
        sum=told.get("Sum"),
        minimum=told.get("Minimum"),
        maximum=told.get("Maximum"),
        unit=unit,  # type: ignore[arg-type]
        extended_statistics=known or None,
    )


def _result(
    query: cloudwatch.MetricDataQuery, values: list[tuple[float, float]], partial: bool
) -> cloudwatch.MetricDataResult:
    label = query.label or (query.metric_stat.metric.metric_name if query.metric_stat is not None else query.id)
    return cloudwatch.MetricDataResult(
        id=query.id,
        label=label,
        timestamps=[at for at, _ in values],
        values=[value for _, value in values],
        status_code="PartialData" if partial else "Complete",
    )
