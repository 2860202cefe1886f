"""Auto-scaling configurations: revisions of names, one of them the default.

https://docs.aws.amazon.com/apprunner/latest/dg/manage-autoscaling.html
"""

from __future__ import annotations

from msgspec.structs import replace

from contracts.aws import apprunner as ar
from contracts.records.app_runner_gateway import AUTO_SCALING, SCALING_DEFAULT, AutoScaling, ScalingDefault
from services.app_runner_gateway.api.base import AppRunnerBase
from services.app_runner_gateway.decisions import names
from services.app_runner_gateway.decisions.requests import invalid
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError

MOST_INSTANCES = 25
MOST_NAMES, MOST_REVISIONS = 10, 5
"""https://docs.aws.amazon.com/general/latest/gr/apprunner.html"""


class Scaling(AppRunnerBase):
    """CreateAutoScalingConfiguration and its like."""

    async def create_auto_scaling_configuration(
        self, context: RequestContext, request: ar.CreateAutoScalingConfigurationRequest
    ) -> ar.CreateAutoScalingConfigurationResponse:
        """The first revision of a name, or its next."""
        name = request.auto_scaling_configuration_name
        if name == names.DEFAULT_SCALING:
            raise invalid(f"AutoScalingConfigurationName: {name} is reserved.")
        low, high = request.min_size or 1, request.max_size or MOST_INSTANCES
        if high > MOST_INSTANCES:
            raise invalid(f"MaxSize must be at most {MOST_INSTANCES}.")
        if low > high:
            raise invalid(f"MinSize ({low}) must not be greater than MaxSize ({high}).")
        async with self.naming:
            before = self.world.revisions(context.account, context.region, name)
            self._require_room(context, before)
            fresh = AutoScaling(
                account=context.account,
                region=context.region,
                name=name,
                revision=max((s.revision for s in before), default=0) + 1,
                max_concurrency=request.max_concurrency or 100,
                min_size=low,
                max_size=high,
                created_at=self.world.clock(),
                tags={t.key: t.value or "" for t in request.tags or () if t.key},
            )
            await self.world.store.put(AUTO_SCALING, fresh, "auto_scaling.created.v1", expect=0)
        return ar.CreateAutoScalingConfigurationResponse(auto_scaling_configuration=self._shape(fresh))

    def _require_room(self, context: RequestContext, before: list[AutoScaling]) -> None:
        active = sum(s.status == "ACTIVE" for s in before)
        there = self.world.all_scalings(context.account, context.region)
        named = {s.name for s in there if s.status == "ACTIVE"} - {names.DEFAULT_SCALING}
        if active >= MOST_REVISIONS or (not active and len(named) >= MOST_NAMES):
            raise AwsError(
                "ServiceQuotaExceededException",
                f"At most {MOST_NAMES} auto-scaling configurations with {MOST_REVISIONS} revisions each.",
            )

    async def describe_auto_scaling_configuration(
        self, context: RequestContext, request: ar.DescribeAutoScalingConfigurationRequest
    ) -> ar.DescribeAutoScalingConfigurationResponse:
        """One revision; without a number the latest."""
        found = self.scaling(context, request.auto_scaling_configuration_arn)
        return ar.DescribeAutoScalingConfigurationResponse(auto_scaling_configuration=self._shape(found))

    async def list_auto_scaling_configurations(
        self, context: RequestContext, request: ar.ListAutoScalingConfigurationsRequest
    ) -> ar.ListAutoScalingConfigurationsResponse:
        """The ACTIVE ones; the latest of each name unless all are asked for."""
        wanted = request.auto_scaling_configuration_name
        everything = self.world.all_scalings(context.account, context.region)
        active = [s for s in everything if s.status == "ACTIVE" and wanted in (None, s.name)]
        if request.latest_only is not False:
            active = list({s.name: s for s in active}.values())
        shown, token = names.page(active, _order, request.max_results, request.next_token, 100)
        return ar.ListAutoScalingConfigurationsResponse(
            auto_scaling_configuration_summary_list=[self.scaling_summary(s) for s in shown], next_token=token
        )

    async def delete_auto_scaling_configuration(
        self, context: RequestContext, request: ar.DeleteAutoScalingConfigurationRequest
    ) -> ar.DeleteAutoScalingConfigurationResponse:
        """Make a revision, or all of a name, INACTIVE; refused while a service has it, and for the default."""
        found = self.scaling(context, request.auto_scaling_configuration_arn)
        everything = self.world.revisions(found.account, found.region, found.name)
        doomed = [s for s in everything if s.status == "ACTIVE"] if request.delete_all_revisions else [found]
        for scaling in doomed:
            if scaling.name == names.DEFAULT_SCALING or self.is_default(scaling):
                raise invalid("The default auto scaling configuration can't be deleted.")
            if self.users(scaling):
                raise invalid(f"{names.arn_of(scaling)} is in use by a service.")
        now = self.world.clock()
        for scaling in doomed:
            await self.world.store.update(
                AUTO_SCALING,
                AUTO_SCALING.key_of(scaling),
                lambda old: replace(old, status="INACTIVE", deleted_at=now) if old and old.status == "ACTIVE" else old,
                "auto_scaling.deleted.v1",
            )
        latest = self.world.scaling(found.account, found.region, names.arn_of(found)) or found
        return ar.DeleteAutoScalingConfigurationResponse(auto_scaling_configuration=self._shape(latest))

    async def update_default_auto_scaling_configuration(
        self, context: RequestContext, request: ar.UpdateDefaultAutoScalingConfigurationRequest
    ) -> ar.UpdateDefaultAutoScalingConfigurationResponse:
        """The configuration of services that will name none."""
        found = self.scaling(context, request.auto_scaling_configuration_arn)
        if found.status != "ACTIVE":
            raise invalid(f"{names.arn_of(found)} is not active.")
        record = ScalingDefault(account=found.account, region=found.region, arn=names.arn_of(found))
        key = SCALING_DEFAULT.key_of(record)
        await self.world.store.update(
            SCALING_DEFAULT, key, lambda old: old if old == record else record, "scaling_default.changed.v1"
        )
        return ar.UpdateDefaultAutoScalingConfigurationResponse(auto_scaling_configuration=self._shape(found))

    async def list_services_for_auto_scaling_configuration(
        self, context: RequestContext, request: ar.ListServicesForAutoScalingConfigurationRequest
    ) -> ar.ListServicesForAutoScalingConfigurationResponse:
        """The ARNs of the services that have it."""
        users = self.users(self.scaling(context, request.auto_scaling_configuration_arn))
        arns = [names.service_arn(user) for user in users]
        shown, token = names.page(arns, str, request.max_results, request.next_token, 100)
        return ar.ListServicesForAutoScalingConfigurationResponse(service_arn_list=shown, next_token=token)

    def _shape(self, scaling: AutoScaling) -> ar.AutoScalingConfiguration:
        everything = self.world.revisions(scaling.account, scaling.region, scaling.name)
        return ar.AutoScalingConfiguration(
            auto_scaling_configuration_arn=names.arn_of(scaling),
            auto_scaling_configuration_name=scaling.name,
            auto_scaling_configuration_revision=scaling.revision,
            latest=scaling.revision == max((s.revision for s in everything), default=scaling.revision),
            status=scaling.status,  # type: ignore[arg-type]
            max_concurrency=scaling.max_concurrency,
            min_size=scaling.min_size,
            max_size=scaling.max_size,
            created_at=scaling.created_at,
            deleted_at=scaling.deleted_at,
            has_associated_service=bool(self.users(scaling)),
            is_default=self.is_default(scaling),
        )


def _order(scaling: AutoScaling) -> str:
    return f"{scaling.name} {scaling.revision:09d}"
