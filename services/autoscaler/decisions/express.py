"""The scalable target and the policy that an Express service is to have.

https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ExpressGatewayScalingTarget.html
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from contracts.records.autoscaler import ScalableTarget, ScalingPolicy
from contracts.records.metrics import EXPRESS_NAMESPACE, REQUESTS_PER_TARGET
from contracts.records.scheduler import ExpressScaling, Service
from services.autoscaler.decisions.names import DIMENSION, role_arn

POLICY = "express"
_PREDEFINED = {
    "AVERAGE_CPU": "ECSServiceAverageCPUUtilization",
    "AVERAGE_MEMORY": "ECSServiceAverageMemoryUtilization",
}


def scaling_of(service: Service | None) -> ExpressScaling | None:
    """What is wanted of an Express service's scaling; None for one that is not to be scaled (any more)."""
    if service is None or service.express is None or service.status != "ACTIVE":
        return None
    return service.express.scaling


def resource_of(service: Service) -> str:
    """The resource id of a service."""
    return f"service/{service.cluster}/{service.name}"


def target(service: Service, scaling: ExpressScaling, old: ScalableTarget | None, fresh_id: str, now: float) -> (
    ScalableTarget
):  # fmt: skip
    """The target of a service after its wish; the old one when it has been carried out. What its owner changed since
    stays, until the service's scaling is changed again."""
    if old is not None and old.express_at == scaling.wanted_at:
        return old
    if old is not None:
        return replace(
            old,
            min_capacity=scaling.min_tasks,
            max_capacity=scaling.max_tasks,
            settled=False,
            express_at=scaling.wanted_at,
        )
    return ScalableTarget(
        account=service.account,
        region=service.region,
        resource=resource_of(service),
        dimension=DIMENSION,
        id=fresh_id,
        min_capacity=scaling.min_tasks,
        max_capacity=scaling.max_tasks,
        role_arn=role_arn(service.account),
        created_at=now,
        express_at=scaling.wanted_at,
    )


def policy(
    service: Service, scaling: ExpressScaling, old: ScalingPolicy | None, fresh_id: str, now: float
) -> ScalingPolicy:
    """The policy of a service; the old one when it says the same."""
    configuration: dict[str, Any] = {"TargetValue": scaling.target, **_metric(service, scaling)}
    if old is not None:
        return old if old.configuration == configuration else replace(old, configuration=configuration)
    return ScalingPolicy(
        account=service.account,
        region=service.region,
        resource=resource_of(service),
        dimension=DIMENSION,
        name=POLICY,
        id=fresh_id,
        type="TargetTrackingScaling",
        configuration=configuration,
        created_at=now,
    )


def _metric(service: Service, scaling: ExpressScaling) -> dict[str, Any]:
    if scaling.metric in _PREDEFINED:
        return {"PredefinedMetricSpecification": {"PredefinedMetricType": _PREDEFINED[scaling.metric]}}
    dimensions = {"ClusterName": service.cluster, "ServiceName": service.name}
    return {
        "CustomizedMetricSpecification": {
            "MetricName": REQUESTS_PER_TARGET,
            "Namespace": EXPRESS_NAMESPACE,
            "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions.items()],
            "Statistic": "Sum",
        }
    }
