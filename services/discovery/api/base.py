"""What the parts of the API share: finding what a request names."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.aws import servicediscovery as sd
from contracts.records.discovery import DiscoveryService, Instance, Namespace
from services.discovery.adapters.world import World
from services.discovery.decisions import names
from services.discovery.decisions.instances import invalid
from services.shared.aws.context import RequestContext
from services.shared.aws.service import AwsService
from services.shared.errors import AwsError


class CloudMapBase(AwsService):
    """Lookups that raise Cloud Map's own errors."""

    api = sd.API

    def __init__(self, world: World) -> None:
        self.world = world

    def namespace(self, context: RequestContext, reference: str) -> Namespace:
        """By id or ARN. Raises NamespaceNotFound."""
        found = self.world.namespaces.record(context.account, context.region, names.id_of(reference))
        if found is None:
            raise AwsError("NamespaceNotFound", f"There is no namespace {reference}.")
        return found

    def service(self, context: RequestContext, reference: str) -> DiscoveryService:
        """By id or ARN. Raises ServiceNotFound."""
        found = self.world.services.record(context.account, context.region, names.id_of(reference))
        if found is None:
            raise AwsError("ServiceNotFound", f"There is no service {reference}.")
        return found

    def instance(self, service: DiscoveryService, instance_id: str) -> Instance:
        """By id. Raises InstanceNotFound."""
        found = self.world.instances.record(service.account, service.region, service.id, instance_id)
        if found is None:
            raise AwsError("InstanceNotFound", f"The service {service.id} has no instance {instance_id}.")
        return found

    def instances_of(self, service: DiscoveryService) -> list[Instance]:
        """All of a service."""
        return self.world.instances.records(service.account, service.region, service.id)


def read_tags(tags: Sequence[sd.Tag] | None) -> dict[str, str]:
    """Tags as they are stored."""
    return {tag.key: tag.value for tag in tags or ()}


def selected(condition: str | None, values: Sequence[str], value: str | float) -> bool:
    """Whether a filter lets a value pass. Raises InvalidInput."""
    condition = condition or "EQ"
    if condition in ("EQ", "IN"):
        if condition == "EQ" and len(values) != 1:
            raise invalid("A filter with the condition EQ has one value.")
        return str(value) in values
    if condition == "BEGINS_WITH":
        return any(str(value).startswith(v) for v in values)
    if len(values) != 2:
        raise invalid("A filter with the condition BETWEEN has two values.")
    try:
        low, high = (float(v) / (1000 if float(v) > 1e11 else 1) for v in values)
        return low <= float(value) <= high
    except ValueError:
        raise invalid("The condition BETWEEN compares dates, in milliseconds since the epoch.") from None
