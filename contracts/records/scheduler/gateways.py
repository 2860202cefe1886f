"""Gateways, ways in that services share."""

from typing import Any

import msgspec


class Association(msgspec.Struct, kw_only=True, frozen=True):
    """That services of a cluster may be behind a gateway. status: ACTIVE | DISASSOCIATING (no new ones; it is over when
    no service has a route). It is with the cluster that was made at `cluster_since`, and ends with it."""

    status: str
    cluster_since: float


class Gateway(msgspec.Struct, kw_only=True, frozen=True):
    """A way in to services of its clusters; it is deleted for good. `configuration`: hostSharedAlb as it came, with
    what was changed since. status: ACTIVE | UPDATE_COMPLETE. `clusters`: associations by the cluster's name."""

    account: str
    region: str
    name: str
    created_at: float
    updated_at: float
    infrastructure_role: str
    configuration: dict[str, Any] = {}
    deletion_protection: bool = True
    propagate_tags: str = "GATEWAY"
    client_token: str = ""
    status: str = "ACTIVE"
    clusters: dict[str, Association] = {}
    tags: dict[str, str] = {}
