"""A fleet of nodes that run nothing, in one process with one connection: they register, beat, and say of each task that
is placed on them that it runs, or that it has stopped. The scheduler and NATS see what they see of as many agents.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec

from contracts.kinds import Key
from contracts.records.agent import NODE, TASK_STATUS, ContainerStatus, NetworkInterface, Node, TaskStatus
from contracts.records.scheduler import TASK, Task
from contracts.subjects import heartbeat
from services.shared.bus import Bus, Conflict
from services.shared.clock import system_clock
from services.shared.errors import StateUnavailable
from services.shared.state import Change, View
from tests.bench.beside import agents_bus, beside
from tests.builders.processes import ProcessPlatform

ZONES = ("us-east-1a", "us-east-1b", "us-east-1c")
BEAT_S = 2.0
"""As agents do (services/agent/settings.py)."""

SLICES = 40
WRITES = 128
"""How many are under way at a time, of all nodes together."""

_encode = msgspec.json.Encoder().encode


class Fleet:
    """`count` nodes over three zones, each with room for `room` tasks of a quarter of a core."""

    def __init__(self, bus: Bus, count: int, room: int) -> None:
        self._bus = bus
        self._room = room
        self._nodes = [f"fleet-{number:05d}" for number in range(count)]
        self._silent: set[str] = set()
        self._told: dict[Key, tuple[int, str]] = {}
        self._queue: asyncio.Queue[Key] = asyncio.Queue()
        self._work: list[asyncio.Task[Any]] = []

    async def start(self) -> None:
        """Register all, then beat and follow."""
        gate = asyncio.Semaphore(WRITES)

        async def register(number: int) -> None:
            async with gate:
                await self._put(NODE.subject((self._nodes[number],)), self._node(number), "node.registered.v1", 0)

        await asyncio.gather(*(register(number) for number in range(len(self._nodes))))
        self._view = await View.open(self._bus, TASK)
        self._tasks = self._view.table(TASK)
        self._view.listen(self._heard)
        self._work = [self._bus.spawn(self._beat(), "beat")]
        self._work += [self._bus.spawn(self._answer(), "answer") for _ in range(WRITES)]

    async def stop(self) -> None:
        """Be gone."""
        for work in self._work:
            work.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        await self._view.close()

    def lose(self, zone: str) -> int:
        """The nodes of a zone are heard of no more; how many they are."""
        self._silent = {name for number, name in enumerate(self._nodes) if ZONES[number % 3] == zone}
        return len(self._silent)

    def _node(self, number: int) -> Node:
        return Node(
            node=self._nodes[number],
            zone=ZONES[number % 3],
            cpu_units=256 * self._room,
            memory_mib=512 * self._room,
            registered_at=system_clock(),
            session=f"session-{number}",
        )

    async def _beat(self) -> None:
        """Each node once in BEAT_S, not all at the same moment."""
        while True:
            for part in range(SLICES):
                for name in self._nodes[part::SLICES]:
                    if name not in self._silent:
                        await self._bus.tell(heartbeat(name))
                await asyncio.sleep(BEAT_S / SLICES)

    def _heard(self, change: Change) -> None:
        if change.kind is TASK and change.key[3] not in self._silent:
            self._queue.put_nowait(change.key)

    async def _answer(self) -> None:
        while True:
            key = await self._queue.get()
            task = self._tasks.record(*key)
            with contextlib.suppress(StateUnavailable, Conflict):
                if task is not None:
                    await self._bring(key, task)

    async def _bring(self, key: Key, task: Task) -> None:
        sequence, said = self._told.get(key, (0, ""))
        status = "RUNNING" if task.desired_status == "RUNNING" else "STOPPED"
        if said == status:
            return
        self._told[key] = (sequence, status)
        record = _status(task, status)
        sequence = await self._put(TASK_STATUS.subject(key), record, "task_status.changed.v1", sequence)
        self._told[key] = (sequence, status)

    async def _put(self, subject: str, record: msgspec.Struct, event: str, expect: int) -> int:
        headers = {"Nats-Expected-Last-Subject-Sequence": str(expect), "Event": event}
        return await self._bus.publish(subject, _encode(record), headers)


def _status(task: Task, last: str) -> TaskStatus:
    now = system_clock()
    container = ContainerStatus(
        name="main", image="fleet", image_digest="sha256:" + "0" * 64, runtime_id=f"{task.id}-main", last_status=last,
        started_at=now, exit_code=0 if last == "STOPPED" else None,
    )  # fmt: skip
    return TaskStatus(
        account=task.account,
        region=task.region,
        cluster=task.cluster,
        node=task.node,
        task=task.id,
        last_status=last,
        pull_started_at=now,
        pull_stopped_at=now,
        started_at=now,
        stopped_at=now if last == "STOPPED" else None,
        network=NetworkInterface(private_ipv4="10.77.0.5", mac_address="02:00:0a:4d:00:05"),
        containers=[container],
    )


@contextlib.contextmanager
def fleet(platform: ProcessPlatform, count: int, room: int) -> Iterator[Fleet]:
    """The nodes, in a thread of this process."""
    with beside(_fleet(platform, count, room)) as one:
        yield one


@contextlib.asynccontextmanager
async def _fleet(platform: ProcessPlatform, count: int, room: int) -> AsyncIterator[Fleet]:
    async with agents_bus(platform.nats_url, platform.passwords["agent"]) as bus:
        one = Fleet(bus, count, room)
        await one.start()
        try:
            yield one
        finally:
            await one.stop()
