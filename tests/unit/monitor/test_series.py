"""Series in a bounded store: what is kept how long, what statistics say of it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.records.metrics import MetricSample, TaskUsage, UsageBatch
from services.monitor.decisions.series import HOURS_3, Series, Sums, bin_of, percentile, value_of
from services.monitor.decisions.store import MetricStore, add_samples, check_period, check_statistic, key_of, sums_of
from services.monitor.decisions.usage import NodeUsage, running_counts, samples_of
from services.shared.errors import AwsError

KEY = key_of("1", "r", "N", "m", {})
START = 1_700_000_040.0
numbers = st.floats(-1e6, 1e6).filter(lambda v: v == 0 or abs(v) > 1e-6)


def single(value: float) -> Sums:
    return Sums(1.0, value, value, value)


def filled(values, resolution=60, step=60.0, budget=1 << 24) -> MetricStore:
    store = MetricStore(budget)
    for n, value in enumerate(values):
        store.add(KEY, "None", resolution, START + n * step, single(value))
    return store


@given(st.lists(st.tuples(st.integers(0, 3000), numbers), min_size=1, max_size=60))
def test_sums_do_not_depend_on_the_order_of_arrival(arrivals):
    one, other = MetricStore(1 << 24), MetricStore(1 << 24)
    for at, value in arrivals:
        one.add(KEY, "None", 10, START + at, single(value))
    for at, value in sorted(arrivals, key=lambda pair: pair[0]):
        other.add(KEY, "None", 10, START + at, single(value))
    for statistic in ("Sum", "Minimum", "Maximum", "SampleCount", "p50"):
        mine = one.values(KEY, statistic, START - 60, START + 3600, 60)
        assert mine == pytest.approx(other.values(KEY, statistic, START - 60, START + 3600, 60), rel=1e-6, abs=1e-6)
    counted = one.values(KEY, "SampleCount", START - 60, START + 3600, 60)
    assert sum(counted.values()) == len(arrivals)


@given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=100), st.floats(1, 100))
def test_percentiles_are_right_within_a_percent(values, percent):
    sums = Sums()
    for value in values:
        sums.add(single(value))
    exact = sorted(values)[max(0, math.ceil(len(values) * percent / 100 - 1e-9) - 1)]
    assert percentile(sums, percent) == pytest.approx(exact, rel=0.0201)


@given(numbers)
def test_a_bin_is_near_its_values(value):
    assert value_of(bin_of(value)) == pytest.approx(value, rel=0.0101, abs=1e-8)


def test_a_statistic_set_hides_its_percentiles():
    store = filled([1.0])
    store.add(KEY, "None", 60, START, Sums(5.0, 10.0, 1.0, 4.0))
    assert store.values(KEY, "p50", START - 60, START + 60, 60) == {}
    assert store.values(KEY, "Sum", START - 60, START + 60, 60) == {START: 11.0}


def test_periods_that_are_coarser_add_up_and_finer_ones_are_not_told():
    store = filled([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert list(store.values(KEY, "Sum", START, START + 360, 180).values()) == [6.0, 15.0]
    assert store.values(KEY, "Sum", START, START + 360, 10) == {}
    assert store.values(KEY, "Sum", START + 59, START + 121, 60) == {START: 1.0, START + 60: 2.0, START + 120: 3.0}


def test_fine_values_are_kept_for_hours_and_coarse_ones_longer():
    store = filled([1.0] * 1440, resolution=10, step=10.0)
    end = START + 14400
    assert len(store.values(KEY, "Sum", end - HOURS_3 + 60, end, 10)) == (HOURS_3 - 60) // 10
    assert sum(store.values(KEY, "Sum", START - 60, end, 60).values()) == 1440.0


def test_a_series_in_use_for_a_week_stays_within_its_size():
    series = Series("None", 10)
    for n in range(0, 8 * 24 * 3600, 10):
        series.add(START + n, single(float(n % 70)))
    assert series.size() < 1_000_000
    assert sum(len(tier._bins) for tier in series.tiers) <= HOURS_3 * (1 / 10 + 1 / 60 + 1 / 300)


@given(st.integers(2, 60))
def test_the_store_forgets_what_was_written_least_recently(many):
    store = MetricStore(20_000)
    for n in range(many):
        store.add(key_of("1", "r", "N", f"m{n:03d}", {}), "None", 60, START, single(1.0))
    store.evict()
    assert store.size() <= 20_000
    kept = sorted(key.name for key in store.keys("1", "r"))
    assert kept == [f"m{n:03d}" for n in range(many)][-len(kept) :] and kept


def test_units_are_kept_apart_and_read_together():
    store = filled([1.0])
    store.add(KEY, "Count", 60, START, single(5.0))
    assert store.values(KEY, "Sum", START, START + 60, 60, "Count") == {START: 5.0}
    assert store.values(KEY, "Sum", START, START + 60, 60) == {START: 6.0}


@pytest.mark.parametrize("statistic", ["average", "p101", "p", "tm90", ""])
def test_a_statistic_that_is_not_known_is_refused(statistic):
    with pytest.raises(AwsError, match="statistic"):
        check_statistic(statistic)


@pytest.mark.parametrize("period", [0, -60, 7, 90])
def test_a_period_that_is_none_is_refused(period):
    with pytest.raises(AwsError, match="Period"):
        check_period(period)


def test_values_with_counts_are_a_distribution():
    sample = MetricSample(
        account="1", region="r", namespace="N", name="m", count=4.0, sum=13.0, minimum=1.0, maximum=10.0,
        values=[1.0, 10.0], counts=[3.0, 1.0],
    )  # fmt: skip
    assert percentile(sums_of(sample), 75) == pytest.approx(1.0, rel=0.02)
    assert percentile(sums_of(sample), 76) == pytest.approx(10.0, rel=0.02)


def usage(task: str, cpu: float, service: str = "web", reserved: int = 256) -> TaskUsage:
    return TaskUsage(
        account="1", region="r", cluster="c", service=service, task=task, cpu_units=cpu, memory_mib=64.0,
        cpu_reserved=reserved, memory_reserved=128, rx_bytes=100, tx_bytes=50,
    )  # fmt: skip


def batch(node: str, *tasks: TaskUsage, at: float = START) -> UsageBatch:
    return UsageBatch(node=node, at=at, period_s=10.0, tasks=list(tasks))


def test_the_usage_of_tasks_is_that_of_their_service_and_cluster():
    samples = samples_of(batch("n", usage("a", 256.0), usage("b", 128.0), usage("alone", 64.0, service="")))
    told = {(s.name, s.dimensions.get("ServiceName")): (s.count, s.sum, s.maximum) for s in samples}
    assert told["CPUUtilization", "web"] == (2.0, 150.0, 100.0)
    assert told["CPUUtilization", None] == (3.0, 175.0, 100.0)
    assert told["NetworkRxBytes", "web"] == (2.0, 20.0, 10.0)
    assert {s.at for s in samples} == {START - 5.0}


def test_a_task_that_reserves_nothing_has_no_percentage():
    names = {s.name for s in samples_of(batch("n", usage("a", 256.0, reserved=0)))}
    assert "CPUUtilization" not in names and "CpuUtilized" in names


def test_running_tasks_are_counted_over_the_nodes_that_spoke_lately():
    nodes = {
        "n1": NodeUsage("n1", START, 10.0, [usage("a", 1.0), usage("b", 1.0)]),
        "n2": NodeUsage("n2", START - 10, 10.0, [usage("c", 1.0)]),
        "dead": NodeUsage("dead", START - 100, 10.0, [usage("d", 1.0)]),
    }
    counts = {s.dimensions.get("ServiceName"): s.sum for s in running_counts(nodes, batch("n1", *nodes["n1"].tasks))}
    assert counts == {"web": 3.0, None: 3.0}


def test_a_sample_from_a_clock_that_is_far_ahead_is_not_taken():
    store = filled([1.0])
    sample = MetricSample(account="1", region="r", namespace="N", name="m", at=START + 10_000)
    assert add_samples(store, [sample], START, START + 100) == []
    assert store.newest(KEY) == START


def test_samples_without_a_time_have_that_of_their_batch():
    store = MetricStore(1 << 20)
    sample = MetricSample(account="1", region="r", namespace="N", name="m", sum=2.0, minimum=2.0, maximum=2.0)
    assert add_samples(store, [sample], START) == [(KEY, START)]
    assert store.values(KEY, "Average", START - 1, START + 60, 60) == {START: 2.0}
