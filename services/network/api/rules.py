"""Rules of security groups. A change is one write of the group, whatever number of rules it adds or takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from contracts.aws import ec2
from contracts.records.network import SECURITY_GROUP, SecurityGroup, SecurityGroupRule, default_group, default_group_id
from services.network.api.base import NetworkBase, dry, new_id, specified
from services.network.decisions.filters import page, selected
from services.network.decisions.permissions import (
    Rule,
    authorized,
    invalid,
    not_there,
    read_permissions,
    revoked,
    rule_of,
)
from services.network.decisions.shapes import RULE_FILTERS, revoked_shape, rule_facts, rule_shape
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError

Authorize = ec2.AuthorizeSecurityGroupIngressRequest | ec2.AuthorizeSecurityGroupEgressRequest
Revoke = ec2.RevokeSecurityGroupIngressRequest | ec2.RevokeSecurityGroupEgressRequest


class Rules(NetworkBase):
    """AuthorizeSecurityGroupIngress and its like."""

    async def authorize_security_group_ingress(
        self, context: RequestContext, request: ec2.AuthorizeSecurityGroupIngressRequest
    ) -> ec2.AuthorizeSecurityGroupIngressResult:
        """Rules for what may come in. Raises AwsError."""
        shapes = await self._authorize(context, request, egress=False)
        return ec2.AuthorizeSecurityGroupIngressResult(return_=True, security_group_rules=shapes)

    async def authorize_security_group_egress(
        self, context: RequestContext, request: ec2.AuthorizeSecurityGroupEgressRequest
    ) -> ec2.AuthorizeSecurityGroupEgressResult:
        """Rules for what may go out. Raises AwsError."""
        shapes = await self._authorize(context, request, egress=True)
        return ec2.AuthorizeSecurityGroupEgressResult(return_=True, security_group_rules=shapes)

    async def _authorize(
        self, context: RequestContext, request: Authorize, egress: bool
    ) -> list[ec2.SecurityGroupRule]:
        group = self.group(context, request.group_id, getattr(request, "group_name", None))
        tags = specified(request.tag_specifications, "security-group-rule")
        wanted = self._wanted(context, request, egress)
        if not wanted:
            raise AwsError("MissingParameter", "The request must contain the parameter ipPermissions")
        fresh = [self._record(rule, description, tags) for rule, description in wanted]
        dry(request)
        most = self.world.settings.rules
        await self.change(group, lambda now: authorized(now, fresh, most), "security_group.authorized.v1")
        return [rule_shape(group, each) for each in fresh]

    @staticmethod
    def _record(rule: Rule, description: str, tags: dict[str, str]) -> SecurityGroupRule:
        return SecurityGroupRule(
            id=new_id("sgr"),
            egress=rule.egress,
            protocol=rule.protocol,
            from_port=rule.from_port,
            to_port=rule.to_port,
            cidr=rule.cidr,
            group=rule.group,
            description=description,
            tags=tags,
        )

    def _wanted(self, context: RequestContext, request: Authorize | Revoke, egress: bool) -> list[tuple[Rule, str]]:
        """What a request asks for, in permissions or in the members that it has itself."""
        permissions = list(request.ip_permissions or ())
        source = request.source_security_group_name
        if request.cidr_ip or source:
            ranges = [ec2.IpRange(cidr_ip=request.cidr_ip)] if request.cidr_ip else None
            pairs = [ec2.UserIdGroupPair(group_name=source)] if source else None
            # A source group alone means all that its members send.
            protocol = request.ip_protocol or ("-1" if source else None)
            permissions.append(
                ec2.IpPermission(
                    ip_protocol=protocol,
                    from_port=request.from_port,
                    to_port=request.to_port,
                    ip_ranges=ranges,
                    user_id_group_pairs=pairs,
                )
            )
        return read_permissions(permissions, egress, lambda pair: self._peer(context, pair))

    def _peer(self, context: RequestContext, pair: ec2.UserIdGroupPair) -> SecurityGroup:
        if pair.user_id and pair.user_id != context.account:
            raise invalid(f"'{pair.user_id}': groups of other accounts cannot be named, nor peered VPCs")
        return self.group(context, pair.group_id, pair.group_name)

    async def revoke_security_group_ingress(
        self, context: RequestContext, request: ec2.RevokeSecurityGroupIngressRequest
    ) -> ec2.RevokeSecurityGroupIngressResult:
        """Take rules out. Raises AwsError."""
        shapes = await self._revoke(context, request, egress=False)
        return ec2.RevokeSecurityGroupIngressResult(return_=True, revoked_security_group_rules=shapes)

    async def revoke_security_group_egress(
        self, context: RequestContext, request: ec2.RevokeSecurityGroupEgressRequest
    ) -> ec2.RevokeSecurityGroupEgressResult:
        """Take rules out. Raises AwsError."""
        shapes = await self._revoke(context, request, egress=True)
        return ec2.RevokeSecurityGroupEgressResult(return_=True, revoked_security_group_rules=shapes)

    async def _revoke(
        self, context: RequestContext, request: Revoke, egress: bool
    ) -> list[ec2.RevokedSecurityGroupRule]:
        group = self.group(context, request.group_id, getattr(request, "group_name", None))
        if any(each.ipv6_ranges or each.prefix_list_ids for each in request.ip_permissions or ()):
            raise not_there()  # no rule has such a peer; Terraform asks for `::/0` to be revoked of every new group
        wanted = [rule for rule, _ in self._wanted(context, request, egress)]
        ids = request.security_group_rule_ids or []
        if not wanted and not ids:
            raise AwsError("MissingParameter", "The request must contain the parameter ipPermissions")
        dry(request)
        gone: list[SecurityGroupRule] = []

        def without(now: SecurityGroup) -> SecurityGroup:
            gone[:] = revoked(now, wanted, ids, egress)
            return replace(now, rules=[rule for rule in now.rules if rule not in gone])

        await self.change(group, without, "security_group.revoked.v1")
        return [revoked_shape(group, rule) for rule in gone]

    async def change(
        self, group: SecurityGroup, how: Callable[[SecurityGroup], SecurityGroup], event: str
    ) -> SecurityGroup:
        """Change a group from a fresh read; the default one becomes a record by its first change. Raises AwsError."""

        def changed(now: SecurityGroup | None) -> SecurityGroup:
            if now is None and group.id == default_group_id(group.account, group.region):
                now = default_group(group.account, group.region)
            if now is None:
                raise AwsError("InvalidGroup.NotFound", f"The security group '{group.id}' does not exist")
            return how(now)

        record = await self.world.store.update(SECURITY_GROUP, SECURITY_GROUP.key_of(group), changed, event)
        assert record is not None
        return record

    async def modify_security_group_rules(
        self, context: RequestContext, request: ec2.ModifySecurityGroupRulesRequest
    ) -> ec2.ModifySecurityGroupRulesResult:
        """Other protocols, ports, peers or descriptions for rules that keep their ids. Raises AwsError."""
        group = self.group(context, request.group_id)
        wanted = {each.security_group_rule_id: each.security_group_rule for each in request.security_group_rules}
        dry(request)

        def modified(now: SecurityGroup) -> SecurityGroup:
            known = {rule.id: rule for rule in now.rules}
            for rule_id, given in wanted.items():
                if rule_id not in known:
                    text = f"The security group rule ID '{rule_id}' does not exist"
                    raise AwsError("InvalidSecurityGroupRuleId.NotFound", text)
                if given is not None:
                    known[rule_id] = self._modified(context, known[rule_id], given)
            if len({rule_of(rule) for rule in known.values()}) < len(known):
                raise AwsError("InvalidPermission.Duplicate", "the specified rule already exists")
            return replace(now, rules=list(known.values()))

        await self.change(group, modified, "security_group.modified.v1")
        return ec2.ModifySecurityGroupRulesResult(return_=True)

    def _modified(
        self, context: RequestContext, rule: SecurityGroupRule, given: ec2.SecurityGroupRuleRequest
    ) -> SecurityGroupRule:
        permission = ec2.IpPermission(ip_protocol=given.ip_protocol, from_port=given.from_port, to_port=given.to_port)
        if given.cidr_ipv4:
            permission.ip_ranges = [ec2.IpRange(cidr_ip=given.cidr_ipv4, description=given.description)]
        if given.cidr_ipv6:
            permission.ipv6_ranges = [ec2.Ipv6Range(cidr_ipv6=given.cidr_ipv6)]
        if given.prefix_list_id:
            permission.prefix_list_ids = [ec2.PrefixListId(prefix_list_id=given.prefix_list_id)]
        if given.referenced_group_id:
            pair = ec2.UserIdGroupPair(group_id=given.referenced_group_id, description=given.description)
            permission.user_id_group_pairs = [pair]
        found = read_permissions([permission], rule.egress, lambda pair: self._peer(context, pair))
        if len(found) != 1:
            raise invalid("A rule has one peer: a CIDR block or a security group")
        fresh, description = found[0]
        return replace(self._record(fresh, description, rule.tags), id=rule.id)

    async def describe_security_group_rules(
        self, context: RequestContext, request: ec2.DescribeSecurityGroupRulesRequest
    ) -> ec2.DescribeSecurityGroupRulesResult:
        """The rules that are named and pass the filters, of all groups. Raises AwsError."""
        dry(request)
        groups = self.world.groups(context.account, context.region)
        found: list[tuple[SecurityGroup, SecurityGroupRule]] = [(g, rule) for g in groups for rule in g.rules]
        if request.security_group_rule_ids:
            by_id: dict[str, Any] = {rule.id: (group, rule) for group, rule in found}
            for rule_id in request.security_group_rule_ids:
                if rule_id not in by_id:
                    text = f"The security group rule ID '{rule_id}' does not exist"
                    raise AwsError("InvalidSecurityGroupRuleId.NotFound", text)
            found = [by_id[rule_id] for rule_id in request.security_group_rule_ids]
        passed = selected(found, request.filters, RULE_FILTERS, lambda pair: rule_facts(*pair))
        shown, token = page(passed, lambda pair: pair[1].id, request.max_results, request.next_token)
        return ec2.DescribeSecurityGroupRulesResult(
            security_group_rules=[rule_shape(*pair) for pair in shown], next_token=token
        )
