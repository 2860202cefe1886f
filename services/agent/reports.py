"""Says what became of tasks: writes their TaskStatus, only the newest, until it lands."""

from __future__ import annotations

import asyncio

import structlog
from msgspec.structs import replace

from contracts.kinds import Key
from contracts.records.agent import TASK_STATUS, TaskStatus
from services.shared import telemetry
from services.shared.bus import Bus, Conflict
from services.shared.errors import StateUnavailable
from services.shared.state import Store

log = structlog.get_logger()

FIRST_RETRY_S, LAST_RETRY_S = 0.05, 2.0


class Reports:
    """The statuses of this agent's tasks, on their way out. While NATS is away only the newest of each is kept."""

    def __init__(self, bus: Bus, store: Store) -> None:
        self._bus = bus
        self._store = store
        self._newest: dict[Key, tuple[TaskStatus | None, str | None]] = {}
        self._writing: dict[Key, asyncio.Task[None]] = {}

    def last(self, key: Key) -> TaskStatus | None:
        """What will be known of this task when all has landed."""
        waiting = self._newest.get(key)
        return waiting[0] if waiting else self._store.table(TASK_STATUS).record(*key)

    def offer(self, status: TaskStatus) -> None:
        """Report it, in the current trace."""
        self._enqueue(TASK_STATUS.key_of(status), status)

    def forget(self, key: Key) -> None:
        """Delete the status: nobody wants to know of the task any more."""
        self._enqueue(key, None)

    async def settled(self, key: Key) -> None:
        """Return when what was offered of this task has landed."""
        while (writing := self._writing.get(key)) is not None:
            await asyncio.wait([writing])

    async def close(self) -> None:
        """Give up what has not landed: the next agent finds out anew."""
        for writing in self._writing.values():
            writing.cancel()
        await asyncio.gather(*self._writing.values(), return_exceptions=True)
        self._writing.clear()

    def _enqueue(self, key: Key, status: TaskStatus | None) -> None:
        self._newest[key] = (status, telemetry.traceparent())
        if key not in self._writing:
            self._writing[key] = asyncio.ensure_future(self._write_all(key))

    async def _write_all(self, key: Key) -> None:
        delay = FIRST_RETRY_S
        while (item := self._newest.get(key)) is not None:
            try:
                await self._write(key, *item)
            except (StateUnavailable, Conflict) as error:
                log.warning("task.report_delayed", task=key[-1], error=str(error))
                await self._wait(delay)
                delay = min(delay * 2, LAST_RETRY_S)
                continue
            except Exception:
                log.exception("task.report_failed", task=key[-1])
                await asyncio.sleep(LAST_RETRY_S)
                continue
            delay = FIRST_RETRY_S
            if self._newest.get(key) is item:
                del self._newest[key]
        # In the same step as the look at what is to be written: what is offered from now on gets a writer of its own.
        del self._writing[key]

    async def _wait(self, delay: float) -> None:
        if self._bus.connected.is_set():
            await asyncio.sleep(delay)
        await self._bus.connected.wait()

    async def _write(self, key: Key, status: TaskStatus | None, trace: str | None) -> None:
        if status is None:
            await self._store.delete(TASK_STATUS, key, "task_status.forgotten.v1")
            return
        stored = self._store.table(TASK_STATUS).record(*key)
        version = stored.version if stored is not None else 0
        if replace(status, version=version) == stored:
            return
        status = replace(status, version=version + 1)
        state = status.last_status
        with telemetry.continued(f"agent.report {state}", trace, kind="PRODUCER", task=status.task):
            await self._store.put(TASK_STATUS, status, f"task.{state.lower()}.v1")
