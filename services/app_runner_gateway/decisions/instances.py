"""How far a task is, as the gateway sees it."""

from __future__ import annotations

from contracts.records.agent import TaskStatus
from contracts.records.scheduler import Task

STARTING, RUNNING, STOPPING, GONE = "starting", "running", "stopping", "gone"


def stage(task: Task, status: TaskStatus | None) -> str:
    """starting | running (with an address) | stopping | gone."""
    last = status.last_status if status is not None else ""
    if task.lost_at is not None or last in ("STOPPED", "DEPROVISIONING"):
        return GONE
    if task.desired_status == "STOPPED" or last in ("STOPPING", "DEACTIVATING"):
        return STOPPING
    if status is None or last != "RUNNING" or status.network is None:
        return STARTING
    return RUNNING
