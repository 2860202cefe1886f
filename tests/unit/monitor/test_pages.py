"""Pages that bear changes between them, and alarms that can't be judged."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.records.monitor import MetricAlarm
from services.monitor.controllers.alarms import AlarmController
from services.monitor.decisions.pages import BadToken, page

ALARM = {
    "AlarmName": "a", "Namespace": "Shop", "MetricName": "Sold", "Period": 60, "Statistic": "Average",
    "EvaluationPeriods": 1, "Threshold": 1.0, "ComparisonOperator": "GreaterThanThreshold",
}  # fmt: skip
NUMBERS = st.sets(st.integers(0, 99), min_size=1)


@given(NUMBERS, st.sets(st.integers(0, 99)), st.integers(1, 7), st.booleans())
def test_what_is_deleted_page_by_page_hides_nothing(there, going, limit, descending):
    key, seen, token = "{:02d}".format, [], None
    while True:
        shown, token = page(there, key, token, limit, descending=descending)
        seen += shown
        if token is None:
            break
        there = there - (going & set(shown))
    assert seen == sorted(set(seen), reverse=descending)
    assert set(seen) >= there


@pytest.mark.parametrize("token", ["shop", "2", "", "YQ==", "\u00e9"])
def test_a_token_that_was_not_given_out_is_refused(token):
    with pytest.raises(BadToken):
        page(["a"], str, token, 1)


async def test_an_alarm_that_can_not_be_judged_does_not_keep_others_from_it():
    alarm = MetricAlarm(account="1", region="r", name="a", request=ALARM, configured_at=0.0)
    store = SimpleNamespace(table=lambda kind: SimpleNamespace(record=lambda *key: alarm))
    controller = AlarmController(store, SimpleNamespace(clock=lambda: 1000.0, store=None))
    controller._follow(alarm)
    await controller._judge(("1", "r", "a"))
    assert controller._due[("1", "r", "a")] > 1000.0
