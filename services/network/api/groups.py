"""Security groups."""

from __future__ import annotations

import re

from contracts.aws import ec2
from contracts.records.network import (
    ALL,
    ANYWHERE,
    DEFAULT,
    SECURITY_GROUP,
    SecurityGroup,
    SecurityGroupRule,
    vpc_id,
)
from services.network.api.base import GROUP_ID, NetworkBase, dry, new_id, specified
from services.network.decisions import usage
from services.network.decisions.filters import page, selected
from services.network.decisions.permissions import invalid
from services.network.decisions.shapes import GROUP_FILTERS, arn, group_facts, group_shape, tag_shapes
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError

TEXT = re.compile(r"[a-zA-Z0-9 ._\-:/()#,@\[\]+=&;{}!$*]{1,255}")
WANTED_ID = "roadstead:group-id"
"""The tag by which a group is made with an id that task definitions and services name already."""


class Groups(NetworkBase):
    """CreateSecurityGroup and its like."""

    async def create_security_group(
        self, context: RequestContext, request: ec2.CreateSecurityGroupRequest
    ) -> ec2.CreateSecurityGroupResult:
        """A group that lets everything out and nothing in. Raises AwsError."""
        self.check_vpc(context, request.vpc_id)
        for name, text in (("GroupName", request.group_name), ("GroupDescription", request.description)):
            if not TEXT.fullmatch(text):
                raise invalid(f"Value ({text}) for parameter {name} is invalid. Character sets beyond ASCII are not "
                              "supported; it has 1 to 255 characters.")  # fmt: skip
        if request.group_name.startswith("sg-"):
            raise invalid("Group names may not be in the format sg-*.")
        tags = specified(request.tag_specifications, "security-group")
        dry(request)
        async with self.world.naming:
            fresh = self._fresh(context, request, tags)
            await self.world.store.put(SECURITY_GROUP, fresh, "security_group.created.v1", expect=0)
        return ec2.CreateSecurityGroupResult(group_id=fresh.id, security_group_arn=arn(fresh), tags=tag_shapes(tags))

    def _fresh(
        self, context: RequestContext, request: ec2.CreateSecurityGroupRequest, tags: dict[str, str]
    ) -> SecurityGroup:
        known = self.world.groups(context.account, context.region)
        if len(known) >= self.world.settings.groups:
            text = f"The maximum number of security groups has been reached ({self.world.settings.groups})."
            raise AwsError("SecurityGroupLimitExceeded", text)
        if any(group.name == request.group_name for group in known):
            vpc = vpc_id(context.account, context.region)
            text = f"The security group '{request.group_name}' already exists for VPC '{vpc}'"
            raise AwsError("InvalidGroup.Duplicate", text)
        group_id = tags.get(WANTED_ID) or new_id("sg")
        if not GROUP_ID.fullmatch(group_id):
            raise invalid(f"Tag {WANTED_ID}: '{group_id}' is no security group's id (sg- and 8 or 17 hex digits)")
        if any(group.id == group_id for group in known):
            raise AwsError("InvalidGroup.Duplicate", f"The security group '{group_id}' already exists")
        return SecurityGroup(
            account=context.account,
            region=context.region,
            id=group_id,
            name=request.group_name,
            description=request.description,
            created_at=self.world.clock(),
            rules=[SecurityGroupRule(id=new_id("sgr"), egress=True, protocol=ALL, cidr=ANYWHERE)],
            tags=tags,
        )

    async def delete_security_group(
        self, context: RequestContext, request: ec2.DeleteSecurityGroupRequest
    ) -> ec2.DeleteSecurityGroupResult:
        """Delete it, unless a task is in it, a service puts tasks into it, or another group names it."""
        group = self.group(context, request.group_id, request.group_name)
        if group.name == DEFAULT:
            text = f'the specified group: "{group.id}" name: "{DEFAULT}" cannot be deleted by a user'
            raise AwsError("CannotDelete", text)
        dry(request)
        if users := await self._users(group):
            shown = ", ".join(users[:5]) + (f" and {len(users) - 5} more" if len(users) > 5 else "")
            raise AwsError("DependencyViolation", f"resource {group.id} has a dependent object: {shown}")
        await self.world.store.delete(SECURITY_GROUP, SECURITY_GROUP.key_of(group), "security_group.deleted.v1")
        return ec2.DeleteSecurityGroupResult(return_=True, group_id=group.id)

    async def _users(self, group: SecurityGroup) -> list[str]:
        where = (group.account, group.region)
        found = [f"security group {other}" for other in usage.referring(group.id, self.world.groups(*where))]
        services = await self.world.services(*where)
        found += [f"service {s.cluster}/{s.name}" for s in services if group.id in usage.of_service(s)]
        tasks = await self.world.tasks(*where)
        return found + [
            f"task {task.id}"
            for task, status in tasks
            if group.id in usage.of_task(task) and not usage.over(task, status)
        ]

    async def describe_security_groups(
        self, context: RequestContext, request: ec2.DescribeSecurityGroupsRequest
    ) -> ec2.DescribeSecurityGroupsResult:
        """The groups that are named and pass the filters; all without either. Raises AwsError."""
        dry(request)
        found = self.world.groups(context.account, context.region)
        names = {group.id: group.name for group in found}
        if request.group_ids or request.group_names:
            if request.max_results:
                text = "The parameter MaxResults cannot be used with the parameters GroupId or GroupName"
                raise AwsError("InvalidParameterCombination", text)
            named = [self.group(context, each) for each in request.group_ids or ()]
            named += [self.group(context, None, each) for each in request.group_names or ()]
            found = list({group.id: group for group in named}.values())
        passed = selected(found, request.filters, GROUP_FILTERS, lambda group: group_facts(group, names))
        shown, token = page(passed, lambda group: group.id, request.max_results, request.next_token)
        return ec2.DescribeSecurityGroupsResult(security_groups=[group_shape(g) for g in shown], next_token=token)
