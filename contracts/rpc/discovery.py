"""What discovery does for other services."""

import msgspec

from contracts.rpc.command import Command


class ProvideName(msgspec.Struct, kw_only=True, frozen=True):
    """`<name>.<namespace>` is to be a name of the private DNS of this account. Asking twice does what asking once does.

    A namespace or service that somebody made by these names is used as it is. Errors are Cloud Map's: InvalidInput
    for what can't be a name, or for a namespace without DNS.
    """

    account: str
    region: str
    namespace: str
    name: str
    ttl: int = 5


class ProvidedName(msgspec.Struct, kw_only=True, frozen=True):
    """`registry_arn` is what an ECS service takes as its service registry to have its tasks found under `dns_name`."""

    registry_arn: str
    dns_name: str


class RemoveName(msgspec.Struct, kw_only=True, frozen=True):
    """The name is not wanted any more. The namespace stays, for it may be another's too."""

    account: str
    region: str
    registry_arn: str


class RemovedName(msgspec.Struct, kw_only=True, frozen=True):
    """`removed` is False while it has instances (ask again when they are gone), or when it was not there."""

    removed: bool


PROVIDE_NAME = Command("discovery", "provide_name", ProvideName, ProvidedName)

REMOVE_NAME = Command("discovery", "remove_name", RemoveName, RemovedName)

COMMANDS = (PROVIDE_NAME, REMOVE_NAME)
