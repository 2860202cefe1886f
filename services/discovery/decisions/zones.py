"""From namespaces, services and instances to names and their records.

A service's instances give one name: `<service>.<namespace>`; with SRV records each instance has a name of its own
too, `<instance>.<service>.<namespace>`, to which its SRV record points.
https://docs.aws.amazon.com/cloud-map/latest/api/API_DnsRecord.html
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from contracts.records.discovery import DiscoveryService, Instance, Namespace
from services.discovery.decisions import wire

SERVICE_KEY = tuple[str, str, str]


class Records(NamedTuple):
    """The data of all records of a name and type. `single`: one of them an answer (WEIGHTED), else up to eight.

    With `shares` each answer has the data of one of them: (percent, data).
    """

    ttl: int
    data: tuple[bytes, ...]
    single: bool = False
    shares: tuple[tuple[float, tuple[bytes, ...]], ...] = ()


Node = dict[int, Records]


class Zone(NamedTuple):
    """A private namespace in the DNS."""

    name: bytes
    soa: bytes
    ttl: int


def healthy(instances: Iterable[Instance]) -> list[Instance]:
    """Those that are not unhealthy; all of them, when all are."""
    everyone = sorted(instances, key=lambda i: i.id)
    return [i for i in everyone if i.health != "UNHEALTHY"] or everyone


def names_of(namespace: Namespace, service: DiscoveryService, instances: Iterable[Instance]) -> dict[bytes, Node]:
    """The names that a service has with these instances. Instances that don't fit the DNS are left out."""
    if namespace.type != "DNS_PRIVATE" or not service.dns_records:
        return {}
    zone = wire.name_of(namespace.name)
    own = zone if service.name == "." else wire.name_of(f"{service.name}.{namespace.name}")
    ttls = {wire.TYPES[r.type]: r.ttl for r in service.dns_records}
    found: dict[bytes, Node] = {}
    shown = healthy(instances)
    for kind, ttl in ttls.items():
        data = _unique(kind, shown, own)
        if data:
            single = service.routing_policy == "WEIGHTED"
            found.setdefault(own, {})[kind] = Records(ttl, data, single, _shares(kind, shown, own))
    if wire.SRV in ttls:
        for instance in shown:
            _add_target(found, instance, own, ttls)
    return found


def _unique(kind: int, instances: Iterable[Instance], own: bytes) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(d for i in instances if (d := _data(kind, i, own)) is not None))


def _shares(kind: int, instances: Iterable[Instance], own: bytes) -> tuple[tuple[float, tuple[bytes, ...]], ...]:
    """The groups that the traffic is shared between; none when it is not. Instances without a weight are a group with
    as much as a whole service that shares its own."""
    groups: defaultdict[tuple[str, str, float], list[Instance]] = defaultdict(list)
    for each in instances:
        key = ("", "", 100.0) if each.weight is None else (each.owner, each.group, each.weight)
        groups[key].append(each)
    shares = ((weight, _unique(kind, found, own)) for (_, _, weight), found in groups.items())
    given = tuple((weight, data) for weight, data in shares if data)
    return given if len(given) > 1 else ()


def _add_target(found: dict[bytes, Node], instance: Instance, own: bytes, ttls: Mapping[int, int]) -> None:
    target = _below(instance.id, own)
    for kind in (wire.A, wire.AAAA):
        data = _data(kind, instance, own)
        if target is not None and data is not None:
            found.setdefault(target, {})[kind] = Records(ttls.get(kind, ttls[wire.SRV]), (data,))


def _below(label: str, parent: bytes) -> bytes | None:
    """The name of an instance; None when its id is no label."""
    octets = label.lower().encode()
    if not 0 < len(octets) < 64 or len(octets) + 1 + len(parent) > 255:
        return None
    return bytes((len(octets),)) + octets + parent


def _data(kind: int, instance: Instance, own: bytes) -> bytes | None:
    """The data of an instance's record, None when its attributes don't make one."""
    given = instance.attributes
    try:
        if kind == wire.A:
            return wire.ipv4(given["AWS_INSTANCE_IPV4"])
        if kind == wire.AAAA:
            return wire.ipv6(given["AWS_INSTANCE_IPV6"])
        if kind == wire.CNAME:
            return wire.name_of(given["AWS_INSTANCE_CNAME"])
        target = _below(instance.id, own)
        return wire.srv(int(given["AWS_INSTANCE_PORT"]), target) if target is not None else None
    except (KeyError, ValueError):
        return None


class Zones:
    """All names that there are. Changed a service at a time, so that a change costs what it changes."""

    def __init__(self) -> None:
        self.zones: dict[bytes, Zone] = {}
        self._names: dict[bytes, Node] = {}
        self._of: dict[SERVICE_KEY, dict[bytes, Node]] = {}
        self._above: Counter[bytes] = Counter()

    def set_namespaces(self, namespaces: Iterable[Namespace]) -> None:
        """The zones are these. Of two of one name (in two regions) the older one counts for the zone's own records."""
        self.zones = {}
        for each in sorted(namespaces, key=lambda n: (n.created_at, n.id)):
            if each.type == "DNS_PRIVATE":
                name = wire.name_of(each.name)
                self.zones.setdefault(name, Zone(name, wire.soa(name, each.soa_ttl), each.soa_ttl))

    def set_service(self, key: SERVICE_KEY, names: dict[bytes, Node]) -> bool:
        """A service has these names and no others. Whether that changes anything."""
        before = self._of.get(key, {})
        if before == names:
            return False
        for name in before:
            self._names.pop(name, None)
            self._above.subtract(above for _, above in wire.parents(name)[1:])
        self._above = +self._above
        for name, node in names.items():
            self._names[name] = node
            self._above.update(above for _, above in wire.parents(name)[1:])
        if names:
            self._of[key] = names
        else:
            self._of.pop(key, None)
        return True

    def zone_of(self, name: bytes) -> tuple[int, Zone] | None:
        """The zone that a name is in, and where in the name the zone's begins; None for a name of others'."""
        for offset, above in wire.parents(name):
            zone = self.zones.get(above)
            if zone is not None:
                return offset, zone
        return None

    def node(self, name: bytes) -> Node | None:
        """What a name has: {} for one that only has names below it, None when it does not exist."""
        node = self._names.get(name)
        if node is None and (name in self._above or name in self.zones):
            return {}
        return node
