"""What every task of a node is run with."""

from __future__ import annotations

import asyncio
import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Any

import structlog

from contracts.records.scheduler import TASK_DEFINITION, Task
from services.agent.adapters import Images, Secrets, Sessions, volumes_root
from services.agent.cursors import Cursors
from services.agent.decisions.members import PlanError, gpus_of
from services.agent.groups import Groups
from services.agent.ports import HostPort, Runtime
from services.agent.reports import Reports
from services.agent.settings import AgentSettings
from services.shared.bus import Bus
from services.shared.clock import Clock
from services.shared.errors import StateUnavailable
from services.shared.state import fetch

log = structlog.get_logger()

DEFINITIONS_KEPT = 256


class NodeParts:
    """The runtime, the way to the platform, and what the tasks of one node share."""

    def __init__(
        self, bus: Bus, runtime: Runtime, reports: Reports, settings: AgentSettings, own: Path, clock: Clock
    ) -> None:
        self.bus = bus
        self.runtime = runtime
        self.reports = reports
        self.settings = settings
        self.clock = clock
        self.images = Images(
            bus, runtime, settings.image_pull, wait_s=settings.dependency_wait_s, registry=settings.registry
        )
        self.sessions = Sessions(bus, clock)
        self.groups = Groups(bus, runtime)
        self.secrets = Secrets(bus, wait_s=settings.dependency_wait_s)
        self.cursors = Cursors(own / "cursors")
        self.gpus = gpus_of(settings.gpus)
        self.volumes_root = volumes_root(settings, runtime, own)
        self.file_systems = (settings.efs or str((own.parent.parent / "efs").resolve())) if self.volumes_root else ""
        self._own = own
        self._definitions: OrderedDict[tuple[str, ...], dict[str, Any]] = OrderedDict()
        self._freeing: dict[tuple[str, int], asyncio.Event] = {}

    def devices(self, gpus: list[str]) -> list[str]:
        """The device files of these GPUs. Raises PlanError for one that the node does not have (any more)."""
        missing = [gpu for gpu in gpus if gpu not in self.gpus]
        if missing:
            raise PlanError(f"this node has no GPU {', '.join(missing)}")
        return [path for gpu in gpus for path in self.gpus[gpu]]

    def require_storage(self, gib: int) -> None:
        """Raises PlanError when a task is promised more room than there is. Nothing keeps it for the task later."""
        free = shutil.disk_usage(self._own).free >> 30 if gib else 0
        if gib > free:
            raise PlanError(f"ephemeralStorage: {gib} GiB are asked for, and the node has {free} GiB free")

    async def definition(self, task: Task) -> dict[str, Any] | None:
        """The task's definition; None when the scheduler has none such. Waits while NATS is away."""
        family, _, revision = task.task_definition.partition(":")
        key = (task.account, task.region, family, revision)
        known = self._definitions.get(key)
        while known is None:
            try:
                record = await fetch(self.bus, TASK_DEFINITION, key)
            except StateUnavailable:
                await asyncio.sleep(0.1)
                await self.bus.connected.wait()
                continue
            if record is None:
                return None
            known = self._definitions[key] = record.definition
            if len(self._definitions) > DEFINITIONS_KEPT:
                self._definitions.popitem(last=False)
        return known

    def release_begins(self, ports: list[HostPort]) -> asyncio.Event:
        """A task that stops is about to give these host ports back; `release_ends` says when it has."""
        done = asyncio.Event()
        for port in ports:
            self._freeing[port.protocol, port.host_port] = done
        return done

    def release_ends(self, ports: list[HostPort], done: asyncio.Event) -> None:
        """They have been given back."""
        done.set()
        for port in ports:
            if self._freeing.get((port.protocol, port.host_port)) is done:
                del self._freeing[port.protocol, port.host_port]

    async def released(self, ports: list[HostPort]) -> None:
        """Wait until none of these is about to be given back: a task's successor may want the very same ports."""
        for port in ports:
            done = self._freeing.get((port.protocol, port.host_port))
            if done is not None and port.host_port:
                await done.wait()
