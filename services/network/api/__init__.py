"""The part of EC2's API that tells of the default VPC: security groups, their rules and tags, subnets, interfaces."""

from services.network.api.groups import Groups
from services.network.api.places import Places
from services.network.api.tags import Tags


class Ec2(Groups, Tags, Places):
    """All of it in one."""


__all__ = ["Ec2"]
