"""Step scaling: by how much an alarm's metric is beyond its threshold decides how many tasks come or go.

https://docs.aws.amazon.com/autoscaling/application/userguide/step-scaling-policy-overview.html
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from services.autoscaler.decisions.names import invalid
from services.autoscaler.decisions.values import History, Past, Wish

MOST_STEPS = 20
_INFINITE = math.inf


class Step(msgspec.Struct, frozen=True):
    """One step. Bounds are relative to the alarm's threshold."""

    low: float
    high: float
    adjustment: int


class Steps(msgspec.Struct, frozen=True):
    """A step scaling policy. adjustment_type: ChangeInCapacity | ExactCapacity | PercentChangeInCapacity."""

    policy: str
    name: str
    adjustment_type: str
    steps: tuple[Step, ...]
    cooldown_s: float
    magnitude: int = 0


def read_steps(given: Sequence[dict]) -> tuple[Step, ...]:
    """The steps of a policy (wire form) in their order. Raises ValidationException for gaps, overlaps and the like."""
    if not given:
        raise invalid("StepAdjustments must not be empty for a step scaling policy.")
    if len(given) > MOST_STEPS:
        raise invalid(f"StepAdjustments must have at most {MOST_STEPS} entries.")
    steps = []
    for entry in given:
        low, high = entry.get("MetricIntervalLowerBound"), entry.get("MetricIntervalUpperBound")
        if low is None and high is None and len(given) > 1:
            raise invalid("StepAdjustments: an adjustment needs a MetricIntervalLowerBound or a "
                          "MetricIntervalUpperBound when there are others.")  # fmt: skip
        low, high = (-_INFINITE if low is None else low), (_INFINITE if high is None else high)
        if low >= high:
            raise invalid("StepAdjustments: MetricIntervalLowerBound must be less than MetricIntervalUpperBound.")
        steps.append(Step(low=low, high=high, adjustment=entry["ScalingAdjustment"]))
    steps.sort(key=lambda step: (step.low, step.high))
    for before, after in pairwise(steps):
        if after.low < before.high:
            raise invalid("StepAdjustments: the intervals of two adjustments overlap.")
        if after.low > before.high:
            raise invalid("StepAdjustments: there is a gap between the intervals of two adjustments.")
    if steps[0].low < 0 and steps[0].low != -_INFINITE:
        raise invalid("StepAdjustments: with a negative MetricIntervalLowerBound there must be an adjustment that has "
                      "none.")  # fmt: skip
    if steps[-1].high > 0 and steps[-1].high != _INFINITE:
        raise invalid("StepAdjustments: with a positive MetricIntervalUpperBound there must be an adjustment that has "
                      "none.")  # fmt: skip
    return tuple(steps)


def chosen(steps: Sequence[Step], breach: float) -> Step | None:
    """The step for a metric that is this much above (or, negative, below) the threshold.

    Above, the lower bound belongs to a step and the upper does not; below it is the other way round.
    """
    for step in steps:
        inside = step.low <= breach < step.high if breach >= 0 else step.low < breach <= step.high
        if inside:
            return step
    return None


def adjusted(policy: Steps, adjustment: int, count: int) -> int:
    """The count that an adjustment leads to from `count`; never below 0.

    Percentages: a change of less than one task is one task, larger ones are rounded towards 0; `magnitude` is the least
    change of a percentage that is not 0.
    """
    if policy.adjustment_type == "ExactCapacity":
        return max(0, adjustment)
    change = adjustment
    if policy.adjustment_type == "PercentChangeInCapacity":
        exact = count * adjustment / 100
        change = math.trunc(exact) if abs(exact) >= 1 else (exact > 0) - (exact < 0)
        if adjustment and policy.magnitude > abs(change):
            change = int(math.copysign(policy.magnitude, adjustment))
    return max(0, count + change)


def step(policy: Steps, alarm: str, breach: float | None, current: int, history: History, now: float) -> Wish:
    """What the policy wants while its alarm is in ALARM; `breach` is None when the metric's value is not known."""
    if breach is None:
        return _wish(policy, "NO_DATA", current, f"the metric of alarm {alarm} has no value")
    step_ = chosen(policy.steps, breach)
    why = f"alarm {alarm} in state ALARM triggered policy {policy.name}, {abs(breach):.4g} " + (
        "above the threshold" if breach >= 0 else "below the threshold"
    )
    if step_ is None:
        return _wish(policy, "HOLD", current, f"{why}: no step is for that")
    desired = adjusted(policy, step_.adjustment, current)
    if desired > current:
        cooling = _cooling(history.out, policy.cooldown_s, now)
        if cooling is not None:
            desired = adjusted(policy, step_.adjustment, min(current, cooling.before))
        verdict = "OUT" if desired > current else "HOLD"
        return _wish(policy, verdict, max(desired, current), why if verdict == "OUT" else f"{why}: it cools down")
    if desired < current:
        if _cooling(history.into, policy.cooldown_s, now) is not None:
            return _wish(policy, "HOLD", current, f"{why}: it cools down")
        return _wish(policy, "IN", desired, why)
    return _wish(policy, "HOLD", current, f"{why}: that many are wanted already")


def _cooling(past: Past | None, cooldown_s: float, now: float) -> Past | None:
    return past if past is not None and now < past.at + cooldown_s else None


def _wish(policy: Steps, verdict: str, desired: int, why: str) -> Wish:
    return Wish(verdict=verdict, desired=desired, policy=policy.policy, name=policy.name, why=why, tracking=False)
