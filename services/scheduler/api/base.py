"""What all operations have: the world, and how to find what a request means."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from contracts.aws import ecs
from contracts.records.app_runner_gateway import Ingress
from contracts.records.network import SECURITY_GROUP, default_group_id
from contracts.records.scheduler import Cluster, TaskDefinition
from contracts.rpc.scheduler import WORKLOADS_CLUSTER
from services.scheduler.adapters import Joined, World
from services.scheduler.decisions.names import DAEMON, cluster_name, family_and_revision
from services.scheduler.decisions.requests import groups_named, no_group
from services.scheduler.handlers import CLUSTER_NOT_FOUND, active_cluster
from services.shared.aws.context import RequestContext
from services.shared.aws.service import AwsService
from services.shared.errors import AwsError
from services.shared.state import fetch


def wire(value: Any) -> Any:
    """A Struct of the API (or a list of them) as plain JSON in the wire's names."""
    return msgspec.to_builtins(value)


class EcsBase(AwsService):
    """Reads are served from memory while NATS is connected; while it is away every operation answers 503."""

    api = ecs.API

    def __init__(self, world: World) -> None:
        self.world = world

    def _seen_cluster(self, context: RequestContext, reference: str | None) -> Cluster:
        """The ACTIVE cluster that a reading request means. Raises ClusterNotFoundException."""
        self.world.require_connection()
        cluster = self.world.clusters.record(context.account, context.region, cluster_name(reference))
        if cluster is None or cluster.status != "ACTIVE":
            raise AwsError(*CLUSTER_NOT_FOUND)
        return cluster

    async def _used_cluster(self, context: RequestContext, reference: str | None) -> Cluster:
        """The ACTIVE cluster that a request wants to use; `default` may come into being. The workloads' cluster is
        nobody's to use: what runs there is given App Runner's roles."""
        self.world.require_connection()
        name = cluster_name(reference)
        if name == WORKLOADS_CLUSTER:
            raise AwsError(*CLUSTER_NOT_FOUND)
        return await active_cluster(self.world, context.account, context.region, name)

    def _own_cluster(self, context: RequestContext, reference: str | None) -> Cluster:
        """The ACTIVE cluster that a request changes something in; not the workloads'. Raises
        ClusterNotFoundException."""
        cluster = self._seen_cluster(context, reference)
        if cluster.name == WORKLOADS_CLUSTER:
            raise AwsError(*CLUSTER_NOT_FOUND)
        return cluster

    async def _require_groups(self, cluster: Cluster, network: Mapping[str, Any] | None) -> None:
        """Refuse a network configuration with a security group that is not there. Its owner's records are read now:
        who has just made one must be able to use it. Raises InvalidParameterException."""
        account, region = cluster.account, cluster.region
        named = [group for group in groups_named(network or {}) if group != default_group_id(account, region)]
        found = await asyncio.gather(*(fetch(self.world.bus, SECURITY_GROUP, (account, region, g)) for g in named))
        for group, record in zip(named, found, strict=True):
            if record is None:
                raise no_group(group)

    def _ingress(self) -> Ingress:
        """Where the gateway answers. Raises ServerException, UnsupportedFeatureException."""
        ingress = self.world.ingress
        if ingress is None:
            raise AwsError("ServerException", "The gateway has not said yet where it answers requests.")
        if ingress.missing:
            raise AwsError("UnsupportedFeatureException", ingress.missing)
        return ingress

    def _find(self, cluster: Cluster, task_id: str) -> Joined | None:
        """A task with its status."""
        key = self.world.task_key(cluster.account, cluster.region, cluster.name, task_id)
        return self.world.joined(key) if key is not None else None

    def _definition(self, context: RequestContext, reference: str) -> TaskDefinition | None:
        """The revision that a reference means; without a number the latest ACTIVE one."""
        family, revision = family_and_revision(reference)
        return None if family.startswith(DAEMON) else self._revision_of(context, family, revision)

    def _revision_of(self, context: RequestContext, family: str, revision: int | None) -> TaskDefinition | None:
        """A revision of a family, the latest ACTIVE one when no number is given."""
        account, region = context.account, context.region
        if revision is not None:
            found = self.world.definitions.record(account, region, family, str(revision))
            return found if found is not None and found.status != "DELETED" else None
        for number in range(self.world.latest_revision(account, region, family), 0, -1):
            found = self.world.definitions.record(account, region, family, str(number))
            if found is not None and found.status == "ACTIVE":
                return found
        return None

    def _runnable(self, context: RequestContext, reference: str) -> TaskDefinition:
        """The revision, if tasks may be started from it. Raises ClientException."""
        definition = self._definition(context, reference)
        if definition is None:
            raise AwsError("ClientException", "TaskDefinition not found.")
        if definition.status != "ACTIVE":
            raise AwsError("ClientException", "TaskDefinition is inactive")
        return definition
