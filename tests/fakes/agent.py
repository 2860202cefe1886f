"""An agent without a runtime: it writes Node and TaskStatus over NATS as the real one does, and fails on command."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec.structs import replace

from contracts.kinds import Key
from contracts.records.agent import NODE, TASK_STATUS, ContainerStatus, NetworkInterface, Node, TaskStatus
from contracts.records.scheduler import TASK, TASK_DEFINITION, Task, TaskDefinition
from contracts.subjects import heartbeat
from services.shared.bus import Bus
from services.shared.clock import system_clock
from services.shared.errors import StateUnavailable
from services.shared.state import Change, Conflict, Store, View, fetch

Outcome = Callable[[Task], str]


def runs(task: Task) -> str:
    """The task starts and stays."""
    return "run"


def crashes(task: Task) -> str:
    """The task starts and exits at once with 1."""
    return "crash"


def hangs(task: Task) -> str:
    """The task stays PENDING."""
    return "hang"


class FakeAgent:
    """One node. `behave` says what becomes of a task: run, crash, hang, or sick (runs, and fails its health check)."""

    def __init__(self, bus: Bus, node: Node, *, beat_s: float = 0.1) -> None:
        self.bus = bus
        self.node = node
        self.behave: Outcome = runs
        self.address = "10.77.0.5"
        """Where tasks say that they are reached."""
        self.started: list[str] = []
        self._beat_s = beat_s
        self._beating: asyncio.Task[None] | None = None
        self._pending: dict[Key, asyncio.Lock] = {}

    async def start(self) -> None:
        """Register, beat, follow the tasks."""
        self.store = await Store.open(self.bus, (NODE, TASK_STATUS))
        await self.store.put(NODE, self.node, "node.registered.v1")
        self._beating = self.bus.spawn(self._beat(), "beat")
        self.view = await View.open(self.bus, TASK, filters=(TASK.filter(node=self.node.node),))
        self.view.listen(self._heard)
        for key in self.view.table(TASK).all_keys():
            self.bus.spawn(self._follow(key), "follow")

    def silence(self) -> None:
        """Stop the heartbeats: the node is away, as far as anyone can tell."""
        if self._beating is not None:
            self._beating.cancel()
            self._beating = None

    def speak(self) -> None:
        """Beat again."""
        self._beating = self.bus.spawn(self._beat(), "beat")

    async def _beat(self) -> None:
        while True:
            await self.bus.tell(heartbeat(self.node.node))
            await asyncio.sleep(self._beat_s)

    def status(self, task_id: str) -> TaskStatus | None:
        """What this agent last said of a task."""
        return next((s for s in self._statuses() if s.task == task_id), None)

    def running(self) -> list[str]:
        """The ids of tasks that run here."""
        return [s.task for s in self._statuses() if s.last_status == "RUNNING"]

    def _statuses(self) -> list[TaskStatus]:
        return [s for s in self.store.table(TASK_STATUS).records() if s.node == self.node.node]

    def _heard(self, change: Change) -> None:
        self.bus.spawn(self._follow(change.key), "follow")

    async def _follow(self, key: Key) -> None:
        async with self._pending.setdefault(key, asyncio.Lock()):
            while True:
                try:
                    return await self._bring(key)
                except StateUnavailable:
                    await asyncio.sleep(0.05)
                except Conflict:
                    await self.store.refresh(TASK_STATUS, key)

    async def _bring(self, key: Key) -> None:
        task = self.view.table(TASK).record(*key)
        known = self.store.table(TASK_STATUS).record(*key)
        if task is None:
            await self.store.delete(TASK_STATUS, key, "task_status.forgotten.v1")
        elif task.desired_status == "STOPPED":
            if known is None or known.last_status != "STOPPED":
                await self.end(task.id, exit_code=0 if known is not None else None, on_its_own=False)
        elif known is None:
            await self._begin(task)

    async def _begin(self, task: Task) -> None:
        how = self.behave(task)
        self.started.append(task.id)
        family, _, revision = task.task_definition.rpartition(":")
        definition = await fetch(self.bus, TASK_DEFINITION, (task.account, task.region, family, revision))
        status = self._status(task, definition)
        if how == "hang":
            await self._put(replace(status, last_status="PENDING", started_at=None))
            return
        if how == "sick":
            status = replace(status, health_status="UNHEALTHY")
        await self._put(status)
        if how == "crash":
            await self.end(task.id, exit_code=1)

    def _status(self, task: Task, definition: TaskDefinition | None) -> TaskStatus:
        now = system_clock()
        containers = definition.definition["containerDefinitions"] if definition is not None else []
        return TaskStatus(
            account=task.account,
            region=task.region,
            cluster=task.cluster,
            node=task.node,
            task=task.id,
            last_status="RUNNING",
            pull_started_at=now,
            pull_stopped_at=now,
            started_at=now,
            network=NetworkInterface(private_ipv4=self.address, mac_address="02:00:0a:4d:00:05"),
            containers=[
                ContainerStatus(
                    name=c["name"],
                    image=c["image"],
                    image_digest="sha256:" + "0" * 64,
                    runtime_id=f"{task.id}-{c['name']}",
                    last_status="RUNNING",
                    started_at=now,
                    essential=c.get("essential", True),
                )
                for c in containers
            ],
        )

    async def health(self, task_id: str, health: str) -> None:
        """Let the task's health check say HEALTHY or UNHEALTHY."""
        status = self.status(task_id)
        assert status is not None, f"{task_id} is not here"
        await self._put(replace(status, health_status=health))

    async def end(self, task_id: str, exit_code: int | None = 0, *, on_its_own: bool = True) -> None:
        """Let the task be STOPPED, on its own or because it was wanted."""
        status = self.status(task_id)
        if status is None:
            task = next(t for t in self.view.table(TASK).records() if t.id == task_id)
            status = self._status(task, None)
        now = system_clock()
        await self._put(
            replace(
                status,
                last_status="STOPPED",
                stopping_at=now,
                execution_stopped_at=now,
                stopped_at=now,
                stop_code="EssentialContainerExited" if on_its_own else None,
                stopped_reason="Essential container in task exited" if on_its_own else None,
                containers=[
                    replace(c, last_status="STOPPED", exit_code=exit_code, stopped_at=now) for c in status.containers
                ],
            )
        )

    async def _put(self, status: TaskStatus) -> None:
        known = self.store.table(TASK_STATUS).record(*TASK_STATUS.key_of(status))
        status = replace(status, version=1 if known is None else known.version + 1)
        await self.store.put(TASK_STATUS, status, f"task.{status.last_status.lower()}.v1")
