"""All policies of a target, looked at together."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from services.autoscaler.decisions.combine import Answer, combine
from services.autoscaler.decisions.steps import Steps, step
from services.autoscaler.decisions.tracking import Tracking, track
from services.autoscaler.decisions.values import Bounds, History, Series

EVERY_S = 60.0
"""An alarm that stays in ALARM triggers its policy again after this time, as CloudWatch does for scaling actions."""


class Triggered(msgspec.Struct, frozen=True):
    """A step policy whose alarm is in ALARM; `breach` is the metric less the threshold, None when it is not known."""

    policy: Steps
    alarm: str
    breach: float | None


class Situation(msgspec.Struct, frozen=True):
    """What is known of a target."""

    current: int
    bounds: Bounds
    history: History
    now: float
    window_s: float


def evaluate(
    tracking: Iterable[tuple[Tracking, Series]], triggered: Iterable[Triggered], situation: Situation
) -> Answer:
    """What is to be done. A target tracking policy that may not scale in has no say in that."""
    s = situation
    wishes = []
    for policy, series in tracking:
        wish = track(policy, series, s.current, s.history, s.now, s.window_s)
        if policy.scales_in or wish.verdict == "OUT":
            wishes.append(wish)
    wishes += [step(t.policy, t.alarm, t.breach, s.current, s.history, s.now) for t in triggered]
    return combine(wishes, s.current, s.bounds)


def triggers_again(state_since: float, acted_at: Iterable[float], now: float, period_s: float) -> bool:
    """Whether an alarm in ALARM since then triggers its policy (again): it did not yet, or a minute ago at least."""
    since = [at for at in acted_at if at >= state_since]
    return not since or now >= max(since) + max(EVERY_S, period_s)
