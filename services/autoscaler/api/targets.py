"""Scalable targets: what may be scaled, and between which bounds.

https://docs.aws.amazon.com/autoscaling/application/APIReference/API_RegisterScalableTarget.html
"""

from __future__ import annotations

from msgspec.structs import replace

from contracts.aws import application_autoscaling as aas
from contracts.records.autoscaler import SCALABLE_TARGET, ScalableTarget, Suspended
from services.autoscaler.api.base import AutoScalingBase
from services.autoscaler.decisions import names
from services.autoscaler.handlers import deregister
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError

MOST_TAGS = 50


class Targets(AutoScalingBase):
    """RegisterScalableTarget and its like."""

    async def register_scalable_target(
        self, context: RequestContext, request: aas.RegisterScalableTargetRequest
    ) -> aas.RegisterScalableTargetResponse:
        """Register a service, or change its bounds and what is suspended. Its count is then brought inside."""
        key = self.key(context, request)
        cluster, name = names.service_of(request.resource_id)
        tags = request.tags or {}
        if len(tags) > MOST_TAGS:
            raise names.invalid(f"A scalable target has at most {MOST_TAGS} tags.")
        now, target_id = self.world.clock(), names.target_id()

        def change(old: ScalableTarget | None) -> ScalableTarget:
            if old is None:
                self._service_is_there(context, request.resource_id, cluster, name)
            elif tags:
                raise names.invalid("Tags can only be given when a scalable target is registered: use TagResource.")
            low, high = _bounds(request, old)
            settled = old is not None and (low, high) == (old.min_capacity, old.max_capacity) and old.settled
            suspended = _suspended(request.suspended_state, old.suspended if old is not None else Suspended())
            if old is not None:
                new = replace(old, min_capacity=low, max_capacity=high, suspended=suspended, settled=settled,
                              role_arn=request.role_arn or old.role_arn)  # fmt: skip
                return old if new == old else new
            return ScalableTarget(
                account=context.account,
                region=context.region,
                resource=request.resource_id,
                dimension=names.DIMENSION,
                id=target_id,
                min_capacity=low,
                max_capacity=high,
                role_arn=request.role_arn or names.role_arn(context.account),
                created_at=now,
                suspended=suspended,
                tags=tags,
            )

        target = await self.world.store.update(SCALABLE_TARGET, key, change, "scalable_target.registered.v1")
        assert target is not None
        return aas.RegisterScalableTargetResponse(scalable_target_arn=names.target_arn(target))

    def _service_is_there(self, context: RequestContext, resource: str, cluster: str, name: str) -> None:
        probe = names.service_key(context.account, context.region, resource)
        service = self.world.ecs_services.record(*probe)
        if service is None or service.status == "INACTIVE":
            raise names.invalid(f"ECS service doesn't exist: service/{cluster}/{name}")

    async def deregister_scalable_target(
        self, context: RequestContext, request: aas.DeregisterScalableTargetRequest
    ) -> aas.DeregisterScalableTargetResponse:
        """Forget a target with its policies and scheduled actions. The service keeps its count."""
        key = self.key(context, request)
        if self.world.targets.record(*key) is None:
            raise AwsError("ObjectNotFoundException", f"No scalable target found for {names.where(key[2])}")
        await deregister(self.world, key)
        return aas.DeregisterScalableTargetResponse()

    async def describe_scalable_targets(
        self, context: RequestContext, request: aas.DescribeScalableTargetsRequest
    ) -> aas.DescribeScalableTargetsResponse:
        """The targets, all or those that are named."""
        if request.scalable_dimension is not None and not request.resource_ids:
            raise names.invalid("If you specify a scalable dimension, you must also specify a resource ID.")
        wanted = set(request.resource_ids or ())
        found = [
            t
            for t in self.world.targets.records(context.account, context.region)
            if request.service_namespace == "ecs"
            and (not wanted or t.resource in wanted)
            and request.scalable_dimension in (None, t.dimension)
        ]
        found.sort(key=lambda t: t.resource)
        shown, token = names.page(found, lambda t: t.resource, request.max_results, request.next_token)
        return aas.DescribeScalableTargetsResponse(scalable_targets=[_shape(t) for t in shown], next_token=token)


def _bounds(request: aas.RegisterScalableTargetRequest, old: ScalableTarget | None) -> tuple[int, int]:
    low = request.min_capacity if request.min_capacity is not None else (old.min_capacity if old else None)
    high = request.max_capacity if request.max_capacity is not None else (old.max_capacity if old else None)
    if low is None or high is None:
        missing = "MinCapacity" if low is None else "MaxCapacity"
        raise names.invalid(f"{missing} is required to register a new scalable target.")
    check_bounds(low, high)
    return low, high


def check_bounds(low: int | None, high: int | None) -> None:
    """Refuse bounds that can't be. Raises ValidationException."""
    for name, value in (("Minimum", low), ("Maximum", high)):
        if value is not None and value < 0:
            raise names.invalid(f"{name} capacity must be greater than or equal to 0")
    if low is not None and high is not None and high < low:
        raise names.invalid("Maximum capacity cannot be less than minimum capacity.")


def _suspended(given: aas.SuspendedState | None, old: Suspended) -> Suspended:
    if given is None:
        return old

    def chosen(new: bool | None, before: bool) -> bool:
        return before if new is None else new

    return Suspended(
        scale_in=chosen(given.dynamic_scaling_in_suspended, old.scale_in),
        scale_out=chosen(given.dynamic_scaling_out_suspended, old.scale_out),
        scheduled=chosen(given.scheduled_scaling_suspended, old.scheduled),
    )


def _shape(target: ScalableTarget) -> aas.ScalableTarget:
    return aas.ScalableTarget(
        service_namespace="ecs",
        resource_id=target.resource,
        scalable_dimension=target.dimension,  # type: ignore[arg-type]
        min_capacity=target.min_capacity,
        max_capacity=target.max_capacity,
        role_arn=target.role_arn,
        creation_time=target.created_at,
        scalable_target_arn=names.target_arn(target),
        suspended_state=aas.SuspendedState(
            dynamic_scaling_in_suspended=target.suspended.scale_in,
            dynamic_scaling_out_suspended=target.suspended.scale_out,
            scheduled_scaling_suspended=target.suspended.scheduled,
        ),
    )
