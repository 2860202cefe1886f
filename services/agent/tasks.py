"""One task on this node: brought up (or adopted), watched, stopped, reported and removed. Level-triggered: it is told
what is wanted now, never what changed.

    plan → sandbox and pulls, at once → containers as their dependencies allow → RUNNING
         → stop asked for, or an essential container over → the others stopped, in reverse → STOPPED → removed

Reports are few: RUNNING is the first one unless the start takes longer than `pending_after_s`, then PENDING is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec
import structlog

from contracts.records.agent import TaskStatus
from contracts.records.scheduler import TASK, Task
from contracts.rpc.identity import Session
from services.agent.containers import ContainerRun, remove_all, remove_volumes
from services.agent.decisions.members import PlanError
from services.agent.decisions.order import dependents
from services.agent.decisions.plan import (
    METADATA_ADDRESS,
    ContainerPlan,
    TaskPlan,
    container_spec,
    plan_task,
)
from services.agent.decisions.status import (
    ESSENTIAL_EXITED,
    GONE,
    Cause,
    Run,
    container_status,
    exit_of,
    health_of,
    interface,
    run_of,
)
from services.agent.draining import drained, drains
from services.agent.endpoint import TaskEndpoint
from services.agent.node import NodeParts
from services.agent.ports import Container, RuntimeFailure, Sandbox, Stats
from services.agent.supplies import Supplies
from services.shared import telemetry
from services.shared.state import Entry

log = structlog.get_logger()

FAILED_TO_START = "TaskFailedToStart"
CREDENTIALS_LABEL = "roadstead.credentials"


class TaskRunner:
    """Runs one task. `sandbox` and `status` are what an agent before this one left of it."""

    def __init__(
        self,
        node: NodeParts,
        entry: Entry[Task],
        credentials_id: str,
        sandbox: Sandbox | None,
        status: TaskStatus | None,
    ) -> None:
        self._node = node
        self._entry = entry
        self._adopted = sandbox
        self._status = status
        self.credentials_id = sandbox.labels.get(CREDENTIALS_LABEL, credentials_id) if sandbox else credentials_id
        self.plan: TaskPlan
        self.sandbox = sandbox or Sandbox(entry.record.id)
        self.pulled: tuple[float | None, float | None] = (
            (status.pull_started_at, status.pull_stopped_at) if status else (None, None)
        )
        self._standing = sandbox is not None
        self._attempted = sandbox is not None
        self._containers: dict[str, ContainerRun] = {}
        self._cause: Cause | None = None
        self._over = asyncio.Event()
        self._settled = asyncio.Event()
        self._endpoint = TaskEndpoint(self)
        self._listening = False
        self._making: asyncio.Future[Sandbox] | None = None
        self._released = asyncio.Event()
        self._times: dict[str, float | None] = {"started_at": status.started_at if status else None}
        self._known = "PENDING"
        self.stopped = False
        self.wanted(entry)

    @property
    def task(self) -> Task:
        """What is wanted."""
        return self._entry.record

    def wanted(self, entry: Entry[Task] | None) -> None:
        """What is wanted now; None when the task's record is gone."""
        if entry is not None:
            self._entry = entry
        if entry is None or entry.record.desired_status == "STOPPED":
            self._end(Cause())

    def _end(self, cause: Cause) -> None:
        if self._cause is None:
            self._cause = cause
            self._over.set()
            self._settled.set()

    async def run(self) -> None:
        """The task's whole life here. Cancelling it lets the containers go on."""
        try:
            await self._live()
        except Exception as error:
            log.exception("task.failed", task=self.task.id)
            self._end(Cause(FAILED_TO_START, f"AgentError: {type(error).__name__}: {error}"))
            if not self.stopped:
                await self._take_down()
            await self._clean_up()

    async def _live(self) -> None:
        name = "agent.adopt_task" if self._adopted else "agent.start_task"
        with telemetry.continued(name, self._entry.trace, task=self.task.id, node=self.task.node) as span:
            await self._bring_up()
            if self._cause is not None and self._cause.code:
                span.set_attribute("reason", self._cause.reason or "")
        await self._over.wait()
        asked = self._cause is not None and self._cause.code is None
        if asked and self._times["started_at"] is not None and drains(self.task):
            self._report("DEACTIVATING")
            await drained(self._node.bus, self.task)
        with telemetry.continued("agent.stop_task", self._entry.trace if asked else None, task=self.task.id):
            await self._take_down()
        await self._clean_up()

    async def abandon(self) -> None:
        """The agent ends: let go of everything without touching the containers."""
        for container in self._containers.values():
            container.abandon()
        await self._endpoint.stop()

    # -- bringing up

    async def _bring_up(self) -> None:
        slow = asyncio.get_running_loop().call_later(
            self._node.settings.pending_after_s, lambda: None if self._settled.is_set() else self._report("PENDING")
        )
        try:
            if await self._make_plan() and not self._over.is_set():
                await self._unless_over(self._prepare())
            if not self._over.is_set():
                for container in self._containers.values():
                    container.driver = asyncio.ensure_future(self._drive(container))
            await self._settled.wait()
        except PlanError as error:
            self._end(Cause(FAILED_TO_START, error.reason))
        except RuntimeFailure as failure:
            self._end(Cause(FAILED_TO_START, f"ResourceInitializationError: {failure.reason}"))
        finally:
            slow.cancel()

    async def _make_plan(self) -> bool:
        definition = await self._node.definition(self.task)
        if definition is None:
            self._end(Cause(FAILED_TO_START, f"There is no task definition {self.task.task_definition}"))
            return False
        key = {f: getattr(self.task, f) for f in ("account", "region", "cluster", "node")}
        labels = {**key, "task": self.task.id, CREDENTIALS_LABEL: self.credentials_id}
        self.plan = plan_task(self.task, definition, labels, self._node.volumes_root, self._node.file_systems)
        self._supplies = Supplies(self._node, self.task, self.plan)
        for plan in self.plan.containers:
            self._containers[plan.name] = ContainerRun(self._node, plan, self._on_change)
        return True

    async def _unless_over(self, work: Coroutine[Any, Any, None]) -> None:
        doing, over = asyncio.ensure_future(work), asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait([doing, over], return_when=asyncio.FIRST_COMPLETED)
            if doing.done():
                await doing
        finally:
            for task in (doing, over):
                task.cancel()
            await asyncio.gather(doing, over, return_exceptions=True)

    async def _prepare(self) -> None:
        """The sandbox, the images, and what an agent before this one left of the containers."""
        if self._adopted is not None:
            self._recover(await self._node.runtime.containers(self._adopted.id))
            await self._node.groups.enter(self.task, self._adopted, adopted=True)
            await self._listen()
        wanted = [c for c in self._containers.values() if c.found is None and not c.over.is_set()]
        alike: dict[tuple[str, str], list[ContainerRun]] = {}
        for container in wanted:
            alike.setdefault((container.plan.image, container.plan.registry_secret), []).append(container)
        pulls = [self._pull(containers) for containers in alike.values()]
        if pulls:
            self.pulled = (self._node.clock(), None)
        sandbox = () if self._standing else (self._make_sandbox(),)
        values = self._supplies.resolve(c.plan for c in wanted)
        results = await asyncio.gather(*sandbox, *pulls, values, return_exceptions=True)
        if pulls:
            self.pulled = (self.pulled[0], self._node.clock())
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def _recover(self, found: list[Container]) -> None:
        by_id = {c.id: c for c in found}
        known = {c.name: c for c in self._status.containers} if self._status else {}
        for container in self._containers.values():
            before = known.get(container.plan.name)
            container.restore(run_of(before), by_id.get(container.plan.id))
            if container.found is None and before is not None and before.last_status != "PENDING":
                if before.last_status == "STOPPED" and before.started_at is None:
                    container.run = Run()  # it was reported as never started: that stays so
                container.finish(exit_of(before), before.reason or GONE)

    async def _make_sandbox(self) -> None:
        spec = self.plan.sandbox
        await self._node.released(spec.ports)
        self._node.require_storage(self.plan.storage_gib)
        for directory in self.plan.directories:
            Path(directory).mkdir(parents=True, exist_ok=True)
        self._attempted = True
        with telemetry.span("agent.create_sandbox", network_mode=spec.network_mode):
            self._making = asyncio.ensure_future(self._node.runtime.create_sandbox(spec))
            self.sandbox = await asyncio.shield(self._making)  # half a sandbox could not be removed: let it finish
        self._standing = True
        if await self._node.groups.enter(self.task, self.sandbox):
            self._report("PENDING")  # with its address: whom others know by a group, they must know before it runs
        await self._listen()

    async def _listen(self) -> None:
        sockets = self._node.runtime.listen(self.sandbox, METADATA_ADDRESS, 80)
        self._listening = bool(sockets)
        if sockets:
            await self._endpoint.start(sockets)

    async def _pull(self, containers: list[ContainerRun]) -> None:
        """The image that these containers have in common."""
        plan = containers[0].plan
        try:
            with telemetry.span("agent.pull", image=plan.image):
                pulled = await self._supplies.image(plan)
        except RuntimeFailure as failure:
            for container in containers:
                container.finish(None, f"{failure.code}: {failure.reason}")
            return
        for container in containers:
            container.image = pulled
            container.run = msgspec.structs.replace(container.run, image_digest=pulled.digest)

    # -- watching

    async def _drive(self, container: ContainerRun) -> None:
        """One container: started when its dependencies allow, waited for."""
        try:
            if not container.over.is_set():
                container.start_ended(await self._start(container))
                container.finish(await container.end(lambda: self._launch(container), self._over))
        except RuntimeFailure as failure:
            container.finish(None, f"{failure.code}: {failure.reason}")
        except PlanError as error:
            container.finish(None, error.reason)
        except Exception as error:
            log.exception("container.failed", container=container.plan.id)
            container.finish(None, f"ContainerRuntimeError: {type(error).__name__}: {error}")

    async def _start(self, container: ContainerRun) -> float:
        found, plan = container.found, container.plan
        if found is not None and found.state != "created":
            return found.started_at or (found.exit.started_at if found.exit else 0.0)
        for dependency in plan.depends_on:
            await self._containers[dependency.container].resolve(dependency)
        container.starting = True
        with telemetry.span("agent.start_container", container=plan.name):
            if found is not None:
                return await self._node.runtime.start_container(plan.id)
            return await self._launch(container)

    async def _launch(self, container: ContainerRun) -> float:
        """Make and start a container that is not there: the first time, or again. An adopted one has no image yet."""
        plan = container.plan
        if container.image is None:
            container.image = await self._supplies.image(plan)
        environment = await self._supplies.environment(plan, self.credentials_id, metadata=self._listening)
        devices = self._node.devices(plan.gpus) if plan.gpus else []
        spec = container_spec(self.plan, plan, container.image, environment, devices)
        return await self._node.runtime.run_container(self.sandbox, spec)

    def _on_change(self, container: ContainerRun) -> None:
        """A container started, ended, or its health changed."""
        all_of_them = self._containers.values()
        launched = all(c.launched.is_set() for c in all_of_them)
        if launched and self._times["started_at"] is None and any(c.run.started_at for c in all_of_them):
            self._times["started_at"] = self._node.clock()
        if container.over.is_set() and (container.plan.essential or all(c.over.is_set() for c in all_of_them)):
            if container.run.started_at is None:
                self._end(Cause(FAILED_TO_START, container.run.reason))
            else:
                self._end(Cause("EssentialContainerExited", ESSENTIAL_EXITED))
        if launched and not self._over.is_set():
            self._report("RUNNING")
            self._settled.set()

    # -- taking down

    async def _take_down(self) -> None:
        """Stop every container after those that depend on it, and report how it went."""
        self._times["stopping_at"] = self._node.clock()
        self._released = self._node.release_begins(self.sandbox.ports)
        slow = asyncio.get_running_loop().call_later(self._node.settings.pending_after_s, self._report, "STOPPING")
        try:
            dependencies = self.plan.dependencies() if self._containers else {}
            await asyncio.gather(*(self._stop(c, dependencies) for c in self._containers.values()))
        finally:
            slow.cancel()
        now = self._node.clock()
        self._times |= {"execution_stopped_at": now, "stopped_at": now}
        shipping = [c.shipping for c in self._containers.values() if c.shipping is not None]
        if shipping:
            # Who waits for STOPPED and then reads the logs shall find them; NATS being away must not hold it up.
            await asyncio.wait(shipping, timeout=self._node.settings.logs_before_stopped_s)
        self._times["stopped_at"] = self._node.clock()
        self.stopped = True
        self._report("STOPPED")

    async def _stop(self, container: ContainerRun, dependencies: dict[str, list[str]]) -> None:
        for name in dependents(dependencies, container.plan.name):
            await self._containers[name].over.wait()
        if container.driver is not None and not container.launched.is_set() and container.starting:
            await container.launched.wait()
        if not container.launched.is_set():
            if container.driver is not None:
                container.driver.cancel()
            container.finish(None)
        async with container.moving:
            stop_by = self.task.stop_by
            await container.stop(stop_by - self._node.clock() if stop_by is not None else None)

    async def _clean_up(self) -> None:
        """Remove what stands, once all output has been shipped."""
        try:
            await asyncio.gather(*(c.shipping for c in self._containers.values() if c.shipping is not None))
            # What is removed can't be asked again: the exit codes must be written down by then.
            await self._node.reports.settled(TASK.key_of(self.task))
            await self._endpoint.stop()
            await self._node.groups.leave(self.sandbox.id)
            if self._making is not None:
                await asyncio.wait([self._making])
            if self._attempted:
                await remove_all(self._node, self.task.id, [c.plan.id for c in self._containers.values()])
            remove_volumes(self._node, self.task.id)
            self._node.sessions.drop(self.task.id)
        finally:
            self._node.release_ends(self.sandbox.ports, self._released)

    # -- telling

    def _report(self, state: str) -> None:
        self._known = state
        task, standing = self.task, self.sandbox if self._standing else None
        cause = self._cause or Cause()
        self._node.reports.offer(
            TaskStatus(
                account=task.account,
                region=task.region,
                cluster=task.cluster,
                node=task.node,
                task=task.id,
                last_status=state,
                health_status=health_of(self.runs()) if state == "RUNNING" else "UNKNOWN",
                containers=[container_status(plan, run, standing) for plan, run in self.runs()],
                network=interface(task, standing),
                pull_started_at=self.pulled[0],
                pull_stopped_at=self.pulled[1],
                stop_code=cause.code,
                stopped_reason=cause.reason,
                **self._times,
            )
        )

    def runs(self) -> list[tuple[ContainerPlan, Run]]:
        """The containers and how they are."""
        return [(c.plan, c.run) for c in self._containers.values()]

    def states(self) -> tuple[str, str]:
        """The desired and the known status."""
        return self.task.desired_status, self._known

    def running(self) -> dict[str, float]:
        """The containers that run, with when each started (seconds)."""
        found = (c for c in self._containers.values() if c.run.state == "RUNNING" and not c.over.is_set())
        return {c.plan.id: c.run.started_at or 0.0 for c in found}

    def has_own_network(self) -> bool:
        """Whether its traffic is its own and not the machine's."""
        return self.plan.network_mode != "host"

    async def stats(self, container_id: str) -> Stats:
        """What a container uses now. Raises RuntimeFailure."""
        return await self._node.runtime.stats(container_id)

    async def session(self) -> Session:
        """Credentials of the task's role. Raises CommandRefused, StateUnavailable."""
        return await self._node.sessions.of(self.plan.task_role_arn, self.task)
