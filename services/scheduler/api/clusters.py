"""Clusters.

https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Cluster.html
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
from msgspec.structs import replace

from contracts.aws import ecs
from contracts.records.scheduler import CLUSTER, Cluster
from contracts.rpc.scheduler import WORKLOADS_CLUSTER
from services.scheduler.api.account_settings import setting_of
from services.scheduler.api.base import EcsBase, wire
from services.scheduler.decisions import life, names, tags
from services.scheduler.decisions.capacity import check_strategy, not_found
from services.scheduler.decisions.pages import page
from services.scheduler.handlers import CLUSTER_NOT_FOUND
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError
from services.shared.state import Conflict

_INSIGHTS = "containerInsights"
_DEFAULT_SETTINGS = [{"name": _INSIGHTS, "value": "disabled"}]


class Clusters(EcsBase):
    """CreateCluster and its like."""

    async def create_cluster(
        self, context: RequestContext, request: ecs.CreateClusterRequest
    ) -> ecs.CreateClusterResponse:
        """Create, or give back the ACTIVE cluster of that name as it is."""
        self.world.require_connection()
        name = request.cluster_name or names.DEFAULT_CLUSTER
        if not names.NAME.match(name):
            raise AwsError("InvalidParameterException", "Identifier is invalid for Cluster.")
        if name == WORKLOADS_CLUSTER:
            raise AwsError("InvalidParameterException", f"The cluster name {name} is reserved for App Runner.")
        strategy = wire(request.default_capacity_provider_strategy or [])
        self._check_capacity(context, name, request.capacity_providers or [], strategy)
        labels = tags.read(request.tags)
        request.tags = request.cluster_name = None
        given = wire(request)
        if not any(setting.get("name") == _INSIGHTS for setting in given.get("settings") or ()):
            insights = setting_of(self.world, context, context.principal_arn, _INSIGHTS)
            given["settings"] = [*(given.get("settings") or ()), {"name": _INSIGHTS, "value": insights}]
        account, region = context.account, context.region
        fresh = Cluster(
            account=account,
            region=region,
            name=name,
            status="ACTIVE",
            created_at=self.world.clock(),
            request=given,
            tags=labels,
        )

        def change(old: Cluster | None) -> Cluster:
            return old if old is not None and old.status == "ACTIVE" else fresh

        cluster = await self.world.store.update(CLUSTER, (account, region, name), change, "cluster.created.v1")
        shown = self._cluster_shape(cluster or fresh, {"SETTINGS", "TAGS", "CONFIGURATIONS"})
        return ecs.CreateClusterResponse(cluster=shown)

    async def describe_clusters(
        self, context: RequestContext, request: ecs.DescribeClustersRequest
    ) -> ecs.DescribeClustersResponse:
        """The named clusters, `default` when none is named; those that are not there as MISSING failures."""
        self.world.require_connection()
        include = set(request.include or ())
        account, region = context.account, context.region
        found, failures = [], []
        for reference in request.clusters or [names.DEFAULT_CLUSTER]:
            name = names.last_part(reference)
            cluster = self.world.clusters.record(account, region, name)
            if cluster is None:
                failures.append(ecs.Failure(arn=names.arn(account, region, "cluster", name), reason="MISSING"))
            else:
                found.append(self._cluster_shape(cluster, include))
        return ecs.DescribeClustersResponse(clusters=found, failures=failures)

    async def list_clusters(
        self, context: RequestContext, request: ecs.ListClustersRequest
    ) -> ecs.ListClustersResponse:
        """The ARNs of ACTIVE clusters."""
        self.world.require_connection()
        clusters = self.world.clusters.records(context.account, context.region)
        found = [c for c in clusters if c.status == "ACTIVE" and not c.hidden]
        arns = sorted(names.arn(c.account, c.region, "cluster", c.name) for c in found)
        shown, token = page(arns, request.next_token, request.max_results)
        return ecs.ListClustersResponse(cluster_arns=shown, next_token=token)

    async def delete_cluster(
        self, context: RequestContext, request: ecs.DeleteClusterRequest
    ) -> ecs.DeleteClusterResponse:
        """Make a cluster INACTIVE; refused while it has services or tasks."""
        cluster = self._own_cluster(context, request.cluster)
        key = CLUSTER.key_of(cluster)
        if any(s.status != "INACTIVE" for s in self.world.services.records(*key)):
            raise AwsError(
                "ClusterContainsServicesException", "The Cluster cannot be deleted while Services are active."
            )
        if any(not life.over(task, status) for task, status in self.world.tasks_in(*key)):
            raise AwsError("ClusterContainsTasksException", "The Cluster cannot be deleted while Tasks are active.")
        deleted = await self._update(cluster, "cluster.deleted.v1", status="INACTIVE")
        return ecs.DeleteClusterResponse(cluster=self._cluster_shape(deleted, set()))

    async def update_cluster(
        self, context: RequestContext, request: ecs.UpdateClusterRequest
    ) -> ecs.UpdateClusterResponse:
        """Change settings, configuration or Service Connect defaults; what is not given stays."""
        cluster = self._own_cluster(context, request.cluster)
        changed = {k: v for k, v in wire(request).items() if k != "cluster"}
        updated = await self._update(cluster, "cluster.changed.v1", changed=changed)
        return ecs.UpdateClusterResponse(cluster=self._cluster_shape(updated, {"SETTINGS", "CONFIGURATIONS"}))

    async def update_cluster_settings(
        self, context: RequestContext, request: ecs.UpdateClusterSettingsRequest
    ) -> ecs.UpdateClusterSettingsResponse:
        """Change the settings."""
        cluster = self._own_cluster(context, request.cluster)
        updated = await self._update(cluster, "cluster.changed.v1", changed={"settings": wire(request.settings)})
        return ecs.UpdateClusterSettingsResponse(cluster=self._cluster_shape(updated, {"SETTINGS"}))

    async def put_cluster_capacity_providers(
        self, context: RequestContext, request: ecs.PutClusterCapacityProvidersRequest
    ) -> ecs.PutClusterCapacityProvidersResponse:
        """Replace the capacity providers and the default strategy."""
        cluster = self._own_cluster(context, request.cluster)
        strategy = wire(request.default_capacity_provider_strategy)
        self._check_capacity(context, cluster.name, request.capacity_providers, strategy)
        changed = {"capacityProviders": request.capacity_providers, "defaultCapacityProviderStrategy": strategy}
        updated = await self._update(cluster, "cluster.changed.v1", changed=changed)
        return ecs.PutClusterCapacityProvidersResponse(cluster=self._cluster_shape(updated, {"SETTINGS"}))

    def _check_capacity(
        self, context: RequestContext, cluster: str, providers: list[str], strategy: list[dict[str, Any]]
    ) -> None:
        known = self.world.providers_of(context.account, context.region, cluster)
        for provider in providers:
            if provider not in known:
                raise not_found(provider)
        check_strategy(strategy, known)
        if any(item["capacityProvider"] not in providers for item in strategy):
            raise AwsError(
                "InvalidParameterException",
                "The default capacity provider strategy can only contain capacity providers of the cluster.",
            )

    async def _update(
        self, cluster: Cluster, event: str, *, changed: dict[str, Any] | None = None, status: str | None = None
    ) -> Cluster:
        def change(old: Cluster | None) -> Cluster:
            if old is None or old.status != "ACTIVE":
                raise AwsError(*CLUSTER_NOT_FOUND)
            return replace(old, request={**old.request, **(changed or {})}, status=status or old.status)

        try:
            updated = await self.world.store.update(CLUSTER, CLUSTER.key_of(cluster), change, event)
        except Conflict:
            raise AwsError("UpdateInProgressException", "The cluster is being updated by others; try again.") from None
        return updated or cluster

    def _nodes(self, cluster: Cluster) -> int:
        active = cluster.status == "ACTIVE"
        return self.world.node_count(cluster.account, cluster.region, cluster.name) if active else 0

    def _cluster_shape(self, cluster: Cluster, include: set[str]) -> ecs.Cluster:
        request = cluster.request
        counts = self._counts(cluster)
        shape = ecs.Cluster(
            cluster_arn=names.arn(cluster.account, cluster.region, "cluster", cluster.name),
            cluster_name=cluster.name,
            status=cluster.status,
            registered_container_instances_count=self._nodes(cluster),
            running_tasks_count=counts["running"],
            pending_tasks_count=counts["pending"],
            active_services_count=counts["services"],
            statistics=[],
            tags=tags.write(cluster.tags) if "TAGS" in include else [],
            settings=[],
            capacity_providers=request.get("capacityProviders", []),
            default_capacity_provider_strategy=msgspec.convert(
                request.get("defaultCapacityProviderStrategy", []), list[ecs.CapacityProviderStrategyItem]
            ),
        )
        if "SETTINGS" in include:
            shape.settings = msgspec.convert(request.get("settings") or _DEFAULT_SETTINGS, list[ecs.ClusterSetting])
        if "CONFIGURATIONS" in include and "configuration" in request:
            shape.configuration = msgspec.convert(request["configuration"], ecs.ClusterConfiguration)
        if "serviceConnectDefaults" in request:
            shape.service_connect_defaults = msgspec.convert(
                request["serviceConnectDefaults"], ecs.ClusterServiceConnectDefaults
            )
        if "STATISTICS" in include:
            shape.statistics = [ecs.KeyValuePair(name=k, value=str(v)) for k, v in _statistics(counts).items()]
        return shape

    def _counts(self, cluster: Cluster) -> Counter[str]:
        key = CLUSTER.key_of(cluster)
        counts: Counter[str] = Counter()
        for (state, launch_type), number in self.world.counts(*key).items():
            side = "Fargate" if launch_type == "FARGATE" else "EC2"
            counts[state] += number
            counts[f"{state}{side}"] += number
        for service in self.world.services.records(*key):
            side = "Fargate" if service.request.get("launchType") == "FARGATE" else "EC2"
            if service.status == "ACTIVE":
                counts["services"] += 1
                counts[f"active{side}"] += 1
            elif service.status == "DRAINING":
                counts[f"draining{side}"] += 1
        return counts


def _statistics(counts: Counter[str]) -> dict[str, int]:
    return {
        f"{state}{side}{noun}": counts[f"{state}{side}"]
        for state, noun in (
            ("running", "TasksCount"),
            ("pending", "TasksCount"),
            ("active", "ServiceCount"),
            ("draining", "ServiceCount"),
        )
        for side in ("EC2", "Fargate")
    }
