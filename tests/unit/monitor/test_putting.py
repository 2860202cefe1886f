"""What PutMetricData takes, and which queries can be answered."""

import pytest

from contracts.aws.cloudwatch import Dimension, Metric, MetricDataQuery, MetricDatum, MetricStat, StatisticSet
from services.monitor.decisions.putting import samples_from
from services.monitor.decisions.queries import answer, check
from services.monitor.decisions.store import MetricStore, add_samples
from services.shared.errors import AwsError

NOW = 1_700_000_000.0


def samples(**members):
    return samples_from("1", "r", "N", [MetricDatum(metric_name="m", **members)], NOW)


def test_a_single_value_is_now_unless_it_says_otherwise():
    (sample,) = samples(value=2.5)
    assert (sample.count, sample.sum, sample.minimum, sample.maximum, sample.at, sample.unit) == (
        1.0, 2.5, 2.5, 2.5, NOW, "None",
    )  # fmt: skip
    assert samples(value=1.0, timestamp=NOW - 60)[0].at == NOW - 60


def test_values_count_once_unless_counts_are_given():
    (sample,) = samples(values=[1.0, 3.0])
    assert (sample.count, sample.sum, sample.counts) == (2.0, 4.0, [1.0, 1.0])
    (sample,) = samples(values=[1.0, 3.0], counts=[10.0, 1.0])
    assert (sample.count, sample.sum, sample.minimum, sample.maximum) == (11.0, 13.0, 1.0, 3.0)


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"value": 1.0, "values": [1.0]},
        {"value": float("inf")},
        {"value": 1e300},
        {"value": 1.0, "timestamp": NOW - 15 * 86400},
        {"value": 1.0, "timestamp": NOW + 7300},
        {"value": 1.0, "storage_resolution": 10},
        {"values": []},
        {"values": [1.0] * 151},
        {"values": [1.0], "counts": [0.0]},
        {"statistic_values": StatisticSet(sample_count=0.0, sum=0.0, minimum=0.0, maximum=0.0)},
        {"statistic_values": StatisticSet(sample_count=1.0, sum=0.0, minimum=2.0, maximum=1.0)},
        {"value": 1.0, "dimensions": [Dimension(name="a", value="1"), Dimension(name="a", value="2")]},
    ],
)
def test_what_can_not_be_measured_is_refused(members):
    with pytest.raises(AwsError):
        samples(**members)


def test_namespaces_of_aws_are_not_the_callers():
    with pytest.raises(AwsError, match="Namespace"):
        samples_from("1", "r", "AWS/ECS", [MetricDatum(metric_name="m", value=1.0)], NOW)


def query(name: str, expression: str | None = None, **members) -> MetricDataQuery:
    stat = None if expression else MetricStat(metric=Metric(namespace="N", metric_name="m"), period=60, stat="Sum")
    return MetricDataQuery(id=name, expression=expression, metric_stat=stat, **members)


def test_expressions_may_refer_to_expressions_in_any_order():
    store = MetricStore(1 << 20)
    add_samples(store, samples(value=5.0, timestamp=NOW - 60), NOW)
    queries = [query("b", "a + 1"), query("a", "m * 2"), query("m")]
    check(queries)
    assert [list(v.values()) for v in answer(store, "1", "r", queries, NOW - 120, NOW).values()] == [
        [5.0],
        [10.0],
        [11.0],
    ]


@pytest.mark.parametrize(
    ("queries", "why"),
    [
        ([], "from 1 to"),
        ([query("m"), query("m")], "unique"),
        ([query("M")], "lower-case"),
        ([query("a", "b"), query("b", "a")], "itself"),
        ([query("a", "a + 1")], "itself"),
        ([query("a", "x + 1")], "no query with the id x"),
        ([MetricDataQuery(id="a")], "exactly one"),
    ],
)
def test_queries_that_can_not_be_answered_are_refused(queries, why):
    with pytest.raises(AwsError, match=why):
        check(queries)
