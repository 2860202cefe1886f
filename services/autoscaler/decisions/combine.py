"""Several policies of one target, one answer.

https://docs.aws.amazon.com/autoscaling/application/userguide/target-tracking-scaling-policy-overview.html
The largest count wins, out and in alike; target tracking scales in only when every policy of its kind that may do so
agrees, and not knowing is no agreement.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from contracts.records.autoscaler import NotScaled
from services.autoscaler.decisions.values import Bounds, Wish


class Answer(msgspec.Struct, frozen=True):
    """What is to be done. `desired` is None for nothing; `refused` says why what policies want can't be had.

    `wishes` are those that are followed, or refused.
    """

    desired: int | None = None
    wishes: tuple[Wish, ...] = ()
    refused: NotScaled | None = None


def combine(wishes: Sequence[Wish], current: int, bounds: Bounds) -> Answer:
    """Out before in; between min and max; nothing in a direction that is suspended."""
    out = [w for w in wishes if w.verdict == "OUT"]
    if out:
        return Answer() if bounds.no_out else _decided(out, current, bounds)
    stepped = [w for w in wishes if w.verdict == "IN" and not w.tracking]
    tracked = _agreed([w for w in wishes if w.tracking])
    into = [*stepped, *tracked]
    if into and not bounds.no_in:
        return _decided(into, current, bounds)
    return Answer()


def _agreed(tracking: list[Wish]) -> list[Wish]:
    """All of the target tracking wishes when every one is to scale in; else none. A policy that never scales in has no
    say: the caller leaves out its HOLD."""
    return tracking if tracking and all(w.verdict == "IN" for w in tracking) else []


def _decided(wishes: list[Wish], current: int, bounds: Bounds) -> Answer:
    wanted = max(w.desired for w in wishes)
    leading = tuple(w for w in wishes if w.desired == wanted)
    desired = bounds.inside(wanted)
    growing = wanted > current
    if (growing and desired > current) or (not growing and desired < current):
        return Answer(desired=desired, wishes=leading)
    if growing:
        return Answer(wishes=leading, refused=NotScaled(code="AlreadyAtMaxCapacity", max_capacity=bounds.high,
                                                        current_capacity=current))  # fmt: skip
    return Answer(wishes=leading, refused=NotScaled(code="AlreadyAtMinCapacity", min_capacity=bounds.low,
                                                    current_capacity=current))  # fmt: skip
