"""Express services: an image and two roles in, an ordinary service behind an HTTPS URL out.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/express-service-work.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from contracts.aws import ecs
from contracts.records.scheduler import SERVICE, Cluster, Deployment, Express, ExpressRevision, Service, TaskDefinition
from services.scheduler.api.base import EcsBase, wire
from services.scheduler.decisions import express as rules
from services.scheduler.decisions import names, tags
from services.scheduler.decisions import services as service_rules
from services.scheduler.decisions.express import CONTAINER
from services.scheduler.decisions.requests import check_network, check_support, invalid
from services.scheduler.decisions.rollouts import revision_id
from services.scheduler.handlers import next_revision
from services.scheduler.handlers.counts import SERVICE_NOT_ACTIVE, SERVICE_NOT_FOUND
from services.scheduler.handlers.definitions import definition_record
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError

_NOT_EXPRESS = ("InvalidParameterException", "The service is not an Express service.")


class ExpressServices(EcsBase):
    """CreateExpressGatewayService and its like."""

    async def create_express_gateway_service(
        self, context: RequestContext, request: ecs.CreateExpressGatewayServiceRequest
    ) -> ecs.CreateExpressGatewayServiceResponse:
        """Register what its tasks are made of, then write the service: the gateway and the autoscaler follow it. An
        INACTIVE one of that name is replaced."""
        cluster = await self._used_cluster(context, request.cluster)
        given = wire(request)
        name = request.service_name or rules.new_name(names.new_id())
        if not names.NAME.match(name):
            raise AwsError("InvalidParameterException", "Invalid service name.")
        rules.check(given, creates=True)
        ingress = self._ingress()
        now = self.world.clock()
        scaling = rules.scaling(given.get("scalingTarget"), None, ingress.most_tasks, now)
        _refuse_taken(self.world.services.record(cluster.account, cluster.region, cluster.name, name))
        network = rules.network(given.get("networkConfiguration"))
        labels = tags.read(request.tags)
        definition = await self._made(context, cluster, name, given, None, network)
        alarm = rules.alarm_name(cluster.name, name, cluster.account, cluster.region)
        wanted = rules.ordinary(network, scaling.min_tasks, self.world.settings.express_bake_minutes, alarm)
        service_rules.check(wanted)
        reference = f"{definition.family}:{definition.revision}"
        (deployment,) = service_rules.begun(wanted, reference, names.new_deployment_id(), now)
        path = request.health_check_path or rules.HEALTH_PATH
        made = Express(
            host=rules.host(cluster.account, cluster.region, cluster.name, name, ingress.domain),
            infrastructure_role=request.infrastructure_role_arn,
            scaling=scaling,
            revisions=[ExpressRevision(deployment=deployment.id, port=rules.port_of(definition.definition),
                                       health_check_path=path, created_at=now)],
            updated_at=now,
            drain_s=self.world.settings.drain_s,
            alarm=alarm,
        )  # fmt: skip
        key, by = (cluster.account, cluster.region, cluster.name, name), context.principal_arn
        fresh = replace(service_rules.fresh(key, wanted, [deployment], by, labels, now), express=made)

        def change(old: Service | None) -> Service:
            _refuse_taken(old)
            return fresh

        service = await self.world.store.update(SERVICE, SERVICE.key_of(fresh), change, "service.created.v1")
        return ecs.CreateExpressGatewayServiceResponse(service=self._express_shape(service or fresh, with_tags=True))

    async def describe_express_gateway_service(
        self, context: RequestContext, request: ecs.DescribeExpressGatewayServiceRequest
    ) -> ecs.DescribeExpressGatewayServiceResponse:
        """The service with what each of its deployments is made of."""
        self.world.require_connection()
        service = self.world.services.record(*_key(context, request.service_arn))
        if service is None:
            raise AwsError("ResourceNotFoundException", f"Express service not found: {request.service_arn}")
        if service.express is None:
            raise AwsError(*_NOT_EXPRESS)
        with_tags = "TAGS" in (request.include or ())
        return ecs.DescribeExpressGatewayServiceResponse(service=self._express_shape(service, with_tags=with_tags))

    async def update_express_gateway_service(
        self, context: RequestContext, request: ecs.UpdateExpressGatewayServiceRequest
    ) -> ecs.UpdateExpressGatewayServiceResponse:
        """Change what is given. A new deployment begins when what its tasks are made of, or how they are checked, is
        another than before; other bounds of its scaling are for the autoscaler alone."""
        self.world.require_connection()
        key, given = _key(context, request.service_arn), wire(request)
        known = _active(self.world.services.record(*key))
        rules.check(given, creates=False)
        now, deployment_id = self.world.clock(), names.new_deployment_id()
        most = self._ingress().most_tasks
        rules.scaling(given.get("scalingTarget"), known.express.scaling, most, now)  # type: ignore[union-attr]
        network = rules.network(given["networkConfiguration"]) if given.get("networkConfiguration") else None
        cluster = self._own_cluster(context, known.cluster)
        base = self._definition(context, known.deployments[0].task_definition)
        definition = await self._made(context, cluster, known.name, given, base, network)

        def change(old: Service | None) -> Service:
            service = _active(old)
            alarmed = self.world.alarmed(service.account, service.region, service.request)
            return rules.updated(service, given, definition, network, most, deployment_id, now, alarmed=alarmed)

        service = await self.world.store.update(SERVICE, key, change, "service.updated.v1")
        assert service is not None
        shape = self._express_shape(service, with_tags=False)
        updated = ecs.UpdatedExpressGatewayService(
            service_arn=shape.service_arn,
            cluster=shape.cluster,
            service_name=shape.service_name,
            status=shape.status,
            target_configuration=shape.active_configurations[0] if shape.active_configurations else None,
            created_at=shape.created_at,
            updated_at=shape.updated_at,
        )
        return ecs.UpdateExpressGatewayServiceResponse(service=updated)

    async def delete_express_gateway_service(
        self, context: RequestContext, request: ecs.DeleteExpressGatewayServiceRequest
    ) -> ecs.DeleteExpressGatewayServiceResponse:
        """Let it drain: its URL ends, its requests are answered, its tasks stop; then it is INACTIVE."""
        self.world.require_connection()

        def change(old: Service | None) -> Service:
            if old is None or old.status == "INACTIVE":
                raise AwsError(*SERVICE_NOT_FOUND)
            if old.express is None:
                raise AwsError(*_NOT_EXPRESS)
            if old.status == "DRAINING":
                return old
            express = replace(old.express, updated_at=self.world.clock())
            return replace(old, status="DRAINING", desired_count=0, express=express)

        key = _key(context, request.service_arn)
        service = await self.world.store.update(SERVICE, key, change, "service.draining.v1")
        assert service is not None
        return ecs.DeleteExpressGatewayServiceResponse(service=self._express_shape(service, with_tags=False))

    async def _made(
        self, context: RequestContext, cluster: Cluster, name: str, given: Mapping[str, Any],
        base: TaskDefinition | None, network: Mapping[str, Any] | None,
    ) -> TaskDefinition:  # fmt: skip
        """The task definition that a request asks for: its own, `base` when it changes nothing of that, or a revision
        that is registered now, of the family `<cluster>-<service>`. Raises AwsError."""
        if given.get("taskDefinitionArn"):
            definition = self._runnable(context, given["taskDefinitionArn"])
        else:
            nodes = self.world.nodes_of(cluster.account, cluster.region, cluster.name)
            rules.check_architecture(
                given.get("cpuArchitecture"), (n for n in nodes if n.node not in self.world.managed)
            )
            group = rules.log_group(cluster.name, name, cluster.account, cluster.region)
            made = rules.definition(given, group, cluster.region, base.definition if base is not None else None)
            definition = definition_record(
                made, account=cluster.account, region=cluster.region, family=f"{cluster.name}-{name}"[:255],
                now=self.world.clock(), by=context.principal_arn, tags={},
            )  # fmt: skip
            if base is not None and _same(base.definition, definition.definition):
                definition = base
        rules.port_of(definition.definition)
        check_support(definition, "FARGATE")
        check_network(definition, network if network is not None else rules.NETWORK)
        await self._require_groups(cluster, network)
        return definition if definition.revision else await next_revision(self.world, definition)

    def _express_shape(self, service: Service, *, with_tags: bool) -> ecs.ECSExpressGatewayService:
        express = service.express
        assert express is not None
        where = (service.account, service.region)
        path = (service.cluster, service.name)
        primary = service.deployments[0] if service.deployments else None
        failed = primary is not None and primary.rollout_state == "FAILED"
        status = ecs.ExpressGatewayServiceStatus(
            status_code=service.status,  # type: ignore[arg-type]
            status_reason=primary.rollout_state_reason if primary is not None and failed else None,
        )
        current = revision_id(service.rollouts[0].id) if service.rollouts else None
        return ecs.ECSExpressGatewayService(
            cluster=service.cluster,
            service_name=service.name,
            service_arn=names.arn(*where, "service", *path),
            infrastructure_role_arn=express.infrastructure_role,
            status=status,
            current_deployment=names.arn(*where, "service-deployment", *path, current) if current else None,
            active_configurations=[self._configuration(service, express, d) for d in service.deployments],
            tags=tags.write(service.tags) if with_tags else None,
            created_at=service.created_at,
            updated_at=express.updated_at,
        )

    def _configuration(
        self, service: Service, express: Express, deployment: Deployment
    ) -> ecs.ExpressGatewayServiceConfiguration:
        where = (service.account, service.region)
        family, _, number = deployment.task_definition.rpartition(":")
        record = self.world.definitions.record(*where, family, number)
        definition = record.definition if record is not None else {}
        revision = rules.revision_of(express, deployment.id)
        network = deployment.network_configuration.get("awsvpcConfiguration") or {}
        scaling = express.scaling
        endpoint = rules.endpoint(express, self.world.ingress)
        return ecs.ExpressGatewayServiceConfiguration(
            service_revision_arn=names.arn(
                *where, "service-revision", service.cluster, service.name, revision_id(deployment.id)
            ),
            execution_role_arn=definition.get("executionRoleArn"),
            task_role_arn=definition.get("taskRoleArn"),
            task_definition_arn=names.task_definition_arn(*where, family, int(number)),
            cpu=definition.get("cpu"),
            memory=definition.get("memory"),
            cpu_architecture=(definition.get("runtimePlatform") or {}).get("cpuArchitecture"),
            network_configuration=ecs.ExpressGatewayServiceNetworkConfiguration(
                security_groups=network.get("securityGroups") or [], subnets=network.get("subnets") or []
            ),
            health_check_path=revision.health_check_path,
            primary_container=_container_shape(definition, revision.port),
            scaling_target=ecs.ExpressGatewayScalingTarget(
                min_task_count=scaling.min_tasks,
                max_task_count=scaling.max_tasks,
                auto_scaling_metric=scaling.metric,  # type: ignore[arg-type]
                auto_scaling_target_value=int(scaling.target),
            ),
            ingress_paths=[ecs.IngressPathSummary(access_type="PUBLIC", endpoint=endpoint)],
            created_at=revision.created_at,
        )


def _key(context: RequestContext, arn: str) -> tuple[str, str, str, str]:
    """Where the service of an ARN is stored. Raises InvalidParameterException when it is none of this account's."""
    kind, path = names.split_arn(arn)
    parts = arn.split(":", 5)
    if kind != "service" or len(path) != 2 or (parts[3], parts[4]) != (context.region, context.account):
        raise invalid(f"serviceArn is not the ARN of a service of this account and region: {arn}")
    return context.account, context.region, path[0], path[1]


def _active(service: Service | None) -> Service:
    if service is None or service.status == "INACTIVE":
        raise AwsError(*SERVICE_NOT_FOUND)
    if service.express is None:
        raise AwsError(*_NOT_EXPRESS)
    if service.status != "ACTIVE":
        raise AwsError(*SERVICE_NOT_ACTIVE)
    return service


def _refuse_taken(service: Service | None) -> None:
    if service is not None and service.status == "DRAINING":
        raise invalid("Unable to Start a service that is still Draining.")
    if service is not None and service.status != "INACTIVE":
        raise invalid("Creation of service was not idempotent.")


def _same(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether two definitions (wire form) differ in their family alone."""
    return {**old, "family": ""} == {**new, "family": ""}


def _container_shape(definition: Mapping[str, Any], port: int) -> ecs.ExpressGatewayContainer | None:
    main = next((c for c in definition.get("containerDefinitions", ()) if c.get("name") == CONTAINER), None)
    if main is None:
        return None
    options = (main.get("logConfiguration") or {}).get("options") or {}
    shown = {k: main[k] for k in ("image", *rules.PASSED_ON) if main.get(k)}
    shape = msgspec.convert({**shown, "containerPort": port}, ecs.ExpressGatewayContainer)
    if "awslogs-group" in options:
        shape.aws_logs_configuration = ecs.ExpressGatewayServiceAwsLogsConfiguration(
            log_group=options["awslogs-group"], log_stream_prefix=options.get("awslogs-stream-prefix", "")
        )
    return shape
