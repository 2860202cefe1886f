"""Which kind of capacity tasks run on: a launch type, or a capacity provider out of a strategy.

https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_CapacityProviderStrategyItem.html
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from services.shared.errors import AwsError

FARGATE_PROVIDERS = {"FARGATE": "FARGATE", "FARGATE_SPOT": "FARGATE"}
"""ECS' own providers, with the launch type of their tasks."""
LATEST_PLATFORM = "1.4.0"
MOST_ITEMS = 20


class Capacity(msgspec.Struct, frozen=True):
    """`kind` is what placement looks for: FARGATE, FARGATE_SPOT, EC2, EXTERNAL or a provider's name."""

    launch_type: str
    provider: str | None = None
    platform_version: str | None = None

    @property
    def kind(self) -> str:
        """The capacity kind of nodes that suit best."""
        return self.provider or self.launch_type


def of_launch_type(launch_type: str, platform_version: str | None = None) -> Capacity:
    """The capacity of a launch type."""
    if launch_type == "MANAGED_INSTANCES":
        said = "To use Amazon ECS Managed Instances, specify a capacityProviderStrategy and omit the launchType."
        raise AwsError("InvalidParameterException", said)
    return Capacity(launch_type, None, _platform(platform_version) if launch_type == "FARGATE" else None)


def launch_type_of(request: Mapping[str, Any], known: Mapping[str, str]) -> str:
    """The launch type that a service's or task set's tasks will have. `known`: the capacity providers with theirs."""
    strategy = request.get("capacityProviderStrategy")
    return known.get(strategy[0]["capacityProvider"], "EC2") if strategy else request.get("launchType") or "FARGATE"


def not_found(provider: str) -> AwsError:
    """What a request that names an unknown capacity provider is answered."""
    return AwsError(
        "InvalidParameterException",
        f"The specified capacity provider '{provider}' was not found. Specify a valid name or ARN and try again.",
    )


def check_strategy(strategy: Sequence[Mapping[str, Any]], known: Mapping[str, str] = FARGATE_PROVIDERS) -> None:
    """Raises InvalidParameterException for a strategy that can't be followed. `known`: the providers there are, with
    the launch types of their tasks."""
    named = [item["capacityProvider"] for item in strategy]
    for provider in named:
        if provider not in known:
            raise not_found(provider)
    if len(strategy) > MOST_ITEMS:
        raise AwsError("InvalidParameterException", f"A strategy can have at most {MOST_ITEMS} capacity providers.")
    if len(set(named)) < len(named):
        raise AwsError("InvalidParameterException", "A capacity provider can be in a strategy only once.")
    if len({known[provider] == "MANAGED_INSTANCES" for provider in named}) > 1:
        said = "A capacity provider strategy cannot mix managed instances with other capacity providers."
        raise AwsError("InvalidParameterException", said)
    if len({provider in FARGATE_PROVIDERS for provider in named}) > 1:
        said = "A capacity provider strategy cannot contain a mix of capacity providers using Auto Scaling groups and "
        raise AwsError("InvalidParameterException", said + "Fargate providers. Specify one or the other and try again.")
    if sum(1 for item in strategy if item.get("base")) > 1:
        raise AwsError("InvalidParameterException", "Only one capacity provider in a strategy can have a base defined.")
    if len(strategy) > 1 and not any(item.get("weight") or item.get("base") for item in strategy):
        said = "At least one capacity provider must have a weight greater than 0."
        raise AwsError("InvalidParameterException", said)


def of_strategy(
    strategy: Sequence[Mapping[str, Any]],
    running: Mapping[str, int],
    platform_version: str | None = None,
    launch_types: Mapping[str, str] = FARGATE_PROVIDERS,
) -> Capacity:
    """The capacity of the next task, given how many tasks run on each provider: bases first, then by weight.
    `launch_types`: that of each provider's tasks."""
    counts = Counter(running)
    for item in strategy:
        if counts[item["capacityProvider"]] < (item.get("base") or 0):
            return _provided(item["capacityProvider"], platform_version, launch_types)
    weighted = [item for item in strategy if item.get("weight")] or list(strategy)[:1]

    def filled(item: Mapping[str, Any]) -> float:
        above = counts[item["capacityProvider"]] - (item.get("base") or 0)
        return (above + 1) / (item.get("weight") or 1)

    return _provided(min(weighted, key=filled)["capacityProvider"], platform_version, launch_types)


def _provided(provider: str, platform_version: str | None, launch_types: Mapping[str, str]) -> Capacity:
    if provider in FARGATE_PROVIDERS:
        return Capacity("FARGATE", provider, _platform(platform_version))
    return Capacity(launch_types.get(provider, "EC2"), provider)


_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}\Z")
_GROUP_ARN = re.compile(
    r"arn:aws[a-z-]*:autoscaling:[a-z0-9-]+:\d{12}:autoScalingGroup:[^:]+:autoScalingGroupName/.+\Z"
)


def check_provider(name: str, request: Mapping[str, Any]) -> None:
    """Refuse what can't be a capacity provider (wire form). Raises AwsError."""
    if not _NAME.match(name):
        raise AwsError("InvalidParameterException", "Invalid capacity provider name.")
    if name.lower().startswith(("aws", "ecs", "fargate")):
        said = "The capacity provider name cannot be prefixed with 'aws', 'ecs', or 'fargate'."
        raise AwsError("InvalidParameterException", said)
    provider, managed = request.get("autoScalingGroupProvider"), request.get("managedInstancesProvider")
    if (provider is None) == (managed is None):
        said = "Specify either an autoScalingGroupProvider or a managedInstancesProvider."
        raise AwsError("InvalidParameterException", said)
    if provider is None:
        if not request.get("cluster"):
            said = "A cluster must be specified for a capacity provider of managed instances."
            raise AwsError("InvalidParameterException", said)
        return
    if request.get("cluster"):
        said = "A cluster can be specified only for a capacity provider of managed instances."
        raise AwsError("InvalidParameterException", said)
    if not _GROUP_ARN.match(provider.get("autoScalingGroupArn") or ""):
        raise AwsError("InvalidParameterException", "The Auto Scaling group ARN is not valid.")
    check_scaling(provider)


def check_scaling(provider: Mapping[str, Any]) -> None:
    """Refuse what a provider can't do: nodes come and go by themselves here. Raises AwsError."""
    if (provider.get("managedScaling") or {}).get("status") == "ENABLED":
        raise AwsError("UnsupportedFeatureException", "Roadstead does not scale nodes (managedScaling) yet.")
    if provider.get("managedTerminationProtection") == "ENABLED":
        said = "The managed termination protection setting for the capacity provider requires managed scaling."
        raise AwsError("InvalidParameterException", said)


def _platform(version: str | None) -> str:
    return LATEST_PLATFORM if version in (None, "", "LATEST") else version
