"""One container of a task, from its start to its end, and what is left of it removed."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import structlog

from services.agent.decisions.health import HEALTHY, Health, HealthCheck, after_check
from services.agent.decisions.plan import COMPLETE, START, SUCCESS, ContainerPlan, Dependency
from services.agent.decisions.restarts import restarts
from services.agent.decisions.status import Run, ended, failed
from services.agent.logs import LogShipper
from services.agent.node import NodeParts
from services.agent.ports import CannotStartContainerError, Container, Exit, Image, NoSuchContainer, RuntimeFailure
from services.shared.waiting import within

log = structlog.get_logger()

SHIPPING_ATTEMPTS = 5


class ContainerRun:
    """A container as it is now. `changed` is called at each step.

    Events: `launched` it started or never will; `over` it ended or never will start; `well` it is healthy or over.
    `moving` is held while it is started again: who stops it waits for that.
    """

    def __init__(self, node: NodeParts, plan: ContainerPlan, changed: Callable[[ContainerRun], None]) -> None:
        self.node = node
        self.plan = plan
        self.run = Run()
        self.image: Image | None = None
        self.found: Container | None = None
        self.starting = False
        self.driver: asyncio.Task[None] | None = None
        self.launched = asyncio.Event()
        self.over = asyncio.Event()
        self.well = asyncio.Event()
        self._changed = changed
        self._health = Health()
        self._checking: asyncio.Task[None] | None = None
        self.shipping: asyncio.Task[None] | None = None
        self.moving = asyncio.Lock()

    def restore(self, run: Run, found: Container | None) -> None:
        """Take over what an agent before this one knew, and what the runtime has."""
        self.run = run
        self.found = found
        if run.health == HEALTHY:
            self._health = Health(HEALTHY, 0, True)
            self.well.set()

    def start_ended(self, started_at: float) -> None:
        """It runs: follow its output and its health."""
        self.run = msgspec.structs.replace(self.run, state="RUNNING", started_at=started_at or self.node.clock())
        if self.plan.logging.subject and self.shipping is None:
            self.shipping = asyncio.ensure_future(self._ship())
        if self.plan.health_check is not None:
            self._checking = asyncio.ensure_future(self._check_health(self.plan.health_check))
        self.launched.set()
        self._changed(self)

    async def _ship(self) -> None:
        await ship(self.node, self.plan.id, self.plan.logging.subject, self.over, self.run.restarts)

    async def end(self, launch: Callable[[], Awaitable[float]], stopping: asyncio.Event) -> Exit:
        """Its end. Until then it is launched again as often as its restart policy says, unless its task is `stopping`.
        Raises RuntimeFailure."""
        while True:
            exit = await self.node.runtime.wait(self.plan.id)
            async with self.moving:
                if stopping.is_set() or not restarts(self.plan.restart, exit, self.run.started_at):
                    return exit
                await self._make_room()
                log.info("container.restarting", container=self.plan.id, exit_code=exit.code)
                self.start_ended(await launch())

    async def _make_room(self) -> None:
        """Remove what ended, once its output has been shipped, so that another can take its name."""
        self._let_go_of_health()
        self._health = Health()
        if self.shipping is not None:
            # Without NATS nothing is shipped, and a container is rather started without its last lines than not.
            await asyncio.wait([self.shipping], timeout=self.node.settings.logs_before_restart_s)
            self.shipping.cancel()
            self.shipping = None
        await self.node.runtime.remove_container(self.plan.id)
        self.node.cursors.remove(self.plan.id)
        self.found = None
        self.run = Run(image_digest=self.run.image_digest, restarts=self.run.restarts + 1)

    def finish(self, exit: Exit | None, reason: str = "") -> None:
        """It ended, or (without an exit) it never started or is gone."""
        if self.over.is_set():
            return
        self.run = ended(self.run, exit) if exit else failed(self.run, reason, self.node.clock())
        self._let_go_of_health()
        for event in (self.launched, self.over, self.well):
            event.set()
        self._changed(self)

    def abandon(self) -> None:
        """The agent ends; the container goes on."""
        self._let_go_of_health()
        for task in (self.driver, self.shipping):
            if task is not None:
                task.cancel()

    def _let_go_of_health(self) -> None:
        if self._checking is not None:
            self._checking.cancel()
            self._checking = None

    async def resolve(self, dependency: Dependency) -> None:
        """Return when this container fulfils what another waits for. Raises CannotStartContainerError when it never
        will, or not within its startTimeout."""
        await self.launched.wait()
        left = None
        if self.plan.start_timeout_s is not None and dependency.condition != START:
            left = (self.run.started_at or self.node.clock()) + self.plan.start_timeout_s - self.node.clock()
        event = {START: self.launched, COMPLETE: self.over, SUCCESS: self.over}.get(dependency.condition, self.well)
        try:
            await within(left if left is None else max(left, 0.001), event.wait())
        except TimeoutError:
            raise CannotStartContainerError(
                f"timed out: container {self.plan.name} did not reach {dependency.condition} within its startTimeout"
            ) from None
        run, name = self.run, self.plan.name
        never_ran = run.state == "STOPPED" and run.started_at is None
        unhappy = dependency.condition == SUCCESS and run.exit_code != 0
        unwell = dependency.condition == HEALTHY and run.state == "STOPPED"
        if never_ran or unhappy or unwell:
            how = "never started" if never_ran else f"exited with code {run.exit_code}"
            raise CannotStartContainerError(f"dependency {name} ({dependency.condition}) was not resolved: it {how}")

    async def stop(self, at_most_s: float | None = None) -> None:
        """Stop it if it runs: SIGKILL comes after its stopTimeout, or `at_most_s` seconds if that is sooner."""
        if self.over.is_set():
            return
        try:
            timeout = self.plan.stop_timeout_s
            timeout = timeout if at_most_s is None else min(timeout, max(at_most_s, 0.0))
            self.finish(await self.node.runtime.stop_container(self.plan.id, timeout))
        except NoSuchContainer as gone:
            self.finish(None, f"{gone.code}: {gone.reason}")
        except RuntimeFailure as failure:
            log.error("container.stop_failed", container=self.plan.id, error=failure.reason)
            self.finish(None, f"CannotStopContainerError: {failure.reason}")

    async def _check_health(self, check: HealthCheck) -> None:
        while True:
            await asyncio.sleep(check.interval_s)
            try:
                result = await self.node.runtime.exec(self.plan.id, check.argv, check.timeout_s)
                passed = result.exit_code == 0 and not result.timed_out
            except NoSuchContainer:
                return
            except (RuntimeFailure, OSError) as failure:
                log.warning("container.health_check_failed", container=self.plan.id, error=str(failure))
                passed = False
            age = self.node.clock() - (self.run.started_at or 0.0)
            self._health = after_check(check, self._health, passed, age)
            if self._health.status != self.run.health:
                self.run = msgspec.structs.replace(self.run, health=self._health.status)
                if self._health.status == HEALTHY:
                    self.well.set()
                self._changed(self)


async def ship(node: NodeParts, container_id: str, subject: str, over: asyncio.Event, restarts: int = 0) -> None:
    """Ship a container's output to the end; `restarts` tells one of several that had its name. What the runtime can't
    read is tried again, a container that is over a few times only."""
    attempts = 0
    while attempts < SHIPPING_ATTEMPTS:
        try:
            await LogShipper(node.runtime, node.bus, node.cursors, node.clock, container_id, subject, restarts).run()
            return
        except Exception as error:
            attempts += over.is_set()
            log.warning("logs.interrupted", container=container_id, error=str(error))
            await asyncio.sleep(0.5)


async def remove_all(node: NodeParts, sandbox_id: str, container_ids: list[str]) -> None:
    """Remove ended containers and their sandbox. A runtime that fails is asked again."""
    delay = 0.1
    while True:
        try:
            for container_id in container_ids:
                with contextlib.suppress(NoSuchContainer):
                    await node.runtime.remove_container(container_id)
            with contextlib.suppress(NoSuchContainer):
                await node.runtime.remove_sandbox(sandbox_id)
            break
        except RuntimeFailure as failure:
            log.warning("sandbox.remove_failed", sandbox=sandbox_id, error=failure.reason)
            await asyncio.sleep(delay)
            delay = min(delay * 2, 30.0)
    for container_id in container_ids:
        node.cursors.remove(container_id)


async def remove_leftovers(node: NodeParts, sandbox_id: str) -> None:
    """Remove a sandbox that nobody wants, stopping what still runs in it; its output is shipped first."""
    containers = await node.runtime.containers(sandbox_id)
    for container in containers:
        if container.state == "running":
            with contextlib.suppress(RuntimeFailure):
                await node.runtime.stop_container(container.id)
    over = asyncio.Event()
    over.set()
    shipped = [(c.id, c.labels["roadstead.logs"]) for c in containers if c.labels.get("roadstead.logs")]
    await asyncio.gather(*(ship(node, container_id, subject, over) for container_id, subject in shipped))
    await remove_all(node, sandbox_id, [c.id for c in containers])
    remove_volumes(node, sandbox_id)


def remove_volumes(node: NodeParts, task_id: str) -> None:
    """Remove what the containers of one task shared."""
    if node.volumes_root:
        shutil.rmtree(Path(node.volumes_root) / task_id, ignore_errors=True)


def sweep(node: NodeParts, task_ids: set[str]) -> None:
    """Remove the volumes and cursors of tasks other than these: an agent was killed before it came to them."""
    for directory in Path(node.volumes_root).glob("*") if node.volumes_root else ():
        if directory.name not in task_ids:
            remove_volumes(node, directory.name)
    for container_id in node.cursors.known():
        if container_id.rpartition("-")[0] not in task_ids:
            node.cursors.remove(container_id)
