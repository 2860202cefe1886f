"""How alarms are judged. The patterns are those of CloudWatch's documentation: X breaches, 0 does not, - is missing;
the newest is the last."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.aws import cloudwatch
from contracts.records.monitor import MetricAlarm
from services.monitor.decisions.alarms import (
    GRACE_S,
    HISTORY,
    Point,
    Rule,
    due,
    judge,
    moved,
    noted,
    points,
    rule_of,
    window,
)

TREATMENTS = ("missing", "ignore", "breaching", "notBreaching")
PRESENT = "PRESENT"


def rule(missing="missing", periods=3, to_alarm=3, period_s=60, comparison="GreaterThanThreshold"):
    return Rule(comparison, 5.0, periods, to_alarm, missing, period_s)


def judged(pattern, **members):
    values = {"X": 9.0, "0": 1.0, "-": None}
    found = [Point(60.0 * i, values[mark]) for i, mark in enumerate(pattern.replace(" ", ""))]
    return judge(rule(**members), found[::-1], PRESENT).state


@pytest.mark.parametrize(
    ("pattern", "states"),
    [
        ("0 - X - X", ("OK", "OK", "OK", "OK")),
        ("- - - - 0", ("OK", "OK", "OK", "OK")),
        ("- - - - -", ("INSUFFICIENT_DATA", PRESENT, "ALARM", "OK")),
        ("0 X X - X", ("ALARM", "ALARM", "ALARM", "ALARM")),
        ("- - X - -", ("ALARM", PRESENT, "ALARM", "OK")),
    ],
)
def test_three_of_three(pattern, states):
    assert tuple(judged(pattern, missing=missing) for missing in TREATMENTS) == states


@pytest.mark.parametrize(
    ("pattern", "states"),
    [
        ("0 - X - X", ("ALARM", "ALARM", "ALARM", "ALARM")),
        ("0 0 X 0 X", ("ALARM", "ALARM", "ALARM", "ALARM")),
        ("0 - X - -", ("OK", PRESENT, "ALARM", "OK")),
        ("- - - - 0", ("OK", PRESENT, "ALARM", "OK")),
        ("- - - X -", ("ALARM", PRESENT, "ALARM", "OK")),
    ],
)
def test_two_of_three(pattern, states):
    told = tuple(judged(pattern, missing=missing, to_alarm=2) for missing in TREATMENTS)
    if pattern == "- - - - 0":  # nothing breached, so nothing keeps an alarm up
        states = ("OK", "OK", "ALARM", "OK")
    assert told == states


@given(st.text(alphabet="X0-", min_size=1, max_size=12), st.integers(1, 6), st.data())
def test_the_state_follows_from_what_counts(pattern, periods, data):
    to_alarm = data.draw(st.integers(1, periods))
    pattern = pattern.rjust(periods + 2, "-")[-(periods + 2) :]
    states = {m: judged(pattern, missing=m, periods=periods, to_alarm=to_alarm) for m in TREATMENTS}
    newest = [mark for mark in pattern[::-1] if mark != "-"][:periods]
    if len(newest) == periods:
        assert set(states.values()) == {"ALARM" if newest.count("X") >= to_alarm else "OK"}
    if states["notBreaching"] == "ALARM":
        assert set(states.values()) == {"ALARM"}
    if states["breaching"] == "OK":
        assert states["notBreaching"] == "OK" and states["ignore"] == "OK"
    assert (states["missing"] == "INSUFFICIENT_DATA") == (not newest)


@given(st.floats(1e9, 2e9), st.sampled_from([10, 30, 60, 300]), st.integers(1, 5))
def test_only_whole_periods_that_are_over_are_looked_at(now, period, periods):
    own = rule(periods=periods, period_s=period)
    start, end = window(own, now)
    assert end % period == 0 and end + GRACE_S <= now + 1e-6 < end + GRACE_S + period + 1e-3
    assert end - start == (periods + 2) * period
    assert now < due(own, now) <= now + period + 1e-3
    assert [p.at for p in points(own, {}, now)] == [end - period * n for n in range(1, periods + 3)]


@pytest.mark.parametrize(
    ("comparison", "alarms"),
    [
        ("GreaterThanThreshold", (False, False, True)),
        ("GreaterThanOrEqualToThreshold", (False, True, True)),
        ("LessThanThreshold", (True, False, False)),
        ("LessThanOrEqualToThreshold", (True, True, False)),
    ],
)
def test_comparisons(comparison, alarms):
    own = rule(comparison=comparison)
    assert tuple(own.breaches(value) for value in (4.0, 5.0, 6.0)) == alarms


def test_the_reason_names_the_values_the_threshold_and_what_is_missing():
    own = rule(periods=1, to_alarm=1)
    assert judge(own, [Point(0.0, 9.0)], "OK").reason == (
        "Threshold Crossed: 1 out of the last 1 datapoint [9.0 (01/01/70 00:00:00)] was greater than the threshold "
        "(5.0) (minimum 1 datapoint for OK -> ALARM transition)."
    )
    assert judge(own, [Point(0.0, None)], "OK").reason == "Insufficient Data: 1 datapoint was unknown."
    breaching = judge(rule("breaching", 1, 1), [Point(0.0, None)], "OK")
    assert (breaching.state, "1 missing datapoint was treated as [Breaching]" in breaching.reason) == ("ALARM", True)


ALARM = MetricAlarm(account="1", region="r", name="a", request={}, configured_at=0.0, state_changed_at=1.0)


def test_a_word_on_the_state_it_is_in_is_no_transition():
    told = moved(ALARM, "INSUFFICIENT_DATA", "again", "", 9.0)
    assert (told.state_updated_at, told.state_changed_at, told.history) == (9.0, 1.0, [])
    changed = moved(ALARM, "OK", "well", "", 9.0)
    assert (changed.state_changed_at, changed.history[0].summary) == (
        9.0,
        "Alarm updated from INSUFFICIENT_DATA to OK",
    )


def test_the_history_is_bounded_newest_first():
    alarm = ALARM
    for n in range(HISTORY + 5):
        alarm = noted(alarm, str(n), float(n))
    assert [line.summary for line in alarm.history] == [str(n) for n in range(HISTORY + 4, 4, -1)]


def test_the_rule_of_an_alarm_on_an_expression_has_the_longest_period():
    metric = cloudwatch.Metric(namespace="N", metric_name="m")
    queries = [
        cloudwatch.MetricDataQuery(id=f"m{p}", metric_stat=cloudwatch.MetricStat(metric=metric, period=p, stat="Sum"))
        for p in (60, 300)
    ]
    request = cloudwatch.PutMetricAlarmInput(alarm_name="a", metrics=queries, threshold=1.0, evaluation_periods=2)
    assert (rule_of(request).period_s, rule_of(request).to_alarm) == (300, 2)
