"""How a service's tasks have fared, and how long to wait before the next start.

A task has failed when it ended on its own before it had run for `settled_s`; one that was killed from outside
(SIGKILL or SIGTERM, and not for its memory) has not. Failures count since the latest task that lasted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec


class Member(msgspec.Struct, frozen=True):
    """A task of a service. state: pending | running | stopping | stopped.

    `checked`: it has a health check. `healthy` runs, and passes its health check if it has one; `unhealthy` fails it,
    or was stopped because it did; `failed` ended on its own. A `leaving` one is to be replaced, because its node is
    drained. Until `protected_until` neither a deployment nor scaling in stops it. `interrupted_at`: when its spot
    capacity was taken back.
    """

    id: str
    deployment: str
    created_at: float
    zone: str = ""
    state: str = "pending"
    checked: bool = False
    healthy: bool = False
    unhealthy: bool = False
    failed: bool = False
    started_at: float | None = None
    stopped_at: float | None = None
    node: str = ""
    leaving: bool = False
    protected_until: float | None = None
    interrupted_at: float | None = None
    illness: str = ""


class BackoffRules(msgspec.Struct, frozen=True):
    """Times in seconds. The wait doubles from `base_s` to `limit_s` with each round of failures after the first."""

    base_s: float = 1.0
    limit_s: float = 300.0
    settled_s: float = 10.0
    told_after: int = 4


class History(msgspec.Struct, frozen=True):
    """Failures in a row, the time of the last, and when a task that runs will have lasted and so end the row."""

    failures: int = 0
    last_failure_at: float = 0.0
    settles_at: float | None = None


def proven(members: Sequence[Member], now: float, rules: BackoffRules) -> tuple[list[Member], float | None]:
    """The tasks with those as not yet healthy that have no health check and have not run for `settled_s`; when the next
    of them will have."""
    found, later = [], []
    for member in members:
        lasts_at = (member.started_at or now) + rules.settled_s
        if member.healthy and not member.checked and lasts_at > now:
            later.append(lasts_at)
            member = msgspec.structs.replace(member, healthy=False)
        found.append(member)
    return found, min(later, default=None)


def history(members: Sequence[Member], now: float, rules: BackoffRules) -> History:
    """The history of one deployment's tasks."""
    since = max((m.created_at for m in members if _settled(m, now, rules)), default=0.0)
    failures = [m for m in members if m.created_at > since and _failure(m, rules)]
    if not failures:
        return History()
    settling = [m.started_at + rules.settled_s for m in members if m.state == "running" and m.started_at]
    return History(
        len(failures),
        max(m.stopped_at or m.created_at for m in failures),
        min((at for at in settling if at > now), default=None),
    )


def rounds(told: History, desired: int) -> int:
    """How often, in a row, all the tasks that are wanted have failed."""
    return math.ceil(told.failures / max(1, desired))


def not_before(told: History, desired: int, rules: BackoffRules) -> float:
    """When the next task may start; the first failure is replaced at once."""
    number = rounds(told, desired)
    if number < 2:
        return 0.0
    return told.last_failure_at + min(rules.base_s * 2.0 ** min(number - 2, 30), rules.limit_s)


def _settled(member: Member, now: float, rules: BackoffRules) -> bool:
    if member.started_at is None or member.unhealthy:
        return False
    if member.state == "running" and not member.healthy:
        return False
    until = now if member.state == "running" else member.stopped_at
    return until is not None and until - member.started_at >= rules.settled_s


def _failure(member: Member, rules: BackoffRules) -> bool:
    if member.state not in ("stopping", "stopped"):
        return False
    return member.unhealthy or (member.failed and not _settled(member, member.stopped_at or 0.0, rules))
