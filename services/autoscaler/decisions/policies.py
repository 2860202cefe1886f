"""What a scaling policy may say, and what its stored configuration (wire form) means.

https://docs.aws.amazon.com/autoscaling/application/APIReference/API_PutScalingPolicy.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contracts.records.autoscaler import ScalingPolicy
from services.autoscaler.decisions.names import invalid, service_of
from services.autoscaler.decisions.steps import Steps, read_steps
from services.autoscaler.decisions.tracking import Tracking
from services.autoscaler.decisions.values import MetricOf
from services.shared.errors import NotImplementedYet

DEFAULT_COOLDOWN_S = 300
"""ECS' default, of both directions of target tracking and of steps."""

PERIODS_S = (5, 60)
"""The lengths of the data points that target tracking asks for: what agents measure in, and AWS' own."""

LONGEST_COOLDOWN_S = 10 * 365 * 86400
ECS_METRICS = {
    "ECSServiceAverageCPUUtilization": "CPUUtilization",
    "ECSServiceAverageMemoryUtilization": "MemoryUtilization",
    "ECSServiceAverageCPUUtilizationHighResolution": "CPUUtilization",
    "ECSServiceAverageMemoryUtilizationHighResolution": "MemoryUtilization",
}
_API, _PUT = "Application Auto Scaling", "PutScalingPolicy"
_TYPES = {
    "TargetTrackingScaling": "TargetTrackingScalingPolicyConfiguration",
    "StepScaling": "StepScalingPolicyConfiguration",
}


def check(policy_type: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a policy of this type (wire form), checked. Raises AwsError."""
    if policy_type == "PredictiveScaling":
        raise NotImplementedYet(_API, _PUT, "predictive scaling needs forecasts, which Roadstead does not make")
    configuration = request.get(_TYPES[policy_type])
    if configuration is None:
        raise invalid(f"{_TYPES[policy_type]} is required for policy type {policy_type}.")
    for other, member in _TYPES.items():
        if other != policy_type and request.get(member) is not None:
            raise invalid(f"{member} can't be given for policy type {policy_type}.")
    if policy_type == "StepScaling":
        _check_steps(configuration)
    else:
        _check_tracking(configuration)
    return dict(configuration)


def _check_cooldown(configuration: Mapping[str, Any], *members: str) -> None:
    for member in members:
        if not 0 <= (configuration.get(member) or 0) <= LONGEST_COOLDOWN_S:
            raise invalid(f"{member} must not be negative.")


def _check_steps(configuration: Mapping[str, Any]) -> None:
    if configuration.get("AdjustmentType") is None:
        raise invalid("AdjustmentType is required for a step scaling policy.")
    read_steps(configuration.get("StepAdjustments") or ())
    _check_cooldown(configuration, "Cooldown")
    magnitude = configuration.get("MinAdjustmentMagnitude")
    if magnitude is not None and configuration["AdjustmentType"] != "PercentChangeInCapacity":
        raise invalid("MinAdjustmentMagnitude can only be given for the adjustment type PercentChangeInCapacity.")
    if magnitude is not None and magnitude < 1:
        raise invalid("MinAdjustmentMagnitude must be greater than 0.")
    exact = configuration["AdjustmentType"] == "ExactCapacity"
    if exact and any(s["ScalingAdjustment"] < 0 for s in configuration["StepAdjustments"]):
        raise invalid("ScalingAdjustment must not be negative for the adjustment type ExactCapacity.")


def _check_tracking(configuration: Mapping[str, Any]) -> None:
    predefined = configuration.get("PredefinedMetricSpecification")
    customized = configuration.get("CustomizedMetricSpecification")
    if (predefined is None) == (customized is None):
        raise invalid("Exactly one of PredefinedMetricSpecification and CustomizedMetricSpecification is required.")
    if not configuration["TargetValue"] > 0:
        raise invalid("TargetValue must be greater than 0.")
    _check_cooldown(configuration, "ScaleOutCooldown", "ScaleInCooldown")
    if predefined is not None:
        kind = predefined["PredefinedMetricType"]
        if kind == "ALBRequestCountPerTarget":
            raise NotImplementedYet(_API, _PUT, "the metric ALBRequestCountPerTarget needs a load balancer")
        if kind not in ECS_METRICS:
            raise invalid(f"PredefinedMetricType {kind} is not supported for service namespace ecs.")
        return
    if customized.get("Metrics"):
        raise NotImplementedYet(_API, _PUT, "metric math (CustomizedMetricSpecification.Metrics)")
    for member in ("MetricName", "Namespace", "Statistic"):
        if not customized.get(member):
            raise invalid(f"CustomizedMetricSpecification: {member} is required.")


def tracking(policy: ScalingPolicy) -> Tracking:
    """A stored target tracking policy."""
    configuration = policy.configuration
    predefined = configuration.get("PredefinedMetricSpecification")
    label = predefined["PredefinedMetricType"] if predefined else metric_name(policy)
    return Tracking(
        policy=policy.id,
        name=policy.name,
        metric=label,
        target=configuration["TargetValue"],
        out_cooldown_s=_or_default(configuration, "ScaleOutCooldown"),
        in_cooldown_s=_or_default(configuration, "ScaleInCooldown"),
        scales_in=not configuration.get("DisableScaleIn"),
    )


def metric_name(policy: ScalingPolicy) -> str:
    """The name of the customized metric of a policy."""
    return str(policy.configuration["CustomizedMetricSpecification"]["MetricName"])


def series(policy: ScalingPolicy) -> tuple[MetricOf, ...]:
    """The series that a target tracking policy follows, the finest first: agents tell what tasks use every few seconds,
    what somebody puts comes each minute unless it is of high resolution. What is added up over a period is another
    number for another period, and a target is meant for a minute."""
    own = policy.configuration.get("CustomizedMetricSpecification") or {}
    periods = PERIODS_S[-1:] if own.get("Statistic") in ("Sum", "SampleCount") else PERIODS_S
    return tuple(_metric(policy, period) for period in periods)


def _metric(policy: ScalingPolicy, period_s: int) -> MetricOf:
    predefined = policy.configuration.get("PredefinedMetricSpecification")
    if predefined:
        cluster, service = service_of(policy.resource)
        dimensions: tuple[tuple[str, str], ...] = (("ClusterName", cluster), ("ServiceName", service))
        name = ECS_METRICS[predefined["PredefinedMetricType"]]
        return MetricOf(policy.account, policy.region, "AWS/ECS", name, dimensions, "Average", period_s)
    own = policy.configuration["CustomizedMetricSpecification"]
    pairs = tuple(sorted((d["Name"], d["Value"]) for d in own.get("Dimensions") or ()))
    place = (policy.account, policy.region, own["Namespace"], own["MetricName"])
    return MetricOf(*place, pairs, own["Statistic"], period_s)


def steps(policy: ScalingPolicy) -> Steps:
    """A stored step scaling policy."""
    configuration = policy.configuration
    return Steps(
        policy=policy.id,
        name=policy.name,
        adjustment_type=configuration["AdjustmentType"],
        steps=read_steps(configuration["StepAdjustments"]),
        cooldown_s=_or_default(configuration, "Cooldown"),
        magnitude=configuration.get("MinAdjustmentMagnitude") or 0,
    )


def _or_default(configuration: Mapping[str, Any], member: str) -> float:
    value = configuration.get(member)
    return float(DEFAULT_COOLDOWN_S if value is None else value)
