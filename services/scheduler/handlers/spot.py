"""Spot capacity is taken back, and given again: one write of what an operator asked for."""

from __future__ import annotations

from contracts.records.scheduler import SPOT_RECLAIM, TASK, SpotReclaim, Task
from services.scheduler.adapters import World
from services.scheduler.decisions import life, spot
from services.scheduler.decisions.spot import BadInterruption
from services.scheduler.handlers.tasks import stop_task


async def interrupt_task(world: World, task: Task, until: float) -> None:
    """Want it stopped, as a Spot interruption; what still runs `until` then is killed."""
    await stop_task(world, TASK.key_of(task), code=life.SPOT_INTERRUPTION, reason=spot.REASON, stop_by=until)


async def interrupt(world: World, asked: spot.Interruption) -> list[str]:
    """Take back a task's capacity, or a node's: the controller interrupts what is there. The ids of the tasks that this
    means now. Raises BadInterruption, StateUnavailable."""
    world.require_connection()
    now = world.clock()
    if asked.task:
        task = spot.named(asked.task, world.tasks_in())
        await interrupt_task(world, task, now + asked.notice_s)
        return [task.id]
    node = world.nodes.record(asked.node)
    if node is None:
        raise BadInterruption(f"node: there is no node {asked.node}")
    if node.capacity_kind not in spot.KINDS:
        raise BadInterruption(f"node: {asked.node} is of kind {node.capacity_kind} and has no spot capacity")
    fresh = SpotReclaim(node=asked.node, since=now, until=now + asked.notice_s)

    def begin(old: SpotReclaim | None) -> SpotReclaim:
        return old if old is not None and old.until <= fresh.until else fresh

    await world.store.update(SPOT_RECLAIM, (asked.node,), begin, "spot_reclaim.begun.v1")
    return sorted(task.id for task, status in world.tasks_on(asked.node) if spot.interruptible(task, status))


async def release(world: World, node: str) -> bool:
    """Give a node's spot capacity again; whether it had been taken. Raises StateUnavailable."""
    world.require_connection()
    if world.reclaims.record(node) is None:
        return False
    await world.store.delete(SPOT_RECLAIM, (node,), "spot_reclaim.ended.v1")
    return True
