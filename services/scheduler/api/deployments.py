"""Deployments of services and the revisions they lead to, as they went.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-deployment.html
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from contracts.aws import ecs
from contracts.records.scheduler import SERVICE, Rollout, Service
from services.scheduler.api.base import EcsBase
from services.scheduler.decisions import names
from services.scheduler.decisions.backoff import history
from services.scheduler.decisions.capacity import of_launch_type
from services.scheduler.decisions.pages import page
from services.scheduler.decisions.rollout import rollback_target, rolled_back, threshold
from services.scheduler.decisions.rollouts import deployment_of, of_arn, recorded, revision_id
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
        key = (cluster.account, cluster.region, cluster.name, names.last_part(request.service))
        service = self.world.services.record(*key)
        if service is None:
            raise AwsError(*SERVICE_NOT_FOUND)
        after = request.created_at.after if request.created_at is not None else None
        before = request.created_at.before if request.created_at is not None else None
        found = {
            f"{rollout.created_at:020.6f} {rollout.id}": rollout
            for rollout in service.rollouts
            if (not request.status or rollout.status in request.status)
            and (after is None or rollout.created_at >= after)
            and (before is None or rollout.created_at <= before)
        }
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
        cluster, name, number = of_arn(arn, "service-deployment")
        now = self.world.clock()
        rolls_back = (request.stop_type or "ROLLBACK") == "ROLLBACK"

        def change(old: Service | None) -> Service:
            rollout = _rollout(old, number) if old is not None else None
            if old is None or rollout is None:
                raise AwsError("ServiceDeploymentNotFoundException", "Service deployment was not found.")
            primary = old.deployments[0] if old.deployments else None
            if rollout.status != "IN_PROGRESS" or primary is None or primary.id != rollout.id:
                raise AwsError("ConflictException", "The service deployment is not in progress.", resourceIds=[arn])
            failed = replace(
                primary,
                rollout_state="FAILED",
                rollout_state_reason="ECS deployment was stopped by StopServiceDeployment.",
                updated_at=now,
            )
            if not rolls_back:
                return recorded(replace(old, deployments=[failed, *old.deployments[1:]], steady=False), now)
            target = rollback_target(old)
            if target is None:
                said = "There is no completed service revision to roll back to."
                raise AwsError("ConflictException", said, resourceIds=[arn])
            reason = f"StopServiceDeployment: rolling back to deploymentId {target.id}."
            deployments = rolled_back(old, failed, target, reason, now)
            return recorded(replace(old, deployments=deployments, steady=False), now)

        key = (context.account, context.region, cluster, name)
        await self.world.store.update(SERVICE, key, change, "service.updated.v1")
        return ecs.StopServiceDeploymentResponse(service_deployment_arn=arn)

    def _named(
        self, context: RequestContext, arns: list[str], kind: str
    ) -> tuple[list[tuple[Service, Rollout]], list[ecs.Failure]]:
        self.world.require_connection()
        if not 1 <= len(arns) <= MOST_DESCRIBED:
            raise AwsError("InvalidParameterException", f"Specify between 1 and {MOST_DESCRIBED} ARNs.")
        found, failures = [], []
        for arn in arns:
            cluster, name, number = of_arn(arn, kind)
            service = self.world.services.record(context.account, context.region, cluster, name)
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
            source_service_revisions=self._summaries(service, rollout.sources),
            target_service_revision=self._summaries(service, [rollout.id])[0],
            status=rollout.status,  # type: ignore[arg-type]
            status_reason=rollout.status_reason or None,
            deployment_configuration=msgspec.convert(
                service.request.get("deploymentConfiguration", {}), ecs.DeploymentConfiguration
            ),
            deployment_circuit_breaker=self._breaker(service, rollout),
        )
        if rollout.rolled_back_to:
            shape.rollback = ecs.Rollback(
                reason=rollout.rollback_reason,
                started_at=rollout.rollback_at,
                service_revision_arn=_arn(service, "service-revision", rollout.rolled_back_to),
            )
        return shape

    def _summaries(self, service: Service, ids: Iterable[str]) -> list[ecs.ServiceRevisionSummary]:
        members = self.world.members(*SERVICE.key_of(service))
        states = Counter((m.deployment, m.state) for m in members)
        primary = service.deployments[0].id if service.deployments else ""
        return [
            ecs.ServiceRevisionSummary(
                arn=_arn(service, "service-revision", one),
                requested_task_count=service.desired_count if one == primary else 0,
                running_task_count=states[one, "running"],
                pending_task_count=states[one, "pending"],
            )
            for one in ids
        ]

    def _breaker(self, service: Service, rollout: Rollout) -> ecs.ServiceDeploymentCircuitBreaker:
        configuration = service.request.get("deploymentConfiguration", {})
        enabled = (configuration.get("deploymentCircuitBreaker") or {}).get("enable")
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
        return shape

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
