"""Daemons: one task on each node of the capacity providers that they name.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/managed-daemons-deployments.html
"""

from __future__ import annotations

from collections import Counter

import msgspec
from msgspec.structs import replace

from contracts.aws import ecs
from contracts.records.scheduler import SERVICE, Rollout, Service
from services.scheduler.api.base import wire
from services.scheduler.api.daemon_definitions import DaemonDefinitions
from services.scheduler.api.deployments import Deployments, _alarms, _chosen
from services.scheduler.decisions import managed_daemons, names, tags
from services.scheduler.decisions import services as rules
from services.scheduler.decisions.names import DAEMON
from services.scheduler.decisions.pages import page
from services.scheduler.decisions.rollback import alarm_names, configuration_of
from services.scheduler.decisions.rollouts import revision_id
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError

_NOT_FOUND = ("DaemonNotFoundException", "The specified daemon was not found.")
_NOT_ACTIVE = ("DaemonNotActiveException", "The specified daemon is not active.")


class Daemons(DaemonDefinitions, Deployments):
    """CreateDaemon and its like."""

    async def create_daemon(
        self, context: RequestContext, request: ecs.CreateDaemonRequest
    ) -> ecs.CreateDaemonResponse:
        """Write a daemon with its first deployment."""
        cluster = await self._used_cluster(context, request.cluster_arn)
        if not names.NAME.match(request.daemon_name):
            raise AwsError("InvalidParameterException", "Invalid daemon name.")
        given = managed_daemons.given(
            wire(request), self.world.providers_of(context.account, context.region, cluster.name)
        )
        definition = self._daemon_runnable(context, request.daemon_task_definition_arn)
        now = self.world.clock()
        alarmed = self.world.alarmed(context.account, context.region, given)
        if request.client_token is not None:
            given["clientToken"] = request.client_token
        key = (cluster.account, cluster.region, cluster.name, f"{DAEMON}{request.daemon_name}")
        deployments = rules.begun(given, definition, names.new_deployment_id(), now, alarmed=alarmed)
        fresh = rules.fresh(key, given, deployments, context.principal_arn, tags.read(request.tags), now)

        def change(old: Service | None) -> Service:
            if old is None or old.status == "INACTIVE":
                return fresh
            if (
                old.status == "ACTIVE"
                and request.client_token
                and old.request.get("clientToken") == request.client_token
            ):
                return old
            raise AwsError("InvalidParameterException", "There is a daemon of this name in the cluster already.")

        daemon = await self.world.store.update(SERVICE, SERVICE.key_of(fresh), change, "service.created.v1") or fresh
        return ecs.CreateDaemonResponse(
            daemon_arn=_arn(daemon, "daemon"),
            status="ACTIVE",
            created_at=daemon.created_at,
            deployment_arn=_latest(daemon),
        )

    def _daemon_runnable(self, context: RequestContext, reference: str) -> str:
        definition = self._daemon_definition(context, reference)
        if definition.status != "ACTIVE":
            raise AwsError("ClientException", "The specified daemon task definition is not in ACTIVE status.")
        return f"{definition.family}:{definition.revision}"

    async def update_daemon(
        self, context: RequestContext, request: ecs.UpdateDaemonRequest
    ) -> ecs.UpdateDaemonResponse:
        """Change a daemon: a new deployment, whatever the change is."""
        self.world.require_connection()
        cluster, name = managed_daemons.of_daemon_arn(request.daemon_arn)
        given = managed_daemons.given(wire(request), self.world.providers_of(context.account, context.region, cluster))
        definition = self._daemon_runnable(context, request.daemon_task_definition_arn)
        now, deployment_id = self.world.clock(), names.new_deployment_id()

        def change(old: Service | None) -> Service:
            if old is None or old.status == "INACTIVE":
                raise AwsError(*_NOT_FOUND)
            if old.status != "ACTIVE":
                raise AwsError(*_NOT_ACTIVE)
            alarmed = self.world.alarmed(context.account, context.region, given)
            return rules.updated(old, given, definition, True, deployment_id, now, alarmed=alarmed)

        key = (context.account, context.region, cluster, name)
        daemon = await self.world.store.update(SERVICE, key, change, "service.updated.v1")
        assert daemon is not None
        return ecs.UpdateDaemonResponse(
            daemon_arn=request.daemon_arn,
            status="ACTIVE",
            created_at=daemon.created_at,
            updated_at=_updated_at(daemon),
            deployment_arn=_latest(daemon),
        )

    async def delete_daemon(
        self, context: RequestContext, request: ecs.DeleteDaemonRequest
    ) -> ecs.DeleteDaemonResponse:
        """Stop the daemon's tasks; it is gone when they are."""
        self.world.require_connection()
        cluster, name = managed_daemons.of_daemon_arn(request.daemon_arn)

        def change(old: Service | None) -> Service:
            if old is None or old.status == "INACTIVE":
                raise AwsError(*_NOT_FOUND)
            if old.status != "ACTIVE":
                raise AwsError(*_NOT_ACTIVE)
            return replace(old, status="DRAINING", desired_count=0)

        key = (context.account, context.region, cluster, name)
        daemon = await self.world.store.update(SERVICE, key, change, "service.draining.v1")
        assert daemon is not None
        return ecs.DeleteDaemonResponse(
            daemon_arn=request.daemon_arn,
            status="DELETE_IN_PROGRESS",
            created_at=daemon.created_at,
            updated_at=self.world.clock(),
            deployment_arn=_latest(daemon),
        )

    async def describe_daemon(
        self, context: RequestContext, request: ecs.DescribeDaemonRequest
    ) -> ecs.DescribeDaemonResponse:
        """A daemon with the revisions that its tasks are of."""
        self.world.require_connection()
        where = (context.account, context.region)
        daemon = self.world.services.record(*where, *managed_daemons.of_daemon_arn(request.daemon_arn))
        if daemon is None or daemon.status == "INACTIVE":
            raise AwsError(*_NOT_FOUND)
        running = self._running(daemon)
        shape = ecs.DaemonDetail(
            daemon_arn=request.daemon_arn,
            cluster_arn=names.arn(*where, "cluster", daemon.cluster),
            status=managed_daemons.status(daemon),  # type: ignore[arg-type]
            current_revisions=[
                self._current_revision(daemon, d.id, running)
                for d in daemon.deployments
                if d.status == "PRIMARY" or any(key[0] == d.id for key in running)
            ],
            deployment_arn=_latest(daemon),
            created_at=daemon.created_at,
            updated_at=_updated_at(daemon),
        )
        return ecs.DescribeDaemonResponse(daemon=shape)

    def _running(self, daemon: Service) -> Counter[tuple[str, str]]:
        """How many tasks run, by deployment and capacity provider."""
        return Counter(
            (task.deployment, task.capacity_provider or "")
            for task, status in self.world.tasks_of(*SERVICE.key_of(daemon))
            if task.lost_at is None and status is not None and status.last_status == "RUNNING"
        )

    def _current_revision(
        self, daemon: Service, deployment: str, running: Counter[tuple[str, str]]
    ) -> ecs.DaemonRevisionDetail:
        total = sum(count for (of, _), count in running.items() if of == deployment)
        primary = daemon.deployments[0].id == deployment
        providers = [
            ecs.DaemonCapacityProvider(arn=_provider_arn(daemon, name), running_count=running[deployment, name])
            for name in managed_daemons.providers_of(daemon)
        ]
        return ecs.DaemonRevisionDetail(
            arn=_arn(daemon, "daemon-revision", deployment),
            capacity_providers=providers,
            total_running_count=total,
            total_without_daemon_count=max(0, daemon.desired_count - sum(running.values())) if primary else 0,
        )

    async def list_daemons(self, context: RequestContext, request: ecs.ListDaemonsRequest) -> ecs.ListDaemonsResponse:
        """A cluster's daemons, all but for the given capacity providers."""
        cluster = self._seen_cluster(context, request.cluster_arn)
        wanted = {names.last_part(arn) for arn in request.capacity_provider_arns or ()}
        found = {
            service.name: service
            for service in self.world.services.records(cluster.account, cluster.region, cluster.name)
            if names.daemon_name(service.name) is not None
            and service.status != "INACTIVE"
            and (not wanted or wanted & set(managed_daemons.providers_of(service)))
        }
        shown, token = page(sorted(found), request.next_token, request.max_results)
        summaries = [
            ecs.DaemonSummary(
                daemon_arn=_arn(found[name], "daemon"),
                status=managed_daemons.status(found[name]),  # type: ignore[arg-type]
                created_at=found[name].created_at,
                updated_at=_updated_at(found[name]),
            )
            for name in shown
        ]
        return ecs.ListDaemonsResponse(daemon_summaries_list=summaries, next_token=token)

    async def list_daemon_deployments(
        self, context: RequestContext, request: ecs.ListDaemonDeploymentsRequest
    ) -> ecs.ListDaemonDeploymentsResponse:
        """A daemon's deployments, newest first, all but for the given statuses and times."""
        self.world.require_connection()
        where = (context.account, context.region)
        daemon = self.world.services.record(*where, *managed_daemons.of_daemon_arn(request.daemon_arn))
        if daemon is None:
            raise AwsError(*_NOT_FOUND)
        found = _chosen(daemon, request.status, request.created_at)
        shown, token = page(sorted(found, reverse=True), request.next_token, request.max_results, reverse=True)
        summaries = [_deployment_summary(daemon, found[item]) for item in shown]
        return ecs.ListDaemonDeploymentsResponse(daemon_deployments=summaries, next_token=token)

    async def describe_daemon_deployments(
        self, context: RequestContext, request: ecs.DescribeDaemonDeploymentsRequest
    ) -> ecs.DescribeDaemonDeploymentsResponse:
        """The named deployments; those that are not there as MISSING failures."""
        found, failures = self._named(context, request.daemon_deployment_arns, "daemon-deployment", DAEMON)
        shapes = [self._daemon_deployment(daemon, rollout) for daemon, rollout in found]
        return ecs.DescribeDaemonDeploymentsResponse(daemon_deployments=shapes, failures=failures)

    async def describe_daemon_revisions(
        self, context: RequestContext, request: ecs.DescribeDaemonRevisionsRequest
    ) -> ecs.DescribeDaemonRevisionsResponse:
        """The named revisions: what the deployment that led to each made the daemon."""
        found, failures = self._named(context, request.daemon_revision_arns, "daemon-revision", DAEMON)
        shapes = [self._daemon_revision(daemon, rollout) for daemon, rollout in found]
        return ecs.DescribeDaemonRevisionsResponse(daemon_revisions=shapes, failures=failures)

    def _daemon_deployment(self, daemon: Service, rollout: Rollout) -> ecs.DaemonDeployment:
        summary = _deployment_summary(daemon, rollout)
        breaker = self._breaker(daemon, rollout)
        running = self._running(daemon)
        shape = ecs.DaemonDeployment(
            daemon_deployment_arn=summary.daemon_deployment_arn,
            cluster_arn=summary.cluster_arn,
            status=summary.status,
            status_reason=summary.status_reason,
            target_daemon_revision=self._deployed(daemon, rollout.id, running),
            source_daemon_revisions=[self._deployed(daemon, source, running) for source in rollout.sources],
            circuit_breaker=ecs.DaemonCircuitBreaker(
                failure_count=breaker.failure_count, status=breaker.status, threshold=breaker.threshold
            ),
            alarms=msgspec.convert(msgspec.to_builtins(_alarms(daemon, rollout)), ecs.DaemonDeploymentAlarms),
            deployment_configuration=_configuration(daemon),
            created_at=summary.created_at,
            started_at=summary.started_at,
            stopped_at=summary.stopped_at,
            finished_at=summary.finished_at,
        )
        if rollout.rolled_back_to:
            shape.rollback = ecs.DaemonRollback(
                reason=rollout.rollback_reason,
                started_at=rollout.rollback_at,
                rollback_target_daemon_revision_arn=_arn(daemon, "daemon-revision", rollout.rolled_back_to),
                rollback_capacity_providers=[
                    _provider_arn(daemon, name) for name in managed_daemons.providers_of(daemon)
                ],
            )
        return shape

    def _deployed(
        self, daemon: Service, deployment: str, running: Counter[tuple[str, str]]
    ) -> ecs.DaemonDeploymentRevisionDetail:
        current = self._current_revision(daemon, deployment, running)
        return ecs.DaemonDeploymentRevisionDetail(
            arn=current.arn,
            capacity_providers=[
                ecs.DaemonDeploymentCapacityProvider(arn=each.arn, running_instance_count=each.running_count)
                for each in current.capacity_providers or ()
            ],
            total_running_instance_count=current.total_running_count,
            total_without_daemon_instance_count=current.total_without_daemon_count,
            total_draining_instance_count=0,
        )

    def _daemon_revision(self, daemon: Service, rollout: Rollout) -> ecs.DaemonRevision:
        where = (daemon.account, daemon.region)
        family, _, number = rollout.deployment.task_definition.rpartition(":")
        settings = dict.fromkeys(("enableECSManagedTags", "enableExecuteCommand", "critical"), False)
        shape = msgspec.convert({"propagateTags": "NONE", **settings, **rollout.deployment.daemon}, ecs.DaemonRevision)
        shape.daemon_revision_arn = _arn(daemon, "daemon-revision", rollout.id)
        shape.cluster_arn = names.arn(*where, "cluster", daemon.cluster)
        shape.daemon_arn = _arn(daemon, "daemon")
        shape.daemon_task_definition_arn = names.task_definition_arn(*where, family, int(number))
        shape.created_at = rollout.created_at
        shape.container_images = [
            ecs.DaemonContainerImage(
                container_name=image.container_name, image=image.image, image_digest=image.image_digest
            )
            for image in self._images(daemon, rollout)
        ]
        return shape


def _arn(daemon: Service, kind: str, deployment: str = "") -> str:
    path = [daemon.cluster, names.daemon_name(daemon.name) or "", *([revision_id(deployment)] if deployment else [])]
    return names.arn(daemon.account, daemon.region, kind, *path)


def _configuration(daemon: Service) -> ecs.DaemonDeploymentConfiguration:
    given = configuration_of(daemon)
    shape = ecs.DaemonDeploymentConfiguration(
        drain_percent=daemon.request.get("drainPercent"), bake_time_in_minutes=given.get("bakeTimeInMinutes", 0)
    )
    if given.get("alarms"):
        shape.alarms = ecs.DaemonAlarmConfiguration(alarm_names=alarm_names(daemon.request), enable=True)
    return shape


def _provider_arn(daemon: Service, name: str) -> str:
    return names.arn(daemon.account, daemon.region, "capacity-provider", name)


def _latest(daemon: Service) -> str | None:
    return _arn(daemon, "daemon-deployment", daemon.rollouts[0].id) if daemon.rollouts else None


def _updated_at(daemon: Service) -> float:
    return max((rollout.created_at for rollout in daemon.rollouts), default=daemon.created_at)


def _deployment_summary(daemon: Service, rollout: Rollout) -> ecs.DaemonDeploymentSummary:
    return ecs.DaemonDeploymentSummary(
        daemon_deployment_arn=_arn(daemon, "daemon-deployment", rollout.id),
        daemon_arn=_arn(daemon, "daemon"),
        cluster_arn=names.arn(daemon.account, daemon.region, "cluster", daemon.cluster),
        status=rollout.status,  # type: ignore[arg-type]
        status_reason=rollout.status_reason or None,
        target_daemon_revision_arn=_arn(daemon, "daemon-revision", rollout.id),
        created_at=rollout.created_at,
        started_at=rollout.created_at,
        stopped_at=rollout.stopped_at,
        finished_at=rollout.finished_at,
    )
