"""Groups, rules and tags as EC2's API shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from contracts.aws import ec2
from contracts.records.network import ALL, SecurityGroup, SecurityGroupRule, vpc_id
from services.network.decisions.filters import Facts, tag_facts

GROUP_FILTERS = (
    "description", "group-id", "group-name", "owner-id", "tag-key", "vpc-id",
    *(f"{way}ip-permission.{part}" for way in ("", "egress.")
      for part in ("cidr", "from-port", "group-id", "group-name", "protocol", "to-port", "user-id")),
)  # fmt: skip
RULE_FILTERS = ("group-id", "security-group-rule-id", "tag-key")


def arn(group: SecurityGroup, kind: str = "security-group", name: str = "") -> str:
    """The ARN of a group, or of one of its rules."""
    return f"arn:aws:ec2:{group.region}:{group.account}:{kind}/{name or group.id}"


def tag_shapes(tags: Mapping[str, str]) -> list[ec2.Tag]:
    """Tags, in the order of their keys."""
    return [ec2.Tag(key=key, value=value) for key, value in sorted(tags.items())]


def group_shape(group: SecurityGroup) -> ec2.SecurityGroup:
    """A group."""
    ingress = [rule for rule in group.rules if not rule.egress]
    egress = [rule for rule in group.rules if rule.egress]
    return ec2.SecurityGroup(
        group_id=group.id,
        group_name=group.name,
        description=group.description,
        owner_id=group.account,
        vpc_id=vpc_id(group.account, group.region),
        security_group_arn=arn(group),
        ip_permissions=permission_shapes(ingress, group.account),
        ip_permissions_egress=permission_shapes(egress, group.account),
        tags=tag_shapes(group.tags),
    )


def permission_shapes(rules: Iterable[SecurityGroupRule], account: str) -> list[ec2.IpPermission]:
    """Rules as permissions: those of the same protocol and ports are one, with several peers."""
    found: dict[tuple[str, int, int], ec2.IpPermission] = {}
    for rule in rules:
        key = (rule.protocol, rule.from_port, rule.to_port)
        known = found.get(key)
        if known is None:
            known = found[key] = _permission(rule)
        description = rule.description or None
        if rule.cidr and known.ip_ranges is not None:
            known.ip_ranges.append(ec2.IpRange(cidr_ip=rule.cidr, description=description))
        elif known.user_id_group_pairs is not None:
            pair = ec2.UserIdGroupPair(group_id=rule.group, user_id=account, description=description)
            known.user_id_group_pairs.append(pair)
    return list(found.values())


def _permission(rule: SecurityGroupRule) -> ec2.IpPermission:
    empty = ec2.IpPermission(
        ip_protocol=rule.protocol, ip_ranges=[], ipv6_ranges=[], prefix_list_ids=[], user_id_group_pairs=[]
    )
    if rule.protocol != ALL:
        empty.from_port, empty.to_port = rule.from_port, rule.to_port
    return empty


def rule_shape(group: SecurityGroup, rule: SecurityGroupRule) -> ec2.SecurityGroupRule:
    """A rule by itself."""
    peer = None
    if rule.group:
        peer = ec2.ReferencedSecurityGroup(
            group_id=rule.group, user_id=group.account, vpc_id=vpc_id(group.account, group.region)
        )
    return ec2.SecurityGroupRule(
        security_group_rule_id=rule.id,
        security_group_rule_arn=arn(group, "security-group-rule", rule.id),
        group_id=group.id,
        group_owner_id=group.account,
        is_egress=rule.egress,
        ip_protocol=rule.protocol,
        from_port=rule.from_port,
        to_port=rule.to_port,
        cidr_ipv4=rule.cidr or None,
        referenced_group_info=peer,
        description=rule.description or None,
        tags=tag_shapes(rule.tags),
    )


def revoked_shape(group: SecurityGroup, rule: SecurityGroupRule) -> ec2.RevokedSecurityGroupRule:
    """A rule that is gone."""
    return ec2.RevokedSecurityGroupRule(
        security_group_rule_id=rule.id,
        group_id=group.id,
        is_egress=rule.egress,
        ip_protocol=rule.protocol,
        from_port=rule.from_port,
        to_port=rule.to_port,
        cidr_ipv4=rule.cidr or None,
        referenced_group_id=rule.group or None,
        description=rule.description or None,
    )


def group_facts(group: SecurityGroup, names: Mapping[str, str]) -> Facts:
    """What filters may ask of a group; `names` are those of all groups by their ids."""
    found: dict[str, Iterable[str]] = {
        "description": [group.description],
        "group-id": [group.id],
        "group-name": [group.name],
        "owner-id": [group.account],
        "vpc-id": [vpc_id(group.account, group.region)],
        **tag_facts(group.tags),
    }
    for way, egress in (("", False), ("egress.", True)):
        rules = [rule for rule in group.rules if rule.egress is egress]
        peers = [rule.group for rule in rules if rule.group]
        found |= {
            f"{way}ip-permission.cidr": [rule.cidr for rule in rules if rule.cidr],
            f"{way}ip-permission.from-port": [str(rule.from_port) for rule in rules],
            f"{way}ip-permission.to-port": [str(rule.to_port) for rule in rules],
            f"{way}ip-permission.protocol": [rule.protocol for rule in rules],
            f"{way}ip-permission.group-id": peers,
            f"{way}ip-permission.group-name": [names.get(peer, "") for peer in peers],
            f"{way}ip-permission.user-id": [group.account] if peers else [],
        }
    return found


def rule_facts(group: SecurityGroup, rule: SecurityGroupRule) -> Facts:
    """What filters may ask of a rule."""
    return {"group-id": [group.id], "security-group-rule-id": [rule.id], **tag_facts(rule.tags)}
