"""What the parts of the API share: finding what a request names."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from typing import Any

from contracts.aws import ec2
from contracts.records.network import SecurityGroup, vpc_id
from services.network.adapters import World
from services.network.decisions.permissions import invalid
from services.shared.aws.context import RequestContext
from services.shared.aws.service import AwsService
from services.shared.errors import AwsError

GROUP_ID = re.compile(r"sg-(?:[0-9a-f]{8}|[0-9a-f]{17})")


class NetworkBase(AwsService):
    """Lookups that raise EC2's own errors."""

    api = ec2.API

    def __init__(self, world: World) -> None:
        self.world = world

    def group(self, context: RequestContext, group_id: str | None, name: str | None = None) -> SecurityGroup:
        """By id, or by name. Raises AwsError."""
        if group_id:
            if not GROUP_ID.fullmatch(group_id):
                raise AwsError("InvalidGroupId.Malformed", f'Invalid id: "{group_id}" (expecting "sg-...")')
            found = self.world.group(context.account, context.region, group_id)
        elif name:
            groups = self.world.groups(context.account, context.region)
            found = next((group for group in groups if group.name == name), None)
        else:
            raise AwsError("MissingParameter", "The request must contain the parameter groupName or groupId")
        if found is None:
            raise AwsError("InvalidGroup.NotFound", f"The security group '{group_id or name}' does not exist")
        return found

    def check_vpc(self, context: RequestContext, wanted: str | None) -> None:
        """Raises AwsError for a VPC other than the default one."""
        own = vpc_id(context.account, context.region)
        if wanted and wanted != own:
            text = f"The vpc ID '{wanted}' does not exist; the only one here is the default VPC, {own}"
            raise AwsError("InvalidVpcID.NotFound", text)


def dry(request: Any) -> None:
    """Ends a request that only asks whether it may. The door has asked IAM by now. Raises AwsError."""
    if request.dry_run:
        text = "Request would have succeeded, but DryRun flag is set."
        raise AwsError("DryRunOperation", text, 412)


def new_id(prefix: str) -> str:
    """A new id in AWS' form."""
    return f"{prefix}-0{secrets.token_hex(8)}"


def read_tags(tags: Sequence[ec2.Tag] | None) -> dict[str, str]:
    """Tags as they are stored. Raises AwsError."""
    found = {tag.key or "": tag.value or "" for tag in tags or ()}
    for key, value in found.items():
        if not 1 <= len(key) <= 127 or key.startswith("aws:") or len(value) > 255:
            raise invalid(f"Tag '{key}': keys have 1 to 127 characters and do not begin with aws:, values at most 255")
    if len(found) > 50:
        raise AwsError("TagLimitExceeded", "A resource has at most 50 tags")
    return found


def specified(specifications: Sequence[ec2.TagSpecification] | None, kind: str) -> dict[str, str]:
    """The tags that a request specifies for what it makes. Raises AwsError."""
    found: dict[str, str] = {}
    for each in specifications or ():
        if each.resource_type != kind:
            raise invalid(f"'{each.resource_type}' is not a valid taggable resource type for this operation.")
        found |= read_tags(each.tags)
    return found
