"""Services. What is wanted is written here; the controller brings it about.

https://docs.aws.amazon.com/apprunner/latest/api/API_Service.html
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from contracts.aws import apprunner as ar
from contracts.records.app_runner_gateway import APP_SERVICE, AppService
from services.app_runner_gateway.api.base import AppRunnerBase, wire
from services.app_runner_gateway.decisions import life, names, requests
from services.app_runner_gateway.handlers.services import begin, create
from services.shared import telemetry
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError


class Services(AppRunnerBase):
    """CreateService and its like."""

    async def create_service(
        self, context: RequestContext, request: ar.CreateServiceRequest
    ) -> ar.CreateServiceResponse:
        """Write a service with its first revision as candidate: one write."""
        source = requests.source(wire(request.source_configuration))
        instance = requests.instance(wire(request.instance_configuration))
        health_check = requests.health_check(wire(request.health_check_configuration))
        network = requests.network(wire(request.network_configuration))
        observability = _observability(request.observability_configuration)
        account, region = context.account, context.region
        arn = self._scaling_arn(context, request.auto_scaling_configuration_arn)
        await self.prepare(region)
        async with self.naming:
            self._require_free(context, request.service_name)
            image = await self.world.image_now(source["ImageRepository"]["ImageIdentifier"])
            now, operation_id = self.world.clock(), names.new_operation_id()
            fresh = AppService(
                account=account,
                region=region,
                id=names.new_id(),
                name=request.service_name,
                host=names.new_host(region),
                status=life.IN_PROGRESS,
                created_at=now,
                updated_at=now,
                source=source,
                instance=instance,
                health_check=health_check,
                auto_scaling=arn,
                network=network,
                observability=observability,
                kms_key=request.encryption_configuration.kms_key if request.encryption_configuration else "",
                tags={t.key: t.value or "" for t in request.tags or () if t.key},
            )
            begun = life.begin(fresh, "CREATE_SERVICE", operation_id, now)
            service = await create(self.world, life.deploy(begun, image, telemetry.traceparent(), now))
        return ar.CreateServiceResponse(service=self.shape(service), operation_id=operation_id)

    def _require_free(self, context: RequestContext, name: str) -> None:
        for there in self.world.services.records(context.account, context.region):
            if there.name == name and there.status != "DELETED":
                raise AwsError(
                    "InvalidRequestException",
                    f"Service with the provided name already exists: {name} ({names.service_arn(there)}).",
                )

    def _scaling_arn(self, context: RequestContext, given: str | None) -> str:
        scaling = self.scaling(context, given or self.world.default_arn(context.account, context.region))
        if scaling.status != "ACTIVE":
            raise requests.invalid(f"AutoScalingConfigurationArn: {given} is not active.")
        return names.arn_of(scaling)

    async def describe_service(
        self, context: RequestContext, request: ar.DescribeServiceRequest
    ) -> ar.DescribeServiceResponse:
        """One of them."""
        return ar.DescribeServiceResponse(service=self.shape(self.service(context, request.service_arn)))

    async def list_services(self, context: RequestContext, request: ar.ListServicesRequest) -> ar.ListServicesResponse:
        """All that are not deleted, by name."""
        found = [s for s in self.world.services.records(context.account, context.region) if s.status != "DELETED"]
        shown, token = names.page(found, lambda s: f"{s.name} {s.id}", request.max_results, request.next_token)
        summaries = [
            ar.ServiceSummary(
                service_name=s.name,
                service_id=s.id,
                service_arn=names.service_arn(s),
                service_url=self.url(s),
                created_at=s.created_at,
                updated_at=s.updated_at,
                status=s.status,  # type: ignore[arg-type]
            )
            for s in shown
        ]
        return ar.ListServicesResponse(service_summary_list=summaries, next_token=token)

    async def update_service(
        self, context: RequestContext, request: ar.UpdateServiceRequest
    ) -> ar.UpdateServiceResponse:
        """Change a service; what makes instances what they are is deployed anew."""
        service = self.service(context, request.service_arn)
        life.require(service, "UPDATE_SERVICE")
        changes = self._changes(context, request, service)
        image = None
        if life.rolls(service, replace(service, **changes)):
            source = changes.get("source", service.source)
            image = await self.world.image_now(source["ImageRepository"]["ImageIdentifier"])
        key = APP_SERVICE.key_of(service)
        updated = await begin(self.world, key, "UPDATE_SERVICE", image, **changes)
        return ar.UpdateServiceResponse(service=self.shape(updated), operation_id=updated.operations[0].id)

    def _changes(
        self, context: RequestContext, request: ar.UpdateServiceRequest, service: AppService
    ) -> dict[str, Any]:
        changes: dict[str, Any] = {}
        if request.source_configuration is not None:
            changes["source"] = requests.source(wire(request.source_configuration), service.source)
        if request.instance_configuration is not None:
            changes["instance"] = requests.instance(wire(request.instance_configuration), service.instance)
        if request.health_check_configuration is not None:
            given = wire(request.health_check_configuration)
            changes["health_check"] = requests.health_check(given, service.health_check)
        if request.network_configuration is not None:
            changes["network"] = requests.network(wire(request.network_configuration), service.network)
        if request.observability_configuration is not None:
            changes["observability"] = _observability(request.observability_configuration)
        if request.auto_scaling_configuration_arn is not None:
            changes["auto_scaling"] = self._scaling_arn(context, request.auto_scaling_configuration_arn)
        return changes

    async def delete_service(
        self, context: RequestContext, request: ar.DeleteServiceRequest
    ) -> ar.DeleteServiceResponse:
        """Let requests end, stop the instances, forget the service an hour later."""
        updated = await self._begin(context, request.service_arn, "DELETE_SERVICE")
        return ar.DeleteServiceResponse(service=self.shape(updated), operation_id=updated.operations[0].id)

    async def pause_service(self, context: RequestContext, request: ar.PauseServiceRequest) -> ar.PauseServiceResponse:
        """Let requests end, stop the instances; the URL answers 404 until it is resumed."""
        updated = await self._begin(context, request.service_arn, "PAUSE_SERVICE")
        return ar.PauseServiceResponse(service=self.shape(updated), operation_id=updated.operations[0].id)

    async def resume_service(
        self, context: RequestContext, request: ar.ResumeServiceRequest
    ) -> ar.ResumeServiceResponse:
        """Start the instances of the same revision again."""
        updated = await self._begin(context, request.service_arn, "RESUME_SERVICE")
        return ar.ResumeServiceResponse(service=self.shape(updated), operation_id=updated.operations[0].id)

    async def _begin(self, context: RequestContext, arn: str, kind: str) -> AppService:
        service = self.service(context, arn)
        return await begin(self.world, APP_SERVICE.key_of(service), kind)


def _observability(given: ar.ServiceObservabilityConfiguration | None) -> dict[str, Any]:
    if given is not None and given.observability_enabled:
        raise requests.invalid(
            "ObservabilityConfiguration: Roadstead has no observability configurations; the platform's own traces "
            "are in `roadstead trace`."
        )
    return dict(msgspec.to_builtins(given)) if given is not None else {}
