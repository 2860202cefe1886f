"""Tags of groups and of rules, which are in the group's record."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from contracts.aws import ec2
from contracts.records.network import SecurityGroup
from services.network.api.base import dry, read_tags
from services.network.api.rules import Rules
from services.network.decisions.filters import Facts, page, selected
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError

TAG_FILTERS = ("key", "resource-id", "resource-type", "value")
Tagged = dict[str, str]


class Tags(Rules):
    """CreateTags and its like."""

    async def create_tags(self, context: RequestContext, request: ec2.CreateTagsRequest) -> None:
        """Tag groups and rules; a tag that is there gets the new value. Raises AwsError."""
        fresh = read_tags(request.tags)
        await self._retag(context, request, lambda tags: _checked(tags | fresh))

    async def delete_tags(self, context: RequestContext, request: ec2.DeleteTagsRequest) -> None:
        """Take tags away: those keys, where a value is given only with that value; all without a tag."""
        wanted = {tag.key or "": tag.value for tag in request.tags or ()}

        def kept(tags: Tagged) -> Tagged:
            if not wanted:
                return {}
            return {k: v for k, v in tags.items() if k not in wanted or wanted[k] not in (None, v)}

        await self._retag(context, request, kept)

    async def _retag(
        self,
        context: RequestContext,
        request: ec2.CreateTagsRequest | ec2.DeleteTagsRequest,
        how: Callable[[Tagged], Tagged],
    ) -> None:
        owners = {each: self._owner(context, each) for each in request.resources}
        dry(request)
        for group in {group.id: group for group in owners.values()}.values():
            named = {each for each, owner in owners.items() if owner.id == group.id}
            await self.change(group, lambda now, named=named: _tagged(now, named, how), "security_group.tagged.v1")

    def _owner(self, context: RequestContext, resource: str) -> SecurityGroup:
        if resource.startswith("sgr-"):
            for group in self.world.groups(context.account, context.region):
                if any(rule.id == resource for rule in group.rules):
                    return group
            text = f"The security group rule ID '{resource}' does not exist"
            raise AwsError("InvalidSecurityGroupRuleId.NotFound", text)
        if resource.startswith("sg-"):
            return self.group(context, resource)
        raise AwsError("InvalidID", f"The ID '{resource}' is not valid: security groups and their rules have tags here")

    async def describe_tags(self, context: RequestContext, request: ec2.DescribeTagsRequest) -> ec2.DescribeTagsResult:
        """All tags of the region that pass the filters. Raises AwsError."""
        dry(request)
        found = []
        for group in self.world.groups(context.account, context.region):
            found += [_shape("security-group", group.id, *tag) for tag in group.tags.items()]
            for rule in group.rules:
                found += [_shape("security-group-rule", rule.id, *tag) for tag in rule.tags.items()]
        passed = selected(found, request.filters, TAG_FILTERS, _facts)
        shown, token = page(passed, lambda t: f"{t.resource_id} {t.key}", request.max_results, request.next_token)
        return ec2.DescribeTagsResult(tags=shown, next_token=token)


def _checked(tags: Tagged) -> Tagged:
    return read_tags([ec2.Tag(key=key, value=value) for key, value in tags.items()])


def _tagged(group: SecurityGroup, named: set[str], how: Callable[[Tagged], Tagged]) -> SecurityGroup:
    rules = [replace(rule, tags=how(rule.tags)) if rule.id in named else rule for rule in group.rules]
    return replace(group, rules=rules, tags=how(group.tags) if group.id in named else group.tags)


def _shape(kind: str, resource: str, key: str, value: str) -> ec2.TagDescription:
    return ec2.TagDescription(resource_type=kind, resource_id=resource, key=key, value=value)  # type: ignore[arg-type]


def _facts(tag: ec2.TagDescription) -> Facts:
    return {
        "key": [tag.key or ""],
        "resource-id": [tag.resource_id or ""],
        "resource-type": [tag.resource_type or ""],
        "value": [tag.value or ""],
    }
