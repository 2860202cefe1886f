"""Spot capacity that is taken back: which tasks that means, and what a service is told of it.

A warning comes first, with SIGTERM; what still runs when the notice is over is killed.
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-capacity-providers.html
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from contracts.records.agent import TaskStatus
from contracts.records.scheduler import Service, Task
from services.scheduler.decisions import life, messages
from services.scheduler.decisions.backoff import Member

SPOT = "FARGATE_SPOT"
REASON = "Your Spot Task was interrupted."
NOTICE_S = 120.0
MOST_NOTICE_S = 3600.0
KINDS = ("FARGATE", SPOT)
"""The kinds of nodes that have spot capacity."""


class Interruption(msgspec.Struct, frozen=True):
    """What an operator asks for: a task (its id, the beginning of it, or its ARN) or a node; the notice in seconds."""

    task: str = ""
    node: str = ""
    notice_s: float = NOTICE_S


class BadInterruption(Exception):
    """It can't be asked for; the text names the member."""


def read(body: bytes) -> Interruption:
    """The request in wire form. Raises BadInterruption."""
    try:
        asked: Any = msgspec.json.decode(body, type=Interruption)
    except msgspec.MsgspecError as error:
        raise BadInterruption(str(error)) from None
    if bool(asked.task) == bool(asked.node):
        raise BadInterruption("task, node: exactly one of them is to be given")
    if not 0 <= asked.notice_s <= MOST_NOTICE_S:
        raise BadInterruption(f"notice_s: between 0 and {MOST_NOTICE_S:g} seconds")
    return msgspec.structs.replace(asked, task=asked.task.rpartition("/")[2])


def interruptible(task: Task, status: TaskStatus | None) -> bool:
    """Whether it runs on spot capacity, and is to go on."""
    return task.capacity_provider == SPOT and task.desired_status == "RUNNING" and not life.over(task, status)


def named(prefix: str, joined: Iterable[tuple[Task, TaskStatus | None]]) -> Task:
    """The one task that is meant and can be interrupted. Raises BadInterruption."""
    found = [each for each in joined if each[0].id.startswith(prefix) and not life.over(*each)]
    if len(found) != 1:
        raise BadInterruption(f"task: {len(found) or 'no'} tasks begin with {prefix!r}")
    task, status = found[0]
    if task.capacity_provider != SPOT:
        raise BadInterruption(f"task: {task.id} does not run on {SPOT}")
    if not interruptible(task, status):
        raise BadInterruption(f"task: {task.id} is stopping already")
    return task


def warnings(service: Service, members: Sequence[Member]) -> tuple[str, ...]:
    """The events of interruptions that the service's story does not tell yet. What is older than a full story was
    told before, and has fallen out of it."""
    interrupted = [m for m in members if m.interrupted_at is not None]
    if not interrupted:
        return ()
    known = {event.message for event in service.events}
    since = service.events[-1].created_at if len(service.events) >= messages.KEPT else 0.0
    told = ((m, messages.interrupted(service.name, m.id)) for m in interrupted)
    return tuple(text for m, text in told if text not in known and (m.interrupted_at or 0.0) >= since)
