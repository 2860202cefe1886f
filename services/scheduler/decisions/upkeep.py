"""Keeping one deployment (or task set) of a service at a number of tasks, whatever its other deployments do."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from contracts.records.scheduler import Service
from services.scheduler.decisions import backoff, messages
from services.scheduler.decisions.backoff import BackoffRules, History, Member
from services.scheduler.decisions.life import UNHEALTHY_REASON
from services.scheduler.decisions.rollout import Stop, earliest, once, protected, scale_in, sick_of, unprotected_at


class Kept(msgspec.Struct, frozen=True):
    """What is to be done for a deployment. `up`: it has all the healthy tasks that it is to have, not too many, none on
    a node that is drained; `gone`: nothing of it is there any more, not even a task that is just stopping."""

    starts: int
    stops: tuple[Stop, ...]
    up: bool
    gone: bool
    history: History
    messages: tuple[str, ...] = ()
    wake_at: float | None = None


def keep(
    service: Service,
    deployment: str,
    members: Sequence[Member],
    count: int | None,
    now: float,
    rules: BackoffRules,
    *,
    proven: bool = False,
) -> Kept:
    """The next step towards `count` tasks of a deployment; None: as many as there are. `members` are the service's.
    `proven`: a task without a health check is healthy once it has lasted."""
    own = [m for m in members if m.deployment == deployment]
    alive = [m for m in own if m.state in ("pending", "running")]
    sick, heal_at = sick_of(service, alive, now)
    told = [messages.unhealthy(service.name, m.id) for m in sick]
    stops = [Stop(m.id, m.illness or UNHEALTHY_REASON) for m in sick]
    alive = [m for m in alive if m not in sick]
    history = backoff.history(own, now, rules)
    proven_at = None
    if proven:
        alive, proven_at = backoff.proven(alive, now, rules)
    staying = [m for m in alive if not m.leaving]
    wanted = len(staying) if count is None else count
    surplus = scale_in(service, deployment, staying, wanted, now)
    stops += surplus
    healthy = sum(m.healthy for m in staying)
    leaving = [m for m in alive if m.leaving]
    if healthy >= wanted:
        stops += [Stop(m.id, messages.scaling(deployment)) for m in leaving if not protected(m, now)]
    starts = max(0, wanted - len(staying))
    not_before = backoff.not_before(history, wanted, rules)
    waiting = starts > 0 and now < not_before
    if backoff.rounds(history, wanted) >= rules.told_after:
        told += once(service, messages.inconsistent(service.name))
    return Kept(
        starts=0 if waiting else starts,
        stops=tuple(stops),
        up=len(staying) == healthy == wanted and not leaving and not sick,
        gone=all(m.state == "stopped" for m in own),
        history=history,
        messages=tuple(told),
        wake_at=earliest(
            not_before if waiting else None, heal_at, proven_at, history.settles_at, unprotected_at(alive, now)
        ),
    )
