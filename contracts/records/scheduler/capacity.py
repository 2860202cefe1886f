"""Capacity: users' own providers, what was made of nodes, what is taken back."""

from typing import Any

import msgspec


class CapacityProvider(msgspec.Struct, kw_only=True, frozen=True):
    """Capacity of a user's own: the nodes that are of a kind of its name.

    status: ACTIVE | INACTIVE. `request` is CreateCapacityProvider as it came, with what was changed since. One of
    managed instances is of one `cluster`.
    """

    account: str
    region: str
    name: str
    status: str
    created_at: float
    request: dict[str, Any] = {}
    tags: dict[str, str] = {}
    update_status: str | None = None
    cluster: str = ""


class ContainerInstance(msgspec.Struct, kw_only=True, frozen=True):
    """What a cluster's owner made of a node: attributes added to those the agent has, and whether it is to be emptied.

    status: ACTIVE | DRAINING | INACTIVE (deregistered). A node nobody said anything of has none. An INACTIVE one is in
    again when its agent registers anew, in another `session`; an external node is not.
    """

    account: str
    region: str
    cluster: str
    node: str
    status: str = "ACTIVE"
    attributes: dict[str, str] = {}
    version: int = 1
    session: str = ""


class SpotReclaim(msgspec.Struct, kw_only=True, frozen=True):
    """A node whose spot capacity is taken back: it gets no FARGATE_SPOT tasks as long as this stands, and those it has
    are gone by `until`. Times in seconds since the epoch."""

    node: str
    since: float
    until: float
