"""What the network service stores: security groups. And what needs no record: the default VPC of an account in a
region, its default group, its subnets. Their ids come of what they stand for, so everybody who reads can tell them.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from contracts.kinds import Kind
from contracts.rpc.scheduler import WORKLOADS_CLUSTER

ANYWHERE = "0.0.0.0/0"
ALL = "-1"
DEFAULT = "default"


class SecurityGroupRule(msgspec.Struct, kw_only=True, frozen=True):
    """One rule of a group: it lets in what comes from its peer, or (`egress`) out what goes there.

    protocol: tcp | udp | icmp | -1 (all) | a number. from_port and to_port are ports of tcp and udp, type and code of
    icmp (-1: any), else -1. The peer is either `cidr` (IPv4) or `group`: the tasks in that group.
    """

    id: str
    egress: bool
    protocol: str
    from_port: int = -1
    to_port: int = -1
    cidr: str = ""
    group: str = ""
    description: str = ""
    tags: dict[str, str] = {}


class SecurityGroup(msgspec.Struct, kw_only=True, frozen=True):
    """A group with its rules, ingress and egress, in the order in which they were made."""

    account: str
    region: str
    id: str
    name: str
    description: str
    created_at: float = 0.0
    rules: list[SecurityGroupRule] = []
    tags: dict[str, str] = {}


SECURITY_GROUP = Kind("network", "security_group", SecurityGroup, ("account", "region", "id"))

KINDS = (SECURITY_GROUP,)


def derived(prefix: str, *of: str) -> str:
    """An id in AWS' form that is always the same for the same thing: `subnet-0123456789abcdef0`."""
    return f"{prefix}-{hashlib.sha256('/'.join((prefix, *of)).encode()).hexdigest()[:17]}"


def vpc_id(account: str, region: str) -> str:
    """The default VPC."""
    return derived("vpc", account, region)


def subnet_id(account: str, region: str, zone: str) -> str:
    """The default subnet of a zone."""
    return derived("subnet", account, region, zone)


def default_group_id(account: str, region: str) -> str:
    """The default VPC's default group."""
    return derived("sg", account, region)


def default_group(account: str, region: str) -> SecurityGroup:
    """The default group as it is until somebody changes its rules, which makes it a record: all in, all out. AWS' lets
    in its own members alone; here that would keep out the machine that the tasks run on."""
    group = default_group_id(account, region)
    rules = [
        SecurityGroupRule(id=derived("sgr", group, way), egress=way == "egress", protocol=ALL, cidr=ANYWHERE)
        for way in ("ingress", "egress")
    ]
    return SecurityGroup(
        account=account, region=region, id=group, name=DEFAULT, description="default VPC security group", rules=rules
    )


def interface_subnet(configuration: Mapping[str, Any], account: str, region: str, zone: str) -> str:
    """The subnet of a task by its networkConfiguration: of those that it names the one of the zone that the task is in,
    without it the first."""
    given = (configuration.get("awsvpcConfiguration") or {}).get("subnets") or []
    own = subnet_id(account, region, zone)
    return own if own in given else next(iter(given), own)


def interface_groups(configuration: Mapping[str, Any], account: str, region: str, cluster: str) -> list[str]:
    """A task's groups by its networkConfiguration: those that it names, or the default one. None without awsvpc, and
    for App Runner's instances, which are in nobody's VPC."""
    given = configuration.get("awsvpcConfiguration")
    if given is None or cluster == WORKLOADS_CLUSTER:
        return []
    return list(given.get("securityGroups") or ()) or [default_group_id(account, region)]
