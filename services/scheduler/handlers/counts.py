"""The count of a service, as others than its owner want it: Application Auto Scaling."""

from __future__ import annotations

from contracts.records.scheduler import SERVICE, Service
from contracts.rpc.scheduler import DesiredCountSet, SetDesiredCount
from services.scheduler.adapters import World
from services.scheduler.decisions import services as rules
from services.scheduler.decisions.gateways import check_count
from services.scheduler.handlers.tasks import CLUSTER_NOT_FOUND
from services.shared.errors import AwsError

SERVICE_NOT_FOUND = ("ServiceNotFoundException", "Service not found.")
SERVICE_NOT_ACTIVE = ("ServiceNotActiveException", "Service was not ACTIVE.")


class Counts:
    """What answers SET_DESIRED_COUNT."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def set_desired_count(self, request: SetDesiredCount) -> DesiredCountSet:
        """Want this many tasks: UpdateService's own change, one write, none when it is so already. Raises AwsError
        (ClusterNotFoundException, ServiceNotFoundException, ServiceNotActiveException, InvalidParameterException)."""
        if request.desired_count < 0:
            raise AwsError("InvalidParameterException", "desiredCount must not be negative.")
        world = self._world
        cluster = world.clusters.record(request.account, request.region, request.cluster)
        if cluster is None or cluster.status != "ACTIVE":
            raise AwsError(*CLUSTER_NOT_FOUND)
        now = world.clock()
        previous = 0

        def change(old: Service | None) -> Service:
            nonlocal previous
            if old is None:
                raise AwsError(*SERVICE_NOT_FOUND)
            if old.status != "ACTIVE":
                raise AwsError(*SERVICE_NOT_ACTIVE)
            previous = old.desired_count
            if previous == request.desired_count:
                return old
            new = rules.updated(old, {"desiredCount": request.desired_count}, None, False, "", now)
            if world.ingress is not None:
                check_count(new, world.ingress.most_tasks)
            return new

        key = (request.account, request.region, request.cluster, request.service)
        await world.store.update(SERVICE, key, change, "service.updated.v1", cause=request.cause or None)
        return DesiredCountSet(previous=previous, desired_count=request.desired_count)
