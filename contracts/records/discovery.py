"""What discovery stores: Cloud Map's namespaces, services, instances, and the operations that made them."""

import msgspec

from contracts.kinds import Kind


class Namespace(msgspec.Struct, kw_only=True, frozen=True):
    """A namespace. type: DNS_PRIVATE | HTTP. `operation` is the id of the operation that made it.

    `soa_ttl` (seconds) is what a negative answer of a DNS namespace may be kept for.
    """

    account: str
    region: str
    id: str
    name: str
    type: str
    created_at: float
    operation: str = ""
    creator_request_id: str = ""
    description: str | None = None
    vpc: str = ""
    hosted_zone_id: str = ""
    soa_ttl: int = 15
    tags: dict[str, str] = {}


class DnsRecord(msgspec.Struct, kw_only=True, frozen=True):
    """A kind of record that each instance gets. type: A | AAAA | SRV | CNAME; ttl in seconds."""

    type: str
    ttl: int


class DiscoveryService(msgspec.Struct, kw_only=True, frozen=True):
    """A service of a namespace. `type` is HTTP | DNS_HTTP; routing_policy MULTIVALUE | WEIGHTED.

    `custom_health` says that instances have a health status that is told by UpdateInstanceCustomHealthStatus.
    """

    account: str
    region: str
    id: str
    name: str
    namespace: str
    type: str
    created_at: float
    creator_request_id: str = ""
    description: str | None = None
    routing_policy: str = "MULTIVALUE"
    dns_records: list[DnsRecord] = []
    custom_health: bool = False
    attributes: dict[str, str] = {}
    tags: dict[str, str] = {}


class Instance(msgspec.Struct, kw_only=True, frozen=True):
    """An instance of a service. health: HEALTHY | UNHEALTHY (as it was told), UNKNOWN without a health check.

    `owner` is empty for one that somebody registered; `ecs/<cluster>/<service>` for a task, registered by discovery.
    While an ECS service's traffic is shared between its deployments, `group` is the task's deployment and `weight` the
    percent that all instances of the group get together.
    """

    account: str
    region: str
    service_id: str
    id: str
    attributes: dict[str, str]
    registered_at: float
    health: str = "UNKNOWN"
    owner: str = ""
    creator_request_id: str = ""
    group: str = ""
    weight: float | None = None


class Operation(msgspec.Struct, kw_only=True, frozen=True):
    """An operation, written after what it did: SUCCESS. targets: NAMESPACE | SERVICE | INSTANCE -> id."""

    account: str
    region: str
    id: str
    type: str
    status: str
    targets: dict[str, str]
    created_at: float
    updated_at: float


NAMESPACE = Kind("discovery", "namespace", Namespace, ("account", "region", "id"))
DISCOVERY_SERVICE = Kind("discovery", "service", DiscoveryService, ("account", "region", "id"))
INSTANCE = Kind("discovery", "instance", Instance, ("account", "region", "service_id", "id"))
OPERATION = Kind("discovery", "operation", Operation, ("account", "region", "id"))

KINDS = (NAMESPACE, DISCOVERY_SERVICE, INSTANCE, OPERATION)
