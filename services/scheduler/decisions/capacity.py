"""Which kind of capacity tasks run on: a launch type, or a capacity provider out of a strategy.

https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_CapacityProviderStrategyItem.html
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from services.shared.errors import AwsError

FARGATE_PROVIDERS = ("FARGATE", "FARGATE_SPOT")
LATEST_PLATFORM = "1.4.0"


class Capacity(msgspec.Struct, frozen=True):
    """`kind` is what placement looks for: FARGATE, FARGATE_SPOT, EC2 or EXTERNAL."""

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
        raise AwsError("InvalidParameterException", "The launch type MANAGED_INSTANCES is not supported by Roadstead.")
    return Capacity(launch_type, None, _platform(platform_version) if launch_type == "FARGATE" else None)


def check_strategy(strategy: Sequence[Mapping[str, Any]]) -> None:
    """Raises InvalidParameterException for a strategy that can't be followed."""
    for item in strategy:
        if item["capacityProvider"] not in FARGATE_PROVIDERS:
            raise AwsError(
                "InvalidParameterException",
                f"The specified capacity provider '{item['capacityProvider']}' was not found. Specify a valid name or "
                "ARN and try again.",
            )
    if sum(1 for item in strategy if item.get("base")) > 1:
        raise AwsError("InvalidParameterException", "Only one capacity provider in a strategy can have a base defined.")
    if len(strategy) > 1 and not any(item.get("weight") or item.get("base") for item in strategy):
        said = "At least one capacity provider must have a weight greater than 0."
        raise AwsError("InvalidParameterException", said)


def of_strategy(
    strategy: Sequence[Mapping[str, Any]], running: Mapping[str, int], platform_version: str | None = None
) -> Capacity:
    """The capacity of the next task, given how many tasks run on each provider: bases first, then by weight."""
    counts = Counter(running)
    for item in strategy:
        if counts[item["capacityProvider"]] < (item.get("base") or 0):
            return Capacity("FARGATE", item["capacityProvider"], _platform(platform_version))
    weighted = [item for item in strategy if item.get("weight")] or list(strategy)[:1]

    def filled(item: Mapping[str, Any]) -> float:
        above = counts[item["capacityProvider"]] - (item.get("base") or 0)
        return (above + 1) / (item.get("weight") or 1)

    return Capacity("FARGATE", min(weighted, key=filled)["capacityProvider"], _platform(platform_version))


def _platform(version: str | None) -> str:
    return LATEST_PLATFORM if version in (None, "", "LATEST") else version
