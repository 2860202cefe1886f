"""Clusters, task definitions, and settings of accounts."""

from typing import Any

import msgspec


class Cluster(msgspec.Struct, kw_only=True, frozen=True):
    """A cluster. status: ACTIVE | INACTIVE. `request` is CreateCluster as it came (settings, strategy, tags).

    A hidden one holds the workloads of another service: it is described by its name, and not listed.
    """

    account: str
    region: str
    name: str
    status: str
    created_at: float
    request: dict[str, Any] = {}
    tags: dict[str, str] = {}
    hidden: bool = False


class TaskDefinition(msgspec.Struct, kw_only=True, frozen=True):
    """One revision of a family; a number is never used twice.

    It never changes but for its status (ACTIVE | INACTIVE | DELETE_IN_PROGRESS | DELETED) and tags. A DELETED one is
    an empty shell that keeps its number from being used again.

    `definition` is RegisterTaskDefinition as it came, with ECS' defaults filled in. A hidden one is a workload's: it is
    described by its name, and not listed.
    """

    account: str
    region: str
    family: str
    revision: int
    status: str
    definition: dict[str, Any]
    registered_at: float
    registered_by: str = ""
    deregistered_at: float | None = None
    delete_requested_at: float | None = None
    requires_attributes: list[str] = []
    compatibilities: list[str] = []
    tags: dict[str, str] = {}
    hidden: bool = False


class AccountSetting(msgspec.Struct, kw_only=True, frozen=True):
    """An account setting. `principal` is the ARN of who it is for, empty for the account's default."""

    account: str
    region: str
    principal: str
    name: str
    value: str
