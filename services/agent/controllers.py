"""Brings what stands on this node to what the scheduler wants there: a runner a task, adoption at the start."""

from __future__ import annotations

import asyncio
import uuid

import structlog

from contracts.kinds import Key
from contracts.records.agent import TASK_STATUS
from contracts.records.exec import ExecOpen
from contracts.records.scheduler import TASK, Task
from services.agent.containers import remove_leftovers
from services.agent.decisions.adoption import Verdict, verdict
from services.agent.decisions.status import lost
from services.agent.node import NodeParts
from services.agent.ports import RuntimeFailure, Sandbox
from services.agent.tasks import TaskRunner
from services.shared import telemetry
from services.shared.state import Store
from services.shared.views import Change, Table, View

log = structlog.get_logger()

KEY_LABELS = ("account", "region", "cluster", "node", "task")


class Supervisor:
    """All tasks of one node."""

    def __init__(self, node: NodeParts, wanted: View, store: Store) -> None:
        self._node = node
        self._view = wanted
        self._wanted: Table[Task] = wanted.table(TASK)
        self._statuses = store.table(TASK_STATUS)
        self._runners: dict[Key, TaskRunner] = {}
        self._working: set[asyncio.Task[None]] = set()
        self._closing = False

    def __len__(self) -> int:
        return len(self._runners)

    def runners(self) -> list[TaskRunner]:
        """The tasks it looks after now."""
        return list(self._runners.values())

    def find(self, wanted: ExecOpen) -> str:
        """The runtime's id of the container that a session is for; empty when it does not run here."""
        for (account, region, cluster, _, task), runner in self._runners.items():
            if (account, region, cluster, task) == (wanted.account, wanted.region, wanted.cluster, wanted.task):
                running = runner.running()
                return (
                    next((c.id for c in runner.plan.containers if c.name == wanted.container and c.id in running), "")
                    if running
                    else ""
                )
        return ""

    async def start(self, sandboxes: list[Sandbox]) -> None:
        """Take over what stands, and from now on follow what is wanted. No await between the two: nothing is missed."""
        standing = {tuple(s.labels.get(name, "") for name in KEY_LABELS): s for s in sandboxes}
        for key in {*self._wanted.all_keys(), *self._statuses.all_keys(), *standing}:
            self._consider(key, standing.get(key))
        self._view.listen(self._on_change)

    async def stop(self) -> None:
        """Let go of every task; the containers go on."""
        self._closing = True
        for task in self._working:
            task.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)
        for runner in self._runners.values():
            await runner.abandon()

    def _on_change(self, change: Change) -> None:
        runner = self._runners.get(change.key)
        if runner is not None:
            runner.wanted(change.new)
        elif not self._closing:
            self._consider(change.key, None)

    def _consider(self, key: Key, sandbox: Sandbox | None) -> None:
        entry, status = self._wanted.get(*key), self._node.reports.last(key)
        match verdict(entry.record if entry else None, status, sandbox is not None):
            case Verdict.RUN:
                assert entry is not None
                runner = self._runners[key] = TaskRunner(self._node, entry, uuid.uuid4().hex, sandbox, status)
                self._spawn(self._run(key, runner), f"task.{key[-1]}")
            case Verdict.LOST:
                assert entry is not None and status is not None
                log.warning("task.lost", task=key[-1])
                self._node.reports.offer(lost(entry.record, status, self._node.clock()))
            case Verdict.REMOVE:
                assert sandbox is not None
                log.info("task.leftovers", task=key[-1], sandbox=sandbox.id)
                self._spawn(self._remove(key, sandbox), f"remove.{sandbox.id}")
            case Verdict.FORGET:
                self._node.reports.forget(key)

    async def _run(self, key: Key, runner: TaskRunner) -> None:
        with telemetry.as_service("agent"):
            await runner.run()
            await self._node.reports.settled(key)
        self._runners.pop(key, None)
        if self._wanted.get(*key) is None:
            self._consider(key, None)

    async def _remove(self, key: Key, sandbox: Sandbox) -> None:
        while True:
            try:
                await remove_leftovers(self._node, sandbox.id)
                break
            except RuntimeFailure as failure:
                log.warning("task.leftovers_stay", sandbox=sandbox.id, error=failure.reason)
                await asyncio.sleep(5.0)
        if self._wanted.get(*key) is None:
            self._consider(key, None)

    def _spawn(self, work: object, name: str) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)  # type: ignore[call-overload]
        task.set_name(f"agent.{name}")
        self._working.add(task)
        task.add_done_callback(self._working.discard)
