"""Waits until a task that gets requests through the gateway has none left, before it is stopped."""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from contracts.records.app_runner_gateway import TARGET
from contracts.records.scheduler import Task
from services.shared.bus import Bus
from services.shared.errors import StateUnavailable
from services.shared.views import Change, View

log = structlog.get_logger()

RETRY_S = 0.5


def drains(task: Task) -> bool:
    """Whether a task that is to stop is drained first: it gets requests, and somebody knows that it is to stop."""
    return task.drain_s > 0 and task.desired_status == "STOPPED" and task.lost_at is None


async def drained(bus: Bus, task: Task) -> bool:
    """Return when the gateway says that nothing is in flight on the task; False when it has not said so in time."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(task.drain_s):
            while True:
                with contextlib.suppress(StateUnavailable):
                    await _said(bus, task)
                    return True
                await asyncio.sleep(RETRY_S)  # NATS is away: there is no event for "try again"
    log.warning("task.not_drained", task=task.id, seconds=task.drain_s)
    return False


async def _said(bus: Bus, task: Task) -> None:
    said = asyncio.Event()

    def heard(change: Change) -> None:
        if change.new is not None and change.new.record.state == "drained":
            said.set()

    fields = {name: getattr(task, name) for name in ("account", "region", "cluster", "node")}
    view = await View.open(bus, TARGET, filters=(TARGET.filter(**fields, task=task.id),), listen=heard)
    try:
        await said.wait()
    finally:
        await view.close()
