"""The default VPC, its subnets and the tasks' interfaces, told from the nodes and tasks that there are."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import msgspec

from contracts.aws import ec2
from contracts.records.agent import NetworkInterface, Node
from contracts.records.network import SecurityGroup, interface_subnet, subnet_id, vpc_id
from contracts.records.scheduler import Task
from services.network.decisions.filters import Facts

POOL = ipaddress.IPv4Network("10.64.0.0/10")
"""What nodes take their subnets from when nothing else is wanted."""

VPC_FILTERS = ("cidr", "is-default", "isDefault", "owner-id", "state", "tag-key", "vpc-id")
SUBNET_FILTERS = (
    "availability-zone", "availabilityZone", "cidr", "cidr-block", "default-for-az", "defaultForAz", "owner-id",
    "state", "subnet-id", "tag-key", "vpc-id",
)  # fmt: skip
INTERFACE_FILTERS = (
    "addresses.private-ip-address", "availability-zone", "description", "group-id", "group-name", "interface-type",
    "mac-address", "network-interface-id", "owner-id", "private-dns-name", "private-ip-address", "requester-managed",
    "status", "subnet-id", "tag-key", "vpc-id",
)  # fmt: skip


class Interface(msgspec.Struct, frozen=True):
    """A task's interface with the task; `groups` are those that are in force on it."""

    task: Task
    network: NetworkInterface
    groups: list[SecurityGroup]


def blocks(nodes: Iterable[Node]) -> list[str]:
    """The VPC's address blocks: the pool, and what nodes have outside of it."""
    subnets = [ipaddress.IPv4Network(node.subnet) for node in nodes if node.subnet]
    others = [subnet for subnet in subnets if not subnet.subnet_of(POOL)]
    inside = [POOL] if len(others) < len(subnets) or not subnets else []
    return [str(block) for block in (*inside, *ipaddress.collapse_addresses(others))]


def covering(cidrs: Iterable[str]) -> str:
    """The smallest block that has all of these in it; empty for none."""
    networks = [ipaddress.IPv4Network(cidr) for cidr in cidrs]
    if not networks:
        return ""
    found = networks[0]
    while not all(network.subnet_of(found) for network in networks):
        found = found.supernet()
    return str(found)


def vpc_shape(account: str, region: str, nodes: Iterable[Node]) -> ec2.Vpc:
    """The default VPC, the only one."""
    cidrs = blocks(nodes)
    state = ec2.VpcCidrBlockState(state="associated")
    return ec2.Vpc(
        vpc_id=vpc_id(account, region),
        owner_id=account,
        cidr_block=cidrs[0],
        cidr_block_association_set=[ec2.VpcCidrBlockAssociation(cidr_block=c, cidr_block_state=state) for c in cidrs],
        instance_tenancy="default",
        is_default=True,
        state="available",
        tags=[],
    )


def subnet_shapes(account: str, region: str, nodes: Iterable[Node], used: Iterable[str]) -> list[ec2.Subnet]:
    """A subnet for each zone in which tasks get addresses; `used` are the zones of those that are taken."""
    zones: dict[str, set[str]] = {}
    for node in nodes:
        if node.subnet:
            zones.setdefault(node.zone, set()).add(node.subnet)
    taken = list(used)
    return [
        ec2.Subnet(
            subnet_id=subnet_id(account, region, zone),
            subnet_arn=f"arn:aws:ec2:{region}:{account}:subnet/{subnet_id(account, region, zone)}",
            vpc_id=vpc_id(account, region),
            owner_id=account,
            availability_zone=zone,
            cidr_block=covering(cidrs),
            available_ip_address_count=_free(cidrs) - taken.count(zone),
            default_for_az=True,
            map_public_ip_on_launch=False,
            assign_ipv6_address_on_creation=False,
            ipv6_cidr_block_association_set=[],
            state="available",
            tags=[],
        )
        for zone, cidrs in sorted(zones.items())
    ]


def _free(cidrs: Iterable[str]) -> int:
    """Addresses for tasks: the network's own, the bridge's and the last one are none."""
    return sum(ipaddress.IPv4Network(cidr).num_addresses - 3 for cidr in cidrs)


def interface_shape(interface: Interface) -> ec2.NetworkInterface:
    """A task's interface."""
    task, network = interface.task, interface.network
    name = f"ip-{network.private_ipv4.replace('.', '-')}.ec2.internal"
    address = ec2.NetworkInterfacePrivateIpAddress(
        primary=True, private_ip_address=network.private_ipv4, private_dns_name=name
    )
    return ec2.NetworkInterface(
        network_interface_id=network.eni_id,
        interface_type="interface",
        description=_description(interface),
        status="in-use",
        owner_id=task.account,
        requester_managed=True,
        availability_zone=task.zone,
        vpc_id=vpc_id(task.account, task.region),
        subnet_id=interface_subnet(task.network_configuration, task.account, task.region, task.zone),
        mac_address=network.mac_address,
        private_ip_address=network.private_ipv4,
        private_dns_name=name,
        private_ip_addresses=[address],
        ipv6_addresses=[],
        source_dest_check=True,
        attachment=ec2.NetworkInterfaceAttachment(
            attachment_id=f"eni-attach-{network.eni_id.partition('-')[2]}",
            device_index=1,
            instance_owner_id=task.account,
            status="attached",
            delete_on_termination=True,
        ),
        groups=[ec2.GroupIdentifier(group_id=g.id, group_name=g.name) for g in interface.groups],
        tag_set=[],
    )


def _description(interface: Interface) -> str:
    task = interface.task
    return f"arn:aws:ecs:{task.region}:{task.account}:attachment/{interface.network.attachment_id}"


def vpc_facts(vpc: ec2.Vpc) -> Facts:
    """What filters may ask of the VPC."""
    default = ["true" if vpc.is_default else "false"]
    return {
        "cidr": [vpc.cidr_block or ""],
        "is-default": default,
        "isDefault": default,
        "owner-id": [vpc.owner_id or ""],
        "state": [vpc.state or ""],
        "vpc-id": [vpc.vpc_id or ""],
    }


def subnet_facts(subnet: ec2.Subnet) -> Facts:
    """What filters may ask of a subnet."""
    zone, cidr = [subnet.availability_zone or ""], [subnet.cidr_block or ""]
    return {
        "availability-zone": zone,
        "availabilityZone": zone,
        "cidr": cidr,
        "cidr-block": cidr,
        "default-for-az": ["true"],
        "defaultForAz": ["true"],
        "owner-id": [subnet.owner_id or ""],
        "state": [subnet.state or ""],
        "subnet-id": [subnet.subnet_id or ""],
        "vpc-id": [subnet.vpc_id or ""],
    }


def interface_facts(shape: ec2.NetworkInterface) -> Facts:
    """What filters may ask of an interface."""
    address = [shape.private_ip_address or ""]
    return {
        "addresses.private-ip-address": address,
        "availability-zone": [shape.availability_zone or ""],
        "description": [shape.description or ""],
        "group-id": [group.group_id or "" for group in shape.groups or ()],
        "group-name": [group.group_name or "" for group in shape.groups or ()],
        "interface-type": [shape.interface_type or ""],
        "mac-address": [shape.mac_address or ""],
        "network-interface-id": [shape.network_interface_id or ""],
        "owner-id": [shape.owner_id or ""],
        "private-dns-name": [shape.private_dns_name or ""],
        "private-ip-address": address,
        "requester-managed": ["true"],
        "status": [shape.status or ""],
        "subnet-id": [shape.subnet_id or ""],
        "vpc-id": [shape.vpc_id or ""],
    }
