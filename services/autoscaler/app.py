"""The autoscaler, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiohttp import web

from contracts.subjects import METRICS
from services.autoscaler.adapters.others import MonitorMetrics, SchedulerCounts
from services.autoscaler.adapters.world import World
from services.autoscaler.api import ApplicationAutoScaling
from services.autoscaler.controllers.express import ExpressFollower
from services.autoscaler.controllers.leading import Leader
from services.autoscaler.handlers import Scaling
from services.autoscaler.routes import ROUTES, TargetRoutes, TargetsView, TargetView
from services.autoscaler.settings import AutoscalerSettings
from services.shared.aws.mount import AwsDoor
from services.shared.aws.service import AwsService
from services.shared.http import bind
from services.shared.keys import KeyRing
from services.shared.leases import Lease
from services.shared.runner import App, Host


class AutoscalerApp(App):
    """Owns scalable targets, policies, scheduled actions and activities; answers Application Auto Scaling; scales."""

    name = "autoscaler"

    def __init__(self, host: Host, settings: AutoscalerSettings) -> None:
        super().__init__(host)
        self._settings = settings
        self.aws_services: list[AwsService] = []

    async def start(self) -> None:
        """Read the world, open the door, want the lease if there is something to scale."""
        host, settings = self.host, self._settings
        self.world, self._keys = await asyncio.gather(World.open(host.bus, host.clock), KeyRing.open(host.bus))
        api = ApplicationAutoScaling(self.world)
        self.aws_services = [api]
        self._door = AwsDoor(host, self.aws_services, self._keys, api.complete)
        self.aws_server = self._door.server
        lease = Lease(host.bus, "scaling", host.instance, ttl_s=settings.lease_ttl_s, clock=host.clock)
        scaling = Scaling(self.world, SchedulerCounts(host.bus))
        self.leader = Leader(self.world, lease, scaling, MonitorMetrics(host.bus), settings)
        self._hearing = await host.bus.subscribe(METRICS, self._metrics_came)
        self.leader.start()
        self.follower = ExpressFollower(self.world)
        self.follower.start()

    async def _metrics_came(self, message: object) -> None:
        """What is in it is the monitor's to say; that it came is a reason to ask."""
        self.leader.metrics_came()

    async def stop(self) -> None:
        """Give the lease up, then let go."""
        if hasattr(self, "_hearing") and not self.host.bus.client.is_closed:
            await self._hearing.unsubscribe()
        for name, method in (("follower", "stop"), ("leader", "stop"), ("_keys", "close"), ("world", "close")):
            if hasattr(self, name):
                await getattr(getattr(self, name), method)()

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Who scales what; the AWS API on every other path."""
        return [*bind(ROUTES, TargetRoutes(self._show)), *self._door.routes()]

    def _show(self) -> TargetsView:
        targets = [
            TargetView(
                resource=target.resource,
                region=target.region,
                min=target.min_capacity,
                max=target.max_capacity,
                desired=service.desired_count if service is not None else None,
            )
            for target in self.world.targets.records()
            for service in [self.world.service(target)]
        ]
        shown = sorted(targets, key=lambda target: target.resource)
        return TargetsView(leading=self.leader.leading, targets=shown)
