"""DiscoverInstances: finding instances by the names of namespace and service."""

from __future__ import annotations

import random

from contracts.aws import servicediscovery as sd
from contracts.records.discovery import DiscoveryService, Namespace
from services.discovery.api.base import CloudMapBase
from services.discovery.decisions.instances import discovered, drawn
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError

MOST = 100


class Discovering(CloudMapBase):
    """What clients ask that don't ask the DNS."""

    _chance = random.Random()

    async def discover_instances(
        self, context: RequestContext, request: sd.DiscoverInstancesRequest
    ) -> sd.DiscoverInstancesResponse:
        """The instances that match, in a drawn order. Without a HealthStatus: the healthy ones, or else all."""
        namespace, service = self._named(context, request.namespace_name, request.service_name)
        found = discovered(
            self.instances_of(service),
            request.query_parameters or {},
            request.optional_parameters or {},
            request.health_status,
        )
        shapes = [
            sd.HttpInstanceSummary(
                instance_id=i.id,
                namespace_name=namespace.name,
                service_name=service.name,
                health_status=i.health,  # type: ignore[arg-type]
                attributes=i.attributes,
            )
            for i in drawn(found, self._chance)[: request.max_results or MOST]
        ]
        return sd.DiscoverInstancesResponse(instances=shapes, instances_revision=self.world.revision(service))

    async def discover_instances_revision(
        self, context: RequestContext, request: sd.DiscoverInstancesRevisionRequest
    ) -> sd.DiscoverInstancesRevisionResponse:
        """A number that has grown when the instances have changed."""
        _, service = self._named(context, request.namespace_name, request.service_name)
        return sd.DiscoverInstancesRevisionResponse(instances_revision=self.world.revision(service))

    def _named(self, context: RequestContext, namespace_name: str, name: str) -> tuple[Namespace, DiscoveryService]:
        namespace = self.world.namespace_named(context.account, context.region, namespace_name)
        if namespace is None:
            raise AwsError("NamespaceNotFound", f"There is no namespace {namespace_name}.")
        for service in self.world.services_of(namespace):
            if service.name.lower() == name.lower():
                return namespace, service
        raise AwsError("ServiceNotFound", f"The namespace {namespace_name} has no service {name}.")
