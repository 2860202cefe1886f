"""What the parts of the API share: finding what a request means."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from contracts.aws import application_autoscaling as aas
from contracts.kinds import Key
from contracts.records.autoscaler import ScalableTarget
from services.autoscaler.adapters.world import World
from services.autoscaler.decisions.names import DIMENSION, check_kind, invalid, target_arn, where
from services.shared.aws.context import RequestContext
from services.shared.aws.service import AwsService
from services.shared.errors import AwsError
from services.shared.policies.demands import Demand


def wire(value: Any) -> Any:
    """A Struct of the API as plain JSON in the wire's names."""
    return msgspec.to_builtins(value)


class AutoScalingBase(AwsService):
    """Lookups that raise Application Auto Scaling's own errors."""

    api = aas.API

    def __init__(self, world: World) -> None:
        self.world = world

    def complete(self, context: RequestContext, request: Any, wanted: list[Demand]) -> list[Demand]:
        """What a request demands, on the ARN of the target that it means: requests name the resource, policies the
        target. One that is not registered yet stays any target."""
        named = (context.account, context.region, getattr(request, "resource_id", None) or "", DIMENSION)
        target = self.world.targets.record(*named)
        if target is None:
            return wanted
        arn = target_arn(target)
        return [replace(d, resource=arn) if d.resource.endswith(":scalable-target/*") else d for d in wanted]

    def key(self, context: RequestContext, request: Any) -> Key:
        """The key of the target that a request names. Raises ValidationException."""
        check_kind(request.service_namespace, request.resource_id, request.scalable_dimension)
        return (context.account, context.region, request.resource_id, DIMENSION)

    def registered(self, context: RequestContext, request: Any) -> ScalableTarget:
        """The target that a request names. Raises ObjectNotFoundException."""
        key = self.key(context, request)
        target = self.world.targets.record(*key)
        if target is None:
            raise AwsError("ObjectNotFoundException", f"No scalable target registered for {where(key[2])}")
        return target

    def prefix(self, context: RequestContext, request: Any) -> Key | None:
        """Where what a describing request asks for lies; None for a namespace in which nothing is scaled here."""
        if request.scalable_dimension is not None and request.resource_id is None:
            raise invalid("If you specify a scalable dimension, you must also specify a resource ID.")
        if request.service_namespace != "ecs":
            return None
        check_kind("ecs", request.resource_id, request.scalable_dimension)
        place: Key = (context.account, context.region)
        return place if request.resource_id is None else (*place, request.resource_id)
