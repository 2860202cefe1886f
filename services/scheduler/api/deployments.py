"""Deployments of services and the revisions they lead to, as they went.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-deployment.html
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
from msgspec.structs import replace

from contracts.aws import ecs
from contracts.records.scheduler import SERVICE, Express, Rollout, Service
from services.scheduler.api.base import EcsBase
from services.scheduler.api.gateways import connection
from services.scheduler.decisions import names
from services.scheduler.decisions.backoff import history
from services.scheduler.decisions.capacity import of_launch_type
from services.scheduler.decisions.express import endpoint
from services.scheduler.decisions.hooks import decided
from services.scheduler.decisions.pages import page
from services.scheduler.decisions.rollback import (
    Failure,
    alarm_names,
    breaker,
    configuration_of,
    given_up,
    rollback_target,
    threshold,
)
from services.scheduler.decisions.rollouts import deployment_of, of_arn, recorded, revision_id
from services.scheduler.decisions.shifting import wanted_count
from services.scheduler.handlers.counts import SERVICE_NOT_FOUND
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError

MOST_DESCRIBED = 20


class Deployments(EcsBase):
    """ListServiceDeployments and its like."""

    async def list_service_deployments(
        self, context: RequestContext, request: ecs.ListServiceDeploymentsRequest
    ) -> ecs.ListServiceDeploymentsResponse:
        """The service's deployments, newest first, all but for the given statuses and times."""
        cluster = self._seen_cluster(context, request.cluster)
        key = (cluster.account, cluster.region, cluster.name, names.service_name(request.service))
        service = self.world.services.record(*key)
        if service is None:
            raise AwsError(*SERVICE_NOT_FOUND)
        found = _chosen(service, request.status, request.created_at)
        shown, token = page(sorted(found, reverse=True), request.next_token, request.max_results, reverse=True)
        briefs = [_brief(service, found[item]) for item in shown]
        return ecs.ListServiceDeploymentsResponse(service_deployments=briefs, next_token=token)

    async def describe_service_deployments(
        self, context: RequestContext, request: ecs.DescribeServiceDeploymentsRequest
    ) -> ecs.DescribeServiceDeploymentsResponse:
        """The named deployments; those that are not there as MISSING failures."""
        found, failures = self._named(context, request.service_deployment_arns, "service-deployment")
        shapes = [self._rollout_shape(service, rollout) for service, rollout in found]
        return ecs.DescribeServiceDeploymentsResponse(service_deployments=shapes, failures=failures)

    async def describe_service_revisions(
        self, context: RequestContext, request: ecs.DescribeServiceRevisionsRequest
    ) -> ecs.DescribeServiceRevisionsResponse:
        """The named revisions: what the deployment that led to each made the service."""
        found, failures = self._named(context, request.service_revision_arns, "service-revision")
        shapes = [self._revision_shape(service, rollout) for service, rollout in found]
        return ecs.DescribeServiceRevisionsResponse(service_revisions=shapes, failures=failures)

    async def stop_service_deployment(
        self, context: RequestContext, request: ecs.StopServiceDeploymentRequest
    ) -> ecs.StopServiceDeploymentResponse:
        """End a deployment in progress: back to the latest that was complete (ROLLBACK), or as it is (ABORT)."""
        self.world.require_connection()
        arn = request.service_deployment_arn
        now = self.world.clock()
        said = "ECS deployment was stopped by StopServiceDeployment."
        rolls_back = (request.stop_type or "ROLLBACK") == "ROLLBACK"
        why = Failure(said, "it was stopped.", "StopServiceDeployment", rolls_back)

        def change(old: Service | None) -> Service:
            service = _in_progress(old, arn)
            if rolls_back and rollback_target(service) is None:
                said = "There is no completed service revision to roll back to."
                raise AwsError("ConflictException", said, resourceIds=[arn])
            deployments, _ = given_up(service, why, now)
            return recorded(replace(service, deployments=deployments, steady=False), now)

        key = (context.account, context.region, *of_arn(arn, "service-deployment")[:2])
        await self.world.store.update(SERVICE, key, change, "service.updated.v1")
        return ecs.StopServiceDeploymentResponse(service_deployment_arn=arn)

    async def continue_service_deployment(
        self, context: RequestContext, request: ecs.ContinueServiceDeploymentRequest
    ) -> ecs.ContinueServiceDeploymentResponse:
        """Decide a PAUSE hook that a deployment waits for: go on (CONTINUE), or back (ROLLBACK)."""
        self.world.require_connection()
        arn = request.service_deployment_arn

        def change(old: Service | None) -> Service:
            service = _in_progress(old, arn)
            primary = service.deployments[0]
            runs = primary.stage.hooks if primary.stage is not None else []
            if not any(r.id == request.hook_id and r.status == "AWAITING_ACTION" for r in runs):
                raise AwsError("InvalidParameterException", f"No lifecycle hook {request.hook_id} awaits an action.")
            assert primary.stage is not None
            action = request.action or "CONTINUE"
            found = [decided(run, action) if run.id == request.hook_id else run for run in runs]
            primary = replace(primary, stage=replace(primary.stage, hooks=found))
            return replace(service, deployments=[primary, *service.deployments[1:]])

        key = (context.account, context.region, *of_arn(arn, "service-deployment")[:2])
        await self.world.store.update(SERVICE, key, change, "service.updated.v1")
        return ecs.ContinueServiceDeploymentResponse(service_deployment_arn=arn)

    def _named(
        self, context: RequestContext, arns: list[str], kind: str, prefix: str = ""
    ) -> tuple[list[tuple[Service, Rollout]], list[ecs.Failure]]:
        """The rollouts that ARNs name, each with its service; `prefix` is what the service's record has before the name
        in the ARN."""
        self.world.require_connection()
        if not 1 <= len(arns) <= MOST_DESCRIBED:
            raise AwsError("InvalidParameterException", f"Specify between 1 and {MOST_DESCRIBED} ARNs.")
        found, failures = [], []
        for arn in arns:
            cluster, name, number = of_arn(arn, kind)
            service = self.world.services.record(context.account, context.region, cluster, f"{prefix}{name}")
            rollout = _rollout(service, number) if service is not None else None
            if service is None or rollout is None:
                failures.append(ecs.Failure(arn=arn, reason="MISSING"))
            else:
                found.append((service, rollout))
        return found, failures

    def _rollout_shape(self, service: Service, rollout: Rollout) -> ecs.ServiceDeployment:
        brief = _brief(service, rollout)
        shape = ecs.ServiceDeployment(
            service_deployment_arn=brief.service_deployment_arn,
            service_arn=brief.service_arn,
            cluster_arn=brief.cluster_arn,
            created_at=rollout.created_at,
            started_at=rollout.created_at,
            finished_at=rollout.finished_at,
            stopped_at=rollout.stopped_at,
            updated_at=rollout.updated_at,
            source_service_revisions=[self._summary(service, rollout, one) for one in rollout.sources],
            target_service_revision=self._summary(service, rollout, rollout.id),
            status=rollout.status,  # type: ignore[arg-type]
            status_reason=rollout.status_reason or None,
            deployment_configuration=msgspec.convert(configuration_of(service), ecs.DeploymentConfiguration),
            deployment_circuit_breaker=self._breaker(service, rollout),
            lifecycle_stage=(rollout.stage or None),  # type: ignore[arg-type]
            lifecycle_hook_details=_hook_details(service, rollout),
            alarms=_alarms(service, rollout),
        )
        if rollout.rolled_back_to:
            shape.rollback = ecs.Rollback(
                reason=rollout.rollback_reason,
                started_at=rollout.rollback_at,
                service_revision_arn=_arn(service, "service-revision", rollout.rolled_back_to),
            )
        return shape

    def _summary(self, service: Service, rollout: Rollout, one: str) -> ecs.ServiceRevisionSummary:
        members = self.world.members(*SERVICE.key_of(service))
        states = Counter(m.state for m in members if m.deployment == one)
        there = next((d for d in service.deployments if d.id == one), None)
        wanted = wanted_count(service, there) if there is not None else 0
        shape = ecs.ServiceRevisionSummary(
            arn=_arn(service, "service-revision", one),
            requested_task_count=states["running"] + states["pending"] if wanted is None else wanted,
            running_task_count=states["running"],
            pending_task_count=states["pending"],
        )
        if rollout.deployment.weight is not None and (there is None or there.weight is not None):
            shape.requested_production_traffic_weight = there.weight if there is not None else 0.0
            shape.requested_test_traffic_weight = there.test_weight if there is not None else 0.0
        return shape

    def _breaker(self, service: Service, rollout: Rollout) -> ecs.ServiceDeploymentCircuitBreaker:
        enabled = breaker(service).get("enable")
        own = [m for m in self.world.members(*SERVICE.key_of(service)) if m.deployment == rollout.id]
        failures = history(own, self.world.clock(), self.world.backoff).failures
        limit = threshold(service.desired_count)
        if not enabled:
            status = "DISABLED"
        elif rollout.status == "IN_PROGRESS":
            status = "MONITORING"
        else:
            status = "TRIGGERED" if "circuit breaker" in rollout.status_reason else "MONITORING_COMPLETE"
        return ecs.ServiceDeploymentCircuitBreaker(
            status=status,  # type: ignore[arg-type]
            failure_count=failures,
            threshold=limit,
        )

    def _revision_shape(self, service: Service, rollout: Rollout) -> ecs.ServiceRevision:
        deployment = rollout.deployment
        family, _, number = deployment.task_definition.rpartition(":")
        where = (service.account, service.region)
        shape = msgspec.convert(
            {
                "capacityProviderStrategy": deployment.capacity_provider_strategy,
                "networkConfiguration": deployment.network_configuration or None,
            },
            ecs.ServiceRevision,
        )
        shape.service_revision_arn = _arn(service, "service-revision", rollout.id)
        shape.service_arn = names.arn(*where, "service", service.cluster, service.name)
        shape.cluster_arn = names.arn(*where, "cluster", service.cluster)
        shape.task_definition = names.task_definition_arn(*where, family, int(number))
        shape.created_at = rollout.created_at
        shape.container_images = self._images(service, rollout)
        if deployment.launch_type:
            capacity = of_launch_type(deployment.launch_type, deployment.platform_version)
            shape.launch_type = deployment.launch_type  # type: ignore[assignment]
            shape.platform_version = capacity.platform_version
            shape.platform_family = "Linux" if deployment.launch_type == "FARGATE" else None
        if service.express is not None:
            path = ecs.ManagedIngressPath(access_type="PUBLIC", endpoint=endpoint(service.express, self.world.ingress))
            shape.ecs_managed_resources = ecs.ECSManagedResources(
                ingress_paths=[path], metric_alarms=self._managed_alarms(service, service.express)
            )
        if service.connector is not None:
            routes = [connection(service, route, self.world.ingress) for route in service.connector.routes]
            shape.ecs_managed_resources = ecs.ECSManagedResources(gateway_connections=routes)
        return shape

    def _managed_alarms(self, service: Service, express: Express) -> list[ecs.ManagedMetricAlarm] | None:
        """The alarm on an Express service's errors, which the monitor makes when it hears of the service."""
        if not express.alarm:
            return None
        made = self.world.alarms(service.account, service.region, [express.alarm])
        arn = f"arn:aws:cloudwatch:{service.region}:{service.account}:alarm:{express.alarm}"
        at = made[0].configured_at if made else express.updated_at
        return [ecs.ManagedMetricAlarm(arn=arn, status="ACTIVE" if made else "PROVISIONING", updated_at=at)]

    def _images(self, service: Service, rollout: Rollout) -> list[ecs.ContainerImage]:
        """The definition's images, with the digests that its tasks run, as far as one does."""
        family, _, number = rollout.deployment.task_definition.rpartition(":")
        definition = self.world.definitions.record(service.account, service.region, family, number)
        digests = {
            container.name: container.image_digest
            for task, status in self.world.tasks_of(*SERVICE.key_of(service))
            if task.deployment == rollout.id and status is not None
            for container in status.containers
            if container.image_digest
        }
        return [
            ecs.ContainerImage(container_name=c["name"], image=c["image"], image_digest=digests.get(c["name"]))
            for c in (definition.definition.get("containerDefinitions", ()) if definition is not None else ())
        ]


def _in_progress(service: Service | None, arn: str) -> Service:
    """The service, if the deployment that this ARN names is its latest and in progress. Raises AwsError."""
    rollout = _rollout(service, of_arn(arn, "service-deployment")[2]) if service is not None else None
    if service is None or rollout is None:
        raise AwsError("ServiceDeploymentNotFoundException", "Service deployment was not found.")
    primary = service.deployments[0] if service.deployments else None
    if rollout.status != "IN_PROGRESS" or primary is None or primary.id != rollout.id:
        raise AwsError("ConflictException", "The service deployment is not in progress.", resourceIds=[arn])
    return service


def _hook_details(service: Service, rollout: Rollout) -> list[ecs.DeploymentLifecycleHookDetail] | None:
    """The hooks of the stage that the deployment, or the way back from it, is in."""
    stage = service.deployments[0].stage if service.deployments else None
    if stage is None or service.deployments[0].id not in (rollout.id, rollout.rolled_back_to):
        return None
    return [
        ecs.DeploymentLifecycleHookDetail(
            hook_id=run.id,
            target_type=run.target_type,  # type: ignore[arg-type]
            target_arn=run.target or None,
            status=run.status,  # type: ignore[arg-type]
            expires_at=run.expires_at,
            timeout_action=run.timeout_action,  # type: ignore[arg-type]
        )
        for run in stage.hooks
    ]


def _alarms(service: Service, rollout: Rollout) -> ecs.ServiceDeploymentAlarms:
    wanted = alarm_names(service.request)
    if rollout.deployment.unwatched or not (wanted or rollout.alarms):
        return ecs.ServiceDeploymentAlarms(status="DISABLED")
    status = "MONITORING" if rollout.status == "IN_PROGRESS" else "MONITORING_COMPLETE"
    return ecs.ServiceDeploymentAlarms(
        status="TRIGGERED" if rollout.alarms else status,  # type: ignore[arg-type]
        alarm_names=wanted,
        triggered_alarm_names=rollout.alarms,
    )


def _chosen(service: Service, statuses: list[Any] | None, created: ecs.CreatedAt | None) -> dict[str, Rollout]:
    """The service's rollouts of these statuses and times, by a text that sorts as they began."""
    times = created or ecs.CreatedAt()
    return {
        f"{rollout.created_at:020.6f} {rollout.id}": rollout
        for rollout in service.rollouts
        if (not statuses or rollout.status in statuses)
        and (times.after is None or rollout.created_at >= times.after)
        and (times.before is None or rollout.created_at <= times.before)
    }


def _rollout(service: Service, number: str) -> Rollout | None:
    return next((r for r in service.rollouts if r.id == deployment_of(number)), None)


def _arn(service: Service, kind: str, deployment: str) -> str:
    return names.arn(service.account, service.region, kind, service.cluster, service.name, revision_id(deployment))


def _brief(service: Service, rollout: Rollout) -> ecs.ServiceDeploymentBrief:
    where = (service.account, service.region)
    return ecs.ServiceDeploymentBrief(
        service_deployment_arn=_arn(service, "service-deployment", rollout.id),
        service_arn=names.arn(*where, "service", service.cluster, service.name),
        cluster_arn=names.arn(*where, "cluster", service.cluster),
        started_at=rollout.created_at,
        created_at=rollout.created_at,
        finished_at=rollout.finished_at,
        target_service_revision_arn=_arn(service, "service-revision", rollout.id),
        status=rollout.status,  # type: ignore[arg-type]
        status_reason=rollout.status_reason or None,
    )
