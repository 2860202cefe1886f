"""What PutMetricData takes: values checked and made into samples."""

from __future__ import annotations

import math

from contracts.aws import cloudwatch
from contracts.records.metrics import MetricSample
from services.monitor.decisions.queries import dimensions_of
from services.shared.errors import AwsError

MOST_DATA = 1000
MOST_VALUES = 150
LARGEST = 2.0**360
OLDEST_S = 14 * 24 * 3600
NEWEST_S = 2 * 3600


def wrong(message: str) -> AwsError:
    """InvalidParameterValueException."""
    return AwsError("InvalidParameterValueException", message)


def samples_from(
    account: str, region: str, namespace: str, data: list[cloudwatch.MetricDatum], now: float
) -> list[MetricSample]:
    """The samples of a request. Raises InvalidParameterValueException, InvalidParameterCombinationException,
    MissingRequiredParameterException, naming the member."""
    if namespace.startswith("AWS/"):
        raise wrong("The value AWS/ for parameter Namespace is invalid.")
    if not data or len(data) > MOST_DATA:
        raise wrong(f"The collection MetricData must have from 1 to {MOST_DATA} members.")
    return [_sample(account, region, namespace, f"MetricData.member.{i}", d, now) for i, d in enumerate(data, 1)]


def _sample(
    account: str, region: str, namespace: str, member: str, datum: cloudwatch.MetricDatum, now: float
) -> MetricSample:
    if datum.storage_resolution not in (None, 1, 60):
        raise wrong(f"The parameter {member}.StorageResolution must be 1 or 60.")
    at = now if datum.timestamp is None else datum.timestamp
    if not now - OLDEST_S <= at <= now + NEWEST_S:
        raise wrong(
            f"The parameter {member}.Timestamp must specify a time within the past two weeks and two hours ahead."
        )
    count, total, minimum, maximum, values, counts = _values(member, datum)
    for value in (total, minimum, maximum, count):
        if not math.isfinite(value) or abs(value) > LARGEST:
            raise wrong(f"The value {value} for parameter {member}.Value is invalid.")
    return MetricSample(
        account=account,
        region=region,
        namespace=namespace,
        name=datum.metric_name,
        dimensions=dimensions_of(datum.dimensions),
        unit=datum.unit or "None",
        count=count,
        sum=total,
        minimum=minimum,
        maximum=maximum,
        values=values,
        counts=counts,
        at=at,
        resolution_s=datum.storage_resolution or 60,
    )


Sums = tuple[float, float, float, float, list[float], list[float]]


def _values(member: str, datum: cloudwatch.MetricDatum) -> Sums:
    given = [datum.value is not None, datum.statistic_values is not None, datum.values is not None]
    if sum(given) == 0:
        raise AwsError(
            "MissingRequiredParameterException",
            f"At least one of {member}.Value, Values and StatisticValues is required.",
        )
    if sum(given) > 1:
        raise AwsError(
            "InvalidParameterCombinationException",
            f"The parameters {member}.Value, Values and StatisticValues are mutually exclusive.",
        )
    if datum.value is not None:
        return 1.0, datum.value, datum.value, datum.value, [], []
    if (sums := datum.statistic_values) is not None:
        if sums.sample_count <= 0 or sums.minimum > sums.maximum:
            raise wrong(f"The value of {member}.StatisticValues is invalid.")
        return sums.sample_count, sums.sum, sums.minimum, sums.maximum, [], []
    values = datum.values or []
    counts = datum.counts if datum.counts is not None else [1.0] * len(values)
    if not values or len(values) > MOST_VALUES:
        raise wrong(f"The collection {member}.Values must have from 1 to {MOST_VALUES} members.")
    if len(counts) != len(values) or not all(c > 0 and math.isfinite(c) for c in counts):
        raise wrong(f"The collection {member}.Counts must have a positive number for each member of Values.")
    total = sum(value * many for value, many in zip(values, counts, strict=True))
    return sum(counts), total, min(values), max(values), list(values), list(counts)
