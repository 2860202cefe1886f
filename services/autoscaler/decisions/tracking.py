"""Target tracking: keep a metric, that falls as tasks are added, near its target.

https://docs.aws.amazon.com/autoscaling/application/userguide/application-auto-scaling-target-tracking.html
https://docs.aws.amazon.com/autoscaling/application/userguide/target-tracking-scaling-policy-overview.html
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from services.autoscaler.decisions.values import History, Point, Series, Wish

LOW = 0.9
"""Scale in only below this share of the target, so that a metric near its target moves nothing."""

FRESH_PERIODS, FRESH_S = 3, 30.0
"""A newest data point that is older than this many periods, and seconds, says nothing about now."""

GAP_PERIODS, GAP_S = 1.5, 15.0
"""What is measured may come this late, whichever is longer, and still have been measured throughout."""

_EPSILON = 1e-9


class Tracking(msgspec.Struct, frozen=True):
    """A target tracking policy. Cooldowns in seconds; `metric` is the metric's name, for people."""

    policy: str
    name: str
    metric: str
    target: float
    out_cooldown_s: float
    in_cooldown_s: float
    scales_in: bool


def track(policy: Tracking, series: Series, current: int, history: History, now: float, window_s: float) -> Wish:
    """What the policy wants, given the metric and the desired count.

    Out as soon as the newest point is above the target. In when all points of the window are below 0.9 of it, they
    leave no gap, none is from before the last change of the count, and the cooldown is over.
    """
    points, period_s = series
    if not is_fresh(series, now):
        return _wish(policy, "NO_DATA", current, f"there is no recent value of {policy.metric}")
    newest = points[-1].value
    if newest > policy.target:
        return _out(policy, points[-1], current, history, now)
    if not policy.scales_in:
        return _wish(policy, "HOLD", current, f"{_shown(policy, newest)}; the policy does not scale in")
    since = now - window_s - period_s
    if history.last_at > now - window_s or not _covers(points, since, max(GAP_PERIODS * period_s, GAP_S)):
        return _wish(policy, "NO_DATA", current, f"{policy.metric} was not measured for long enough to scale in")
    highest = max(p.value for p in points if p.at >= since)
    if highest >= LOW * policy.target:
        return _wish(policy, "HOLD", current, f"{_shown(policy, highest)} lately")
    desired = capacity_for(current, highest, policy.target)
    if desired >= current:
        return _wish(policy, "HOLD", current, f"{_shown(policy, highest)}; one task less would be too few")
    if history.into is not None and now < history.into.at + policy.in_cooldown_s:
        return _wish(policy, "HOLD", current, "the scale-in cooldown is not over")
    told = f"{_shown(policy, highest)} at most for {window_s:g} s: {current} x {highest:.4g} / {policy.target:.4g}"
    return _wish(policy, "IN", desired, f"{told} asks for {desired}")


def is_fresh(series: Series, now: float) -> bool:
    """Whether its newest point says something about now."""
    return bool(series.points) and series.points[-1].at >= now - max(FRESH_PERIODS * series.period_s, FRESH_S)


def _covers(points: Sequence[Point], since: float, gap_s: float) -> bool:
    """Whether the metric was measured throughout, up to its newest point: nowhere longer not than `gap_s`."""
    times = [since, *(p.at for p in points if p.at >= since)]
    return len(times) > 1 and all(later - before <= gap_s for before, later in pairwise(times))


def _out(policy: Tracking, newest: Point, current: int, history: History, now: float) -> Wish:
    """While the last scale-out cools down, its result is not the base of the next one: tasks that it started don't yet
    carry load, so only a need beyond it counts. The same holds, without a cooldown, for what was measured before it."""
    base, value = current, newest.value
    cooling = history.out is not None and now < history.out.at + policy.out_cooldown_s
    if history.out is not None and (cooling or newest.at < history.out.at):
        base = min(current, history.out.before)
    desired = capacity_for(base, value, policy.target)
    if desired <= current:
        why = "the scale-out cooldown is not over" if cooling else "that many are wanted already"
        return _wish(policy, "HOLD", current, f"{_shown(policy, value)}; {why}")
    return _wish(policy, "OUT", desired, f"{_shown(policy, value)}: {base} x {value:.4g} / {policy.target:.4g} "
                 f"asks for {desired}")  # fmt: skip


def capacity_for(current: int, value: float, target: float) -> int:
    """The least count at which the metric would not be above its target, if it falls in proportion."""
    return max(0, math.ceil(current * value / target - _EPSILON))


def _shown(policy: Tracking, value: float) -> str:
    return f"{policy.metric} is {value:.4g}, target {policy.target:.4g}"


def _wish(policy: Tracking, verdict: str, desired: int, why: str) -> Wish:
    return Wish(verdict=verdict, desired=desired, policy=policy.policy, name=policy.name, why=why)
