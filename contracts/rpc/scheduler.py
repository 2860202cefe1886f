"""What the scheduler does for other services."""

import msgspec

from contracts.rpc.command import Command


class SetDesiredCount(msgspec.Struct, kw_only=True, frozen=True):
    """A service is to have this many tasks. The number is absolute, so asking twice does what asking once does.

    `cluster` and `service` are names. `cause` says who wants it and why, in one line of ASCII; it stands in the
    header `Cause` of the change. Errors are ECS': ClusterNotFoundException, ServiceNotFoundException,
    ServiceNotActiveException, InvalidParameterException.
    """

    account: str
    region: str
    cluster: str
    service: str
    desired_count: int
    cause: str = ""


class DesiredCountSet(msgspec.Struct, kw_only=True, frozen=True):
    """The count that was wanted before, and the one that is wanted now."""

    previous: int
    desired_count: int


SET_DESIRED_COUNT = Command("scheduler", "set_desired_count", SetDesiredCount, DesiredCountSet)

COMMANDS = (SET_DESIRED_COUNT,)
