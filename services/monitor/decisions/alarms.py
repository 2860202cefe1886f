"""Metric alarms: which periods are looked at, what they say, in which words.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from contracts.aws import cloudwatch
from contracts.records.monitor import AlarmHistoryItem, MetricAlarm
from services.monitor.decisions.expressions import Values
from services.monitor.decisions.queries import period_of

OK, ALARM, INSUFFICIENT = "OK", "ALARM", "INSUFFICIENT_DATA"
EXTRA_PERIODS = 2
"""How many periods before those that count are looked at when some of these have no data."""
GRACE_S = 1.0
"""How long after its end a period's data may still come in before the alarm is judged."""
HISTORY = 100

_OPERATORS: dict[str, tuple[Callable[[float, float], bool], str]] = {
    "GreaterThanThreshold": (operator.gt, "greater than"),
    "GreaterThanOrEqualToThreshold": (operator.ge, "greater than or equal to"),
    "LessThanThreshold": (operator.lt, "less than"),
    "LessThanOrEqualToThreshold": (operator.le, "less than or equal to"),
}
COMPARISONS = frozenset(_OPERATORS)
TREATMENTS = frozenset(("breaching", "notBreaching", "ignore", "missing"))


class Rule(msgspec.Struct, frozen=True):
    """What an alarm judges by: `to_alarm` of the last `periods` values must breach. missing: breaching | notBreaching |
    ignore | missing."""

    comparison: str
    threshold: float
    periods: int = 1
    to_alarm: int = 1
    missing: str = "missing"
    period_s: int = 60

    def breaches(self, value: float) -> bool:
        """Whether a value is one to alarm for."""
        return _OPERATORS[self.comparison][0](value, self.threshold)


class Point(msgspec.Struct, frozen=True):
    """A period that was looked at: when it began, its value, None where there was none."""

    at: float
    value: float | None


class Judgement(msgspec.Struct, frozen=True):
    """What is to be the state, why, and the points that count (newest first)."""

    state: str
    reason: str
    points: list[Point] = []


def rule_of(request: cloudwatch.PutMetricAlarmInput) -> Rule:
    """The rule of an alarm."""
    periods = request.evaluation_periods or 1
    return Rule(
        comparison=request.comparison_operator or "",
        threshold=request.threshold or 0.0,
        periods=periods,
        to_alarm=request.datapoints_to_alarm or periods,
        missing=request.treat_missing_data or "missing",
        period_s=period_of(request.metrics) if request.metrics else (request.period or 60),
    )


def request_of(alarm: MetricAlarm) -> cloudwatch.PutMetricAlarmInput:
    """The alarm as it was put."""
    return msgspec.convert(alarm.request, cloudwatch.PutMetricAlarmInput)


def window(rule: Rule, now: float) -> tuple[float, float]:
    """From when to when an alarm looks: whole periods that are over, on multiples of the period."""
    end = math.floor((now - GRACE_S) / rule.period_s) * rule.period_s
    return end - (rule.periods + EXTRA_PERIODS) * rule.period_s, end


def due(rule: Rule, now: float) -> float:
    """When it is to be judged next: when the period that runs now is over."""
    return (math.floor((now - GRACE_S) / rule.period_s) + 1) * rule.period_s + GRACE_S


def points(rule: Rule, values: Values, now: float) -> list[Point]:
    """The periods of the window, newest first."""
    start, end = window(rule, now)
    steps = round((end - start) / rule.period_s)
    times = [end - (step + 1) * rule.period_s for step in range(steps)]
    return [Point(at, values.get(at)) for at in times]


def judge(rule: Rule, found: list[Point], state: str) -> Judgement:
    """The state that the points of the window (newest first) say. Older ones stand in for missing ones; what is still
    missing is treated as the rule says. `state` is the present one, which `ignore` keeps."""
    real = [point for point in found if point.value is not None][: rule.periods]
    breaching = sum(rule.breaches(point.value) for point in real if point.value is not None)
    missing = rule.periods - len(real)
    if missing == 0 or rule.missing == "notBreaching":
        alarm = breaching >= rule.to_alarm
    elif rule.missing == "breaching":
        alarm = breaching + missing >= rule.to_alarm
    elif rule.missing == "ignore":
        if breaching < rule.to_alarm <= breaching + missing and (breaching or not real):
            return Judgement(state, "", real)
        alarm = breaching >= rule.to_alarm
    elif not real:
        return Judgement(INSUFFICIENT, _unknown(rule.periods), real)
    else:
        alarm = breaching >= min(rule.to_alarm, len(real))
    return Judgement(ALARM if alarm else OK, _crossed(rule, real, missing, alarm), real)


def _plural(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")


def _unknown(periods: int) -> str:
    return f"Insufficient Data: {_plural(periods, 'datapoint')} {'was' if periods == 1 else 'were'} unknown."


def _crossed(rule: Rule, real: list[Point], missing: int, alarm: bool) -> str:
    if not real:
        treated = "Breaching" if alarm else "NonBreaching"
        verb = "was" if missing == 1 else "were"
        return (
            f"Threshold Crossed: no datapoints were received for {_plural(missing, 'period')} and "
            f"{_plural(missing, 'missing datapoint')} {verb} treated as [{treated}]."
        )
    counted = [p for p in real if p.value is not None and rule.breaches(p.value) == alarm] or real
    shown = ", ".join(f"{p.value} ({datetime.fromtimestamp(p.at, UTC):%d/%m/%y %H:%M:%S})" for p in counted[:5])
    verb = ("was" if len(counted) == 1 else "were") + ("" if alarm else " not")
    words = _OPERATORS[rule.comparison][1]
    change = "OK -> ALARM" if alarm else "ALARM -> OK"
    needed = rule.to_alarm if alarm else rule.periods - rule.to_alarm + 1
    return (
        f"Threshold Crossed: {len(counted)} out of the last {_plural(len(real), 'datapoint')} [{shown}] {verb} {words} "
        f"the threshold ({rule.threshold}) (minimum {_plural(needed, 'datapoint')} for {change} transition)."
    )


def reason_data(rule: Rule, judgement: Judgement, statistic: str, now: float) -> str:
    """The same for programs: JSON, as CloudWatch's `StateReasonData`."""
    recent = [point for point in reversed(judgement.points)]
    data: dict[str, Any] = {
        "version": "1.0",
        "queryDate": stamp(now),
        "statistic": statistic,
        "period": rule.period_s,
        "recentDatapoints": [point.value for point in recent],
        "threshold": rule.threshold,
        "evaluatedDatapoints": [{"timestamp": stamp(p.at), "value": p.value} for p in judgement.points],
    }
    if recent:
        data["startDate"] = stamp(recent[0].at)
    return msgspec.json.encode(data).decode()[:4000]


def stamp(seconds: float) -> str:
    """A time as CloudWatch writes it in its JSON."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "+0000"


def moved(alarm: MetricAlarm, state: str, reason: str, data: str, now: float) -> MetricAlarm:
    """The alarm in another state (or told to be in the one it is in), with a line of history."""
    told = {"version": "1.0", "oldState": _state(alarm.state, alarm.state_reason), "newState": _state(state, reason)}
    changed = state != alarm.state
    line = AlarmHistoryItem(
        at=now,
        type="StateUpdate",
        summary=f"Alarm updated from {alarm.state} to {state}",
        data=msgspec.json.encode(told).decode()[:4095],
    )
    return msgspec.structs.replace(
        alarm,
        state=state,
        state_reason=reason,
        state_data=data,
        state_updated_at=now,
        state_changed_at=now if changed else alarm.state_changed_at,
        history=[line, *alarm.history][:HISTORY] if changed else alarm.history,
    )


def _state(value: str, reason: str) -> dict[str, str]:
    return {"stateValue": value, "stateReason": reason}


def made(
    account: str, region: str, definition: dict[str, Any], tags: dict[str, str], now: float, *, enabled: bool = True
) -> MetricAlarm:
    """A new alarm. `definition` is PutMetricAlarm in wire form."""
    name = definition["AlarmName"]
    alarm = MetricAlarm(
        account=account,
        region=region,
        name=name,
        request=definition,
        configured_at=now,
        state_updated_at=now,
        state_changed_at=now,
        actions_enabled=enabled,
        tags=tags,
    )
    return noted(alarm, f'Alarm "{name}" created', now)


def noted(alarm: MetricAlarm, summary: str, now: float) -> MetricAlarm:
    """The alarm with a line on a change of what it is."""
    line = AlarmHistoryItem(at=now, type="ConfigurationUpdate", summary=summary, data='{"version":"1.0"}')
    return msgspec.structs.replace(alarm, history=[line, *alarm.history][:HISTORY])
