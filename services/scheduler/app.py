"""The scheduler, put together."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from contracts.rpc.scheduler import DELETE_WORKLOAD, PUT_WORKLOAD, SET_DESIRED_COUNT
from services.scheduler.adapters import HttpHooks, World
from services.scheduler.api import Ecs
from services.scheduler.api.container_instances import instance_shape
from services.scheduler.api.shapes import task_shape
from services.scheduler.controllers.leading import Leader
from services.scheduler.handlers.counts import Counts
from services.scheduler.handlers.telling import Telling
from services.scheduler.handlers.workloads import Workloads
from services.scheduler.routes import Overview, Spot, routes
from services.scheduler.settings import SchedulerSettings
from services.shared.aws.mount import AwsDoor
from services.shared.aws.service import AwsService
from services.shared.keys import KeyRing
from services.shared.leases import Lease
from services.shared.runner import App, Host


class SchedulerApp(App):
    """Owns clusters, task definitions, tasks and services; answers ECS; keeps services as they are wanted."""

    name = "scheduler"

    def __init__(self, host: Host, settings: SchedulerSettings) -> None:
        super().__init__(host)
        self._settings = settings
        self.aws_services: list[AwsService] = []

    async def start(self) -> None:
        """Read the world, open the door, want the lease of the controllers."""
        host, settings = self.host, self._settings
        self.world = await World.open(host.bus, host.clock, settings)
        self._keys = await KeyRing.open(host.bus)
        self.aws_services = [Ecs(self.world)]
        self._door = AwsDoor(host, self.aws_services, self._keys)
        self.aws_server = self._door.server
        self._overview = Overview(self.world)
        self._overview.measure(host.metrics)
        self._spot = Spot(self.world, host.data / "scheduler" / "door.key")
        workloads = Workloads(self.world)
        await host.bus.serve(PUT_WORKLOAD, workloads.put)
        await host.bus.serve(DELETE_WORKLOAD, workloads.delete)
        lease = Lease(host.bus, "controller", host.instance, ttl_s=settings.lease_ttl_s, clock=host.clock)
        telling = Telling(self.world, task_shape, instance_shape)
        self.leader = Leader(self.world, lease, HttpHooks(settings.hook_timeout_s), telling.node_connection)
        self.leader.start()
        await host.bus.serve(SET_DESIRED_COUNT, Counts(self.world).set_desired_count)
        self._telling = telling.consumer()
        await self._telling.start()

    async def stop(self) -> None:
        """Give the lease up, then let go."""
        for name, method in (("_telling", "stop"), ("leader", "stop"), ("_keys", "close"), ("world", "close")):
            if hasattr(self, name):
                await getattr(getattr(self, name), method)()

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The overview for operators, and the AWS API."""
        return [*routes(self._overview, self._spot), *self._door.routes()]
