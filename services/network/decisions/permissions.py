"""Permissions as EC2's API has them, read into rules. One permission names several peers; each is a rule.

https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_IpPermission.html
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable

import msgspec
from msgspec.structs import replace

from contracts.aws import ec2
from contracts.records.network import ALL, SecurityGroup, SecurityGroupRule
from services.shared.errors import AwsError

NAMES = {"1": "icmp", "6": "tcp", "17": "udp", "58": "icmpv6", "all": ALL}
WITH_PORTS = ("tcp", "udp")
NO_IPV6 = "tasks have no IPv6 addresses here: leave IPv6 ranges, ICMPv6 and their rules out"


class Rule(msgspec.Struct, frozen=True):
    """What makes two rules the same: all but id, description and tags."""

    egress: bool
    protocol: str
    from_port: int
    to_port: int
    cidr: str
    group: str


def invalid(message: str) -> AwsError:
    """InvalidParameterValue with this message."""
    return AwsError("InvalidParameterValue", message)


def not_there() -> AwsError:
    """InvalidPermission.NotFound."""
    return AwsError("InvalidPermission.NotFound", "The specified rule does not exist in this security group.")


def rule_of(record: SecurityGroupRule) -> Rule:
    """The rule in a record."""
    r = record
    return Rule(r.egress, r.protocol, r.from_port, r.to_port, r.cidr, r.group)


def read_permissions(
    permissions: Iterable[ec2.IpPermission], egress: bool, find: Callable[[ec2.UserIdGroupPair], SecurityGroup]
) -> list[tuple[Rule, str]]:
    """The rules that permissions ask for, with their descriptions, each once. `find` gives the group that a pair names.
    Raises AwsError."""
    found: dict[Rule, str] = {}
    for permission in permissions:
        protocol = protocol_of(permission.ip_protocol)
        first, last = ports_of(protocol, permission.from_port, permission.to_port)
        if permission.prefix_list_ids:
            raise invalid("Prefix lists are not supported: name CIDR blocks or security groups")
        if permission.ipv6_ranges:
            raise invalid(f"IPv6: {NO_IPV6}")
        peers = [(cidr_of(each.cidr_ip), "", each.description) for each in permission.ip_ranges or ()]
        peers += [("", find(pair).id, pair.description) for pair in permission.user_id_group_pairs or ()]
        if not peers:
            raise AwsError("MissingParameter", "A permission must name an IP range or a security group.")
        for cidr, group, description in peers:
            found.setdefault(Rule(egress, protocol, first, last, cidr, group), description or "")
    return list(found.items())


def protocol_of(text: str | None) -> str:
    """A protocol by its name or number, as it is stored. Raises AwsError."""
    if text is None:
        raise AwsError("MissingParameter", "The request must contain the parameter IpProtocol")
    name = NAMES.get(text.lower(), text.lower())
    if name == "icmpv6":
        raise invalid(f"icmpv6: {NO_IPV6}")
    if name in ("tcp", "udp", "icmp", ALL) or (name.isdecimal() and int(name) <= 255):
        return name
    raise invalid(f"Invalid value '{text}' for IP protocol. Unknown protocol.")


def ports_of(protocol: str, first: int | None, last: int | None) -> tuple[int, int]:
    """The ports (or type and code) that a rule has, -1 where its protocol has none. Raises AwsError."""
    if protocol in WITH_PORTS:
        if first is None or last is None:
            raise AwsError("MissingParameter", "Must specify both from and to ports with TCP/UDP.")
        if not 0 <= first <= 65535 or not 0 <= last <= 65535 or first > last:
            raise invalid(f"Invalid {protocol.upper()} port range ({first} to {last})")
        return first, last
    if protocol != "icmp":
        return -1, -1
    kind, code = -1 if first is None else first, -1 if last is None else last
    if not -1 <= kind <= 255 or not -1 <= code <= 255 or (kind == -1 and code != -1):
        raise invalid(f"ICMP type ({kind}) or code ({code}) out of range")
    return kind, code


def cidr_of(text: str | None) -> str:
    """An IPv4 block, its address reduced to the network's as EC2 does. Raises AwsError."""
    try:
        if text is None or "/" not in text:
            raise ValueError(text)
        if ":" in text:
            raise invalid(f"CIDR block {text}: {NO_IPV6}")
        return str(ipaddress.IPv4Network(text, strict=False))
    except ValueError:
        raise invalid(f"CIDR block {text} is malformed") from None


def told(rule: Rule) -> str:
    """A rule in EC2's words."""
    peer = f"peer: {rule.cidr or rule.group}, "
    if rule.protocol == ALL:
        return f"{peer}ALL, ALLOW"
    if rule.protocol == "icmp":
        kind, code = ("ALL" if n == -1 else n for n in (rule.from_port, rule.to_port))
        return f"{peer}ICMP, type: {kind}, code: {code}, ALLOW"
    if rule.protocol not in WITH_PORTS:
        return f"{peer}protocol: {rule.protocol}, ALLOW"
    return f"{peer}{rule.protocol.upper()}, from port: {rule.from_port}, to port: {rule.to_port}, ALLOW"


def authorized(group: SecurityGroup, fresh: list[SecurityGroupRule], most: int) -> SecurityGroup:
    """The group with more rules, at most so many in a direction. Raises AwsError."""
    known = {rule_of(each) for each in group.rules}
    for each in fresh:
        if rule_of(each) in known:
            raise AwsError("InvalidPermission.Duplicate", f'the specified rule "{told(rule_of(each))}" already exists')
    rules = [*group.rules, *fresh]
    if any(sum(each.egress is way for each in rules) > most for way in (True, False)):
        text = f"The maximum number of rules per security group has been reached ({most})."
        raise AwsError("RulesPerSecurityGroupLimitExceeded", text)
    return replace(group, rules=rules)


def revoked(group: SecurityGroup, wanted: list[Rule], ids: list[str], egress: bool) -> list[SecurityGroupRule]:
    """The rules of the group that a revocation names, all of which must be there. Raises AwsError."""
    own = [each for each in group.rules if each.egress is egress]
    by_id, by_rule = {each.id: each for each in own}, {rule_of(each): each for each in own}
    for rule_id in ids:
        if rule_id not in by_id:
            text = f"The security group rule ID '{rule_id}' does not exist"
            raise AwsError("InvalidSecurityGroupRuleId.NotFound", text)
    if any(rule not in by_rule for rule in wanted):
        raise not_there()
    named = {*ids, *(by_rule[rule].id for rule in wanted)}
    return [each for each in own if each.id in named]
