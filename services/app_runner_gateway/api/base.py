"""What the parts of the API share: finding what a request names, and the shapes of answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from contracts.aws import apprunner as ar
from contracts.records.app_runner_gateway import AppService, AutoScaling
from services.app_runner_gateway.adapters.world import World
from services.app_runner_gateway.decisions import names
from services.shared.aws.context import RequestContext
from services.shared.aws.service import AwsService
from services.shared.errors import AwsError

Prepare = Callable[[str], Awaitable[None]]


def wire(value: Any) -> Any:
    """A Struct of the API as plain JSON in the wire's names; {} for none."""
    return msgspec.to_builtins(value) if value is not None else {}


class AppRunnerBase(AwsService):
    """Lookups that raise App Runner's own errors. `prepare` readies the data plane for a region; `port` is told in the
    URLs unless it is 443."""

    api = ar.API

    def __init__(self, world: World, port: int, prepare: Prepare) -> None:
        self.world = world
        self.port = port
        self.prepare = prepare
        # Names are unique among the records of several keys, which no single compare-and-set can watch over.
        self.naming = asyncio.Lock()

    def service(self, context: RequestContext, arn: str) -> AppService:
        """By ARN; a deleted one too, as long as it is remembered. Raises ResourceNotFoundException."""
        found = names.service_id(arn, context.account, context.region)
        record = self.world.services.record(context.account, context.region, found) if found else None
        if record is None or names.service_arn(record) != arn:
            raise AwsError("ResourceNotFoundException", f"Service with the provided ARN does not exist: {arn}")
        return record

    def scaling(self, context: RequestContext, arn: str) -> AutoScaling:
        """By ARN, whole or without its revision. Raises ResourceNotFoundException."""
        found = self.world.scaling(context.account, context.region, arn)
        if found is None:
            raise AwsError(
                "ResourceNotFoundException", f"AutoScalingConfiguration with the provided ARN does not exist: {arn}"
            )
        return found

    def users(self, scaling: AutoScaling) -> list[AppService]:
        """The services that have a configuration."""
        arn = names.arn_of(scaling)
        services = self.world.services.records(scaling.account, scaling.region)
        return [s for s in services if s.auto_scaling == arn and s.status not in ("DELETED", "CREATE_FAILED")]

    def url(self, service: AppService) -> str:
        """ServiceUrl: without a scheme, as AWS has it, and with the port where it is not HTTPS' own."""
        return service.host if self.port == 443 else f"{service.host}:{self.port}"

    def shape(self, service: AppService) -> ar.Service:
        """DescribeService's answer."""
        return ar.Service(
            service_name=service.name,
            service_id=service.id,
            service_arn=names.service_arn(service),
            service_url=self.url(service),
            created_at=service.created_at,
            updated_at=service.updated_at,
            deleted_at=service.deleted_at,
            status=service.status,  # type: ignore[arg-type]
            source_configuration=msgspec.convert(service.source, ar.SourceConfiguration),
            instance_configuration=msgspec.convert(service.instance, ar.InstanceConfiguration),
            encryption_configuration=ar.EncryptionConfiguration(kms_key=service.kms_key) if service.kms_key else None,
            health_check_configuration=msgspec.convert(service.health_check, ar.HealthCheckConfiguration),
            auto_scaling_configuration_summary=self.scaling_summary(self._scaling_of(service)),
            network_configuration=msgspec.convert(service.network, ar.NetworkConfiguration),
            observability_configuration=msgspec.convert(
                service.observability or {"ObservabilityEnabled": False}, ar.ServiceObservabilityConfiguration
            ),
        )

    def _scaling_of(self, service: AppService) -> AutoScaling:
        found = self.world.scaling(service.account, service.region, service.auto_scaling)
        return found or self.world.revisions(service.account, service.region, names.DEFAULT_SCALING)[0]

    def is_default(self, scaling: AutoScaling) -> bool:
        """Whether services that name none get this one."""
        return self.world.default_arn(scaling.account, scaling.region) == names.arn_of(scaling)

    def scaling_summary(self, scaling: AutoScaling) -> ar.AutoScalingConfigurationSummary:
        """As lists and services show a configuration."""
        return ar.AutoScalingConfigurationSummary(
            auto_scaling_configuration_arn=names.arn_of(scaling),
            auto_scaling_configuration_name=scaling.name,
            auto_scaling_configuration_revision=scaling.revision,
            status=scaling.status,  # type: ignore[arg-type]
            created_at=scaling.created_at,
            has_associated_service=bool(self.users(scaling)),
            is_default=self.is_default(scaling),
        )
