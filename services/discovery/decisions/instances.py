"""What an instance must have, and which instances a caller of DiscoverInstances gets.

https://docs.aws.amazon.com/cloud-map/latest/api/API_RegisterInstance.html
https://docs.aws.amazon.com/cloud-map/latest/api/API_DiscoverInstances.html
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from contracts.records.discovery import DiscoveryService, DnsRecord, Instance
from services.discovery.decisions import wire
from services.discovery.decisions.zones import healthy
from services.shared.errors import AwsError

MOST_ATTRIBUTES = 30
_NEEDED = {
    "A": ("AWS_INSTANCE_IPV4",),
    "AAAA": ("AWS_INSTANCE_IPV6",),
    "SRV": ("AWS_INSTANCE_PORT",),
    "CNAME": ("AWS_INSTANCE_CNAME",),
}


def invalid(message: str) -> AwsError:
    """The error InvalidInput."""
    return AwsError("InvalidInput", message)


def check_records(records: list[DnsRecord], routing: str) -> None:
    """Refuse combinations of DNS records that can't be. Raises AwsError."""
    types = [r.type for r in records]
    if len(set(types)) != len(types):
        raise invalid("Each type of DNS record may be given only once.")
    if "CNAME" in types and len(types) > 1:
        raise invalid("A CNAME record can't be combined with records of other types.")
    if "CNAME" in types and routing != "WEIGHTED":
        raise invalid("CNAME records need the routing policy WEIGHTED.")


def check(service: DiscoveryService, attributes: Mapping[str, str]) -> None:
    """Refuse attributes that the service's DNS records can't be made of. Raises AwsError."""
    if len(attributes) > MOST_ATTRIBUTES:
        raise invalid(f"An instance has at most {MOST_ATTRIBUTES} attributes.")
    types = [r.type for r in service.dns_records]
    for kind in types:
        for name in _NEEDED[kind]:
            if name not in attributes:
                raise invalid(f"The attribute {name} is required: the service has {kind} records.")
    if types == ["SRV"] and not {"AWS_INSTANCE_IPV4", "AWS_INSTANCE_IPV6"} & set(attributes):
        raise invalid("SRV records need the attribute AWS_INSTANCE_IPV4 or AWS_INSTANCE_IPV6.")
    for name, read in _READERS.items():
        if name in attributes:
            try:
                read(attributes[name])
            except ValueError:
                raise invalid(f"The attribute {name} has the value {attributes[name]!r}, which is none.") from None
    initial = attributes.get("AWS_INIT_HEALTH_STATUS")
    if initial is not None and initial not in ("HEALTHY", "UNHEALTHY"):
        raise invalid("AWS_INIT_HEALTH_STATUS is HEALTHY or UNHEALTHY.")


def _port(text: str) -> None:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise ValueError(text)


_READERS = {
    "AWS_INSTANCE_IPV4": wire.ipv4,
    "AWS_INSTANCE_IPV6": wire.ipv6,
    "AWS_INSTANCE_PORT": _port,
    "AWS_INSTANCE_CNAME": wire.name_of,
}


def first_health(service: DiscoveryService, attributes: Mapping[str, str], before: Instance | None) -> str:
    """The health that an instance begins with; one that is registered again keeps what was told of it."""
    if not service.custom_health:
        return "UNKNOWN"
    if before is not None and before.health != "UNKNOWN":
        return before.health
    return attributes.get("AWS_INIT_HEALTH_STATUS", "HEALTHY")


def discovered(
    instances: Iterable[Instance], required: Mapping[str, str], optional: Mapping[str, str], health: str | None
) -> list[Instance]:
    """The instances that match all required attributes, and the optional ones if any does; of the wanted health."""
    found = [i for i in instances if required.items() <= i.attributes.items()]
    closer = [i for i in found if optional.items() <= i.attributes.items()]
    found = closer or found
    match health:
        case "HEALTHY":
            return [i for i in found if i.health != "UNHEALTHY"]
        case "UNHEALTHY":
            return [i for i in found if i.health == "UNHEALTHY"]
        case "ALL":
            return found
    return healthy(found)


def drawn(instances: Sequence[Instance], chance: random.Random) -> list[Instance]:
    """The instances in an order that is drawn: who takes the first one takes one of a group as often as the group is to
    have of the traffic."""
    sizes = Counter((i.owner, i.group) for i in instances)

    def weight(of: Instance) -> float:
        return (100.0 if of.weight is None else of.weight) / sizes[of.owner, of.group]

    # Efraimidis and Spirakis: sorted so, the first is drawn with a chance in proportion to its weight, and so on.
    return sorted(instances, key=lambda i: -math.log(1.0 - chance.random()) / weight(i))
