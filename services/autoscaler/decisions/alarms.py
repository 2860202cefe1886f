"""Alarms, as far as they trigger step scaling. They are the monitor's; `request` is PutMetricAlarm in wire form."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from contracts.records.autoscaler import ScalingPolicy
from contracts.records.monitor import MetricAlarm
from services.autoscaler.decisions.names import policy_arn
from services.autoscaler.decisions.values import MetricOf, Point


def names_policy(alarm: MetricAlarm, policy: ScalingPolicy) -> bool:
    """Whether the policy is an action of the alarm."""
    return policy_arn(policy) in (alarm.request.get("AlarmActions") or ())


def triggers(alarm: MetricAlarm, policy: ScalingPolicy) -> bool:
    """Whether the alarm, as it is now, triggers the policy."""
    return alarm.state == "ALARM" and alarm.actions_enabled and names_policy(alarm, policy)


def metric(alarm: MetricAlarm) -> MetricOf | None:
    """The series that an alarm watches; None for one on an expression, or on a percentile without a name."""
    request = alarm.request
    statistic = request.get("Statistic") or request.get("ExtendedStatistic")
    if not request.get("MetricName") or not statistic:
        return None
    pairs = tuple(sorted((d["Name"], d["Value"]) for d in request.get("Dimensions") or ()))
    place = (alarm.account, alarm.region, request.get("Namespace") or "", request["MetricName"])
    return MetricOf(*place, pairs, statistic, int(request.get("Period") or 60))


def breach(alarm: MetricAlarm, points: Sequence[Point]) -> float | None:
    """The metric less the threshold: of the newest point, else of what the alarm itself saw last; None if neither."""
    threshold = alarm.request.get("Threshold")
    if threshold is None:
        return None
    value = points[-1].value if points else _seen(alarm)
    return None if value is None else value - threshold


def _seen(alarm: MetricAlarm) -> float | None:
    try:
        data = msgspec.json.decode(alarm.state_data or "{}")
        known = [value for value in data.get("recentDatapoints") or () if value is not None]
        return float(known[-1]) if known else None
    except (msgspec.MsgspecError, AttributeError, TypeError, ValueError):
        return None
