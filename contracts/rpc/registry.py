"""What the registry does for other services."""

import msgspec

from contracts.rpc.command import Command


class IssuePullToken(msgspec.Struct, kw_only=True, frozen=True):
    """An agent wants to pull `image` (a reference as it stands in a task definition) for a task of this account.

    `to_run`: it is to be run, so that the account's scan gates decide too, which may take until its scan is done
    (WAIT_S in services/registry/handlers/gates.py). Refused with ScanGate then. `task` is its id, `cluster` the name of
    its cluster, which may have a gate of its own.
    """

    image: str
    account: str
    region: str
    to_run: bool = True
    task: str = ""
    cluster: str = ""


class PullToken(msgspec.Struct, kw_only=True, frozen=True):
    """How to pull it. `local` is False when the image is not one of this registry's: pull `image` from where it says.

    `image` is the reference to pull, with the registry's own host and port in it; user and password are for Basic
    authentication there. `pinned` is the same by the digest that the tag names now: who has that digest need not ask
    again. It is empty when there is no such image.
    """

    local: bool
    image: str
    username: str = ""
    password: str = ""
    insecure: bool = False
    pinned: str = ""


class IssueAttachToken(msgspec.Struct, kw_only=True, frozen=True):
    """A service of the platform has something to say about an image (its bill of materials) and wants to put it beside
    the image: manifests that refer to this digest, and blobs for them. The token is good for nothing else. Answered
    as IssuePullToken is; `pinned` is empty when there is no such image."""

    account: str
    region: str
    repository: str
    digest: str


ISSUE_PULL_TOKEN = Command("registry", "issue_pull_token", IssuePullToken, PullToken)

ISSUE_ATTACH_TOKEN = Command("registry", "issue_attach_token", IssueAttachToken, PullToken)

COMMANDS = (ISSUE_PULL_TOKEN, ISSUE_ATTACH_TOKEN)
