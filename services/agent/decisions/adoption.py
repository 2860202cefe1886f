"""What to do with a task, given what is wanted, what was reported, and what stands on the node."""

from __future__ import annotations

from enum import Enum

from contracts.records.agent import TaskStatus
from contracts.records.scheduler import Task

NEVER_STARTED = frozenset({"PROVISIONING", "PENDING"})


class Verdict(Enum):
    """What is to be done."""

    NOTHING = "nothing"
    RUN = "run"
    """Bring it up, or adopt what stands of it; a task that is to stop is stopped and reported."""
    LOST = "lost"
    """It ran, and nothing of it is left: report it stopped."""
    REMOVE = "remove"
    """It is over: ship what is left of its logs, remove what stands."""
    FORGET = "forget"
    """Nobody wants to know of it any more: delete its status."""


def verdict(task: Task | None, status: TaskStatus | None, stands: bool) -> Verdict:
    """`stands`: its sandbox is on this node. A status is this agent's own last word."""
    if task is None:
        if stands:
            return Verdict.REMOVE
        return Verdict.FORGET if status is not None else Verdict.NOTHING
    if status is not None and status.last_status == "STOPPED":
        return Verdict.REMOVE if stands else Verdict.NOTHING
    if stands or status is None or (status.last_status in NEVER_STARTED and status.started_at is None):
        return Verdict.RUN
    return Verdict.LOST
