"""The agent of one node, put together."""

from __future__ import annotations

import asyncio
import platform
import socket
import uuid
from collections.abc import Sequence

import msgspec
import structlog
from aiohttp import web

from contracts.records.agent import NODE, TASK_STATUS, Heartbeat, Node
from contracts.records.scheduler import TASK
from contracts.subjects import heartbeat
from services.agent.adapters import machine_size, node_name
from services.agent.containers import sweep
from services.agent.controllers import Supervisor
from services.agent.decisions.members import gpus_of
from services.agent.execs import Sessions
from services.agent.node import NodeParts
from services.agent.ports import Runtime, RuntimeFailure
from services.agent.reports import Reports
from services.agent.routes import ROUTES, NodeRoutes, NodeView
from services.agent.settings import AgentSettings
from services.agent.usage import UsageReporter
from services.shared.bus import Conflict
from services.shared.errors import StateUnavailable
from services.shared.http import bind
from services.shared.runner import App, Host
from services.shared.settings import SettingsError
from services.shared.state import Store
from services.shared.views import View

log = structlog.get_logger()

ARCHITECTURES = {"aarch64": "arm64", "amd64": "x86_64"}
"""Processors as machines call them, in ECS' words."""

VERSION = "0.1.0"
EXTERNAL_MODES = ("bridge", "host", "none")
"""ECS Anywhere has no awsvpc: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-anywhere.html"""
NETWORK_MODES = ("awsvpc", *EXTERNAL_MODES)


class AgentApp(App):
    """Runs the tasks that the scheduler placed on this node. Owns `Node` and `TaskStatus`."""

    name = "agent"

    def __init__(self, host: Host, settings: AgentSettings, runtime: Runtime) -> None:
        super().__init__(host)
        self.settings = settings
        self.node = node_name(settings)
        try:
            self._gpus = gpus_of(settings.gpus)
        except ValueError as error:
            raise SettingsError(str(error)) from None
        self.session = uuid.uuid4().hex
        self.runtime = runtime
        self._own = host.data / "agent" / self.node

    async def start(self) -> None:
        """Check the runtime, say that the node is there, adopt what stands. Raises SettingsError when the runtime can't
        work here, with what to do about it."""
        try:
            await self.runtime.start()
        except RuntimeFailure as failure:
            raise SettingsError(f"the {self.runtime.name} runtime can't work here: {failure.reason}") from failure
        self._own.mkdir(parents=True, exist_ok=True)
        bus = self.host.bus
        sandboxes, self._wanted, own = await asyncio.gather(
            self.runtime.sandboxes(),
            View.open(bus, TASK, filters=(TASK.filter(node=self.node),)),
            View.open(
                bus,
                NODE,
                TASK_STATUS,
                filters=(NODE.filter(node=self.node), TASK_STATUS.filter(node=self.node)),
            ),
        )
        self._store = Store(bus, own)
        self._reports = Reports(bus, self._store)
        parts = NodeParts(bus, self.runtime, self._reports, self.settings, self._own, self.host.clock)
        self._groups = parts.groups
        if not self.settings.external:  # where there is no awsvpc
            await self._groups.open()
        self._supervisor = Supervisor(parts, self._wanted, self._store)
        await asyncio.to_thread(sweep, parts, {sandbox.id for sandbox in sandboxes})
        await self._register()
        await self._supervisor.start(sandboxes)
        reporter = UsageReporter(
            bus, self.runtime, self.node, self.settings.usage_s, self.host.clock, self._supervisor.runners
        )
        self._execs = Sessions(bus, self.runtime, self.node, self._supervisor.find, self.host.clock)
        await self._execs.start()
        self._measuring = bus.spawn(reporter.run(), f"usage.{self.node}")
        self._beating = bus.spawn(self._beat(), f"heartbeat.{self.node}")
        bus.spawn(self._sweep_images(), f"images.{self.node}")

    async def stop(self) -> None:
        """Let go; containers keep running, to be adopted."""
        if hasattr(self, "_beating"):
            self._beating.cancel()
            self._measuring.cancel()
        if hasattr(self, "_execs"):
            await self._execs.stop()
        if hasattr(self, "_supervisor"):
            await self._supervisor.stop()
            await self._groups.close()
            await self._reports.close()
            await self._store.close()
            await self._wanted.close()
        await self.runtime.aclose()

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """What the node does now, for a person."""
        return bind(ROUTES, NodeRoutes(self._show))

    def _show(self) -> NodeView:
        return NodeView(node=self.node, runtime=self.runtime.name, tasks=len(self._supervisor))

    async def _register(self) -> None:
        cpu, memory = machine_size(self.settings)
        known = self._store.table(NODE).record(self.node)
        node = Node(
            node=self.node,
            zone=self.settings.zone,
            cpu_units=cpu,
            memory_mib=memory,
            registered_at=known.registered_at if known else self.host.clock(),
            session=self.session,
            capacity_kind="EXTERNAL" if self.settings.external else self.settings.capacity_kind,
            network_modes=EXTERNAL_MODES if self.settings.external else NETWORK_MODES,
            runtime=self.runtime.name,
            hostname=socket.gethostname(),
            address=self.settings.address,
            agent_version=VERSION,
            draining=known.draining if known else False,
            gpus=sorted(self._gpus),
            subnet=self.runtime.subnet,
            attributes={"ecs.cpu-architecture": ARCHITECTURES.get(platform.machine(), platform.machine())},
        )
        while True:
            try:
                await self._store.put(NODE, node, "node.registered.v1")
                return
            except Conflict:
                await self._store.refresh(NODE, (self.node,))
            except StateUnavailable as error:
                log.warning("node.register_delayed", error=error.message)
                await asyncio.sleep(0.2)
                await self.host.bus.connected.wait()

    async def _sweep_images(self) -> None:
        settings = self.settings
        while True:
            await asyncio.sleep(settings.image_sweep_s)
            try:
                gone = await self.runtime.sweep_images(settings.image_idle_s, settings.images_a_sweep)
            except (OSError, RuntimeFailure, ValueError) as error:
                log.warning("images.not_swept", node=self.node, error=str(error))
                continue
            for digest in gone:
                log.info("image.swept", node=self.node, digest=digest)

    async def _beat(self) -> None:
        subject = heartbeat(self.node)
        while True:
            beat = Heartbeat(node=self.node, session=self.session, tasks=len(self._supervisor))
            await self.host.bus.tell(subject, msgspec.json.encode(beat))
            await asyncio.sleep(self.settings.heartbeat_s)
