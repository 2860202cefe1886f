"""The lifecycle stages of a deployment that shifts traffic: their order, and what entering one changes.

Entering a stage is one change of the service's deployments: the stage's name, the traffic's weights, the hooks that
begin with it. When a stage is over is decided in `shifting`.
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-type-blue-green.html
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-type-linear.html
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/canary-deployment.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from contracts.records.scheduler import Deployment, DeploymentStage
from services.scheduler.decisions import hooks
from services.scheduler.decisions.requests import invalid

SHIFTING = ("BLUE_GREEN", "LINEAR", "CANARY")
FORWARD = (
    "RECONCILE_SERVICE",
    "PRE_SCALE_UP",
    "SCALE_UP",
    "POST_SCALE_UP",
    "TEST_TRAFFIC_SHIFT",
    "POST_TEST_TRAFFIC_SHIFT",
    "PRE_PRODUCTION_TRAFFIC_SHIFT",
    "PRODUCTION_TRAFFIC_SHIFT",
    "POST_PRODUCTION_TRAFFIC_SHIFT",
    "BAKE_TIME",
    "CLEAN_UP",
)
BACK = ("SCALE_UP", "PRODUCTION_TRAFFIC_SHIFT", "TEST_TRAFFIC_SHIFT", "CLEAN_UP")
SHIFT_GRACE_S = 2.0
"""Whoever directs the traffic hears of a shift before the tasks that it leads away from are stopped."""
_MOST_MINUTES = 1440


def check(configuration: Mapping[str, Any], *, daemon: bool = False) -> None:
    """Refuse a strategy (wire form of a deployment configuration) that can't be. Raises AwsError."""
    strategy = configuration.get("strategy") or "ROLLING"
    if daemon and strategy != "ROLLING":
        raise invalid(f"The daemon scheduling strategy does not support the deployment strategy {strategy}.")
    for member, owner in (("linearConfiguration", "LINEAR"), ("canaryConfiguration", "CANARY")):
        if configuration.get(member) and strategy != owner:
            raise invalid(f"{member} is only valid with the deployment strategy {owner}.")
    _check_minutes("bakeTimeInMinutes", configuration.get("bakeTimeInMinutes"))
    linear = configuration.get("linearConfiguration") or {}
    _check_percent("linearConfiguration.stepPercent", linear.get("stepPercent"), 3.0)
    _check_minutes("linearConfiguration.stepBakeTimeInMinutes", linear.get("stepBakeTimeInMinutes"))
    canary = configuration.get("canaryConfiguration") or {}
    _check_percent("canaryConfiguration.canaryPercent", canary.get("canaryPercent"), 0.1)
    _check_minutes("canaryConfiguration.canaryBakeTimeInMinutes", canary.get("canaryBakeTimeInMinutes"))
    if strategy == "ROLLING" and configuration.get("lifecycleHooks"):
        raise invalid("lifecycleHooks need the deployment strategy BLUE_GREEN, LINEAR or CANARY.")
    hooks.check(configuration.get("lifecycleHooks") or ())


def _check_minutes(member: str, minutes: int | None) -> None:
    if minutes is not None and not 0 <= minutes <= _MOST_MINUTES:
        raise invalid(f"{member} must be between 0 and {_MOST_MINUTES}.")


def _check_percent(member: str, percent: float | None, least: float) -> None:
    if percent is None:
        return
    if not least <= percent <= 100.0 or abs(percent * 10 - round(percent * 10)) > 1e-6:
        raise invalid(f"{member} must be a multiple of 0.1 between {least} and 100.0.")


def goes_by_stages(deployment: Deployment) -> bool:
    """Whether it is under way and shifts traffic, forwards or back."""
    return deployment.stage is not None and deployment.stage.strategy in SHIFTING


def source_of(deployments: Sequence[Deployment]) -> Deployment | None:
    """The deployment that has the traffic while the first one is on its way (blue)."""
    return next((d for d in deployments[1:] if d.rollout_state == "COMPLETED"), None)


def share(configuration: Mapping[str, Any], strategy: str, step: int) -> float:
    """The percent of production traffic that the new deployment has after this many shifts."""
    if strategy == "LINEAR":
        percent = (configuration.get("linearConfiguration") or {}).get("stepPercent", 10.0)
        return min(100.0, round(step * percent, 1))
    if strategy == "CANARY" and step == 1:
        return (configuration.get("canaryConfiguration") or {}).get("canaryPercent", 5.0)
    return 100.0


def step_bake_s(configuration: Mapping[str, Any], strategy: str) -> float:
    """How long a shift that is not the last one is watched, in seconds."""
    if strategy == "LINEAR":
        return 60.0 * (configuration.get("linearConfiguration") or {}).get("stepBakeTimeInMinutes", 6)
    return 60.0 * (configuration.get("canaryConfiguration") or {}).get("canaryBakeTimeInMinutes", 10)


def begun(
    configuration: Mapping[str, Any], new: Deployment, before: Sequence[Deployment], now: float
) -> list[Deployment]:
    """The deployments when `new` begins beside those that there are, which keep the traffic that they have. What was
    itself on its way is cleared away first (RECONCILE_SERVICE)."""
    old = [replace(_overtaken(d), status="ACTIVE") for d in before]
    strategy = configuration.get("strategy") or "ROLLING"
    if strategy == "ROLLING":
        # Nobody directs the traffic any more; but who was to have none has not been found good for it.
        return [new, *(replace(d, weight=0.0 if d.weight == 0.0 else None, test_weight=None) for d in old)]
    undirected = sum(d.weight is None for d in old)
    for place, each in enumerate(old):
        weight = 100.0 / undirected if each.weight is None else each.weight
        old[place] = replace(each, weight=weight, test_weight=0.0)
    deployments = [replace(new, weight=0.0, test_weight=0.0), *old]
    stage = "PRE_SCALE_UP" if _is_settled(deployments) else "RECONCILE_SERVICE"
    return entered(configuration, deployments, DeploymentStage(name=stage, since=now, strategy=strategy))


def _overtaken(deployment: Deployment) -> Deployment:
    """What is on its way back was complete before, what only has blue to clear away is as good as complete: either is
    what there is to go back to."""
    stage = deployment.stage
    if stage is None or deployment.rollout_state == "FAILED":
        return replace(deployment, stage=None)
    if stage.rolls_back or (stage.name == "CLEAN_UP" and stage.strategy in SHIFTING):
        return replace(deployment, stage=None, rollout_state="COMPLETED")
    return replace(deployment, stage=None)


def _is_settled(deployments: Sequence[Deployment]) -> bool:
    """Whether beside the new deployment there is nothing but what is complete."""
    return len(deployments) == 1 or (len(deployments) == 2 and source_of(deployments) is not None)


def is_home(deployments: Sequence[Deployment]) -> bool:
    """Whether all production traffic is the source's, as far as there is one."""
    source = source_of(deployments)
    return source is None or all(d is source or not d.weight for d in deployments)


def home(deployments: Sequence[Deployment]) -> list[Deployment]:
    """The deployments after all traffic has gone to the source."""
    source = source_of(deployments)
    return [replace(d, weight=100.0 if d is source else 0.0) for d in deployments]


def entered(
    configuration: Mapping[str, Any], deployments: Sequence[Deployment], stage: DeploymentStage
) -> list[Deployment]:
    """The deployments after the first one has entered this stage (its hooks are found here)."""
    primary, *others = deployments
    asked = not stage.rolls_back or _moved(stage.name, others)
    if asked:
        found = hooks.runs(configuration, primary.id, stage.name, stage.step, stage.since)
        stage = replace(stage, hooks=found)
    primary = replace(primary, stage=stage, updated_at=stage.since)
    if stage.name == "TEST_TRAFFIC_SHIFT":
        primary = replace(primary, test_weight=0.0 if stage.rolls_back else 100.0)
        others = [replace(d, test_weight=0.0) for d in others]
    elif stage.name == "PRODUCTION_TRAFFIC_SHIFT":
        source = source_of(deployments)
        alone = stage.rolls_back or source is None
        weight = 100.0 if alone else share(configuration, stage.strategy, stage.step)
        primary = replace(primary, weight=weight)
        others = [replace(d, weight=round(100.0 - weight, 1) if d is source else 0.0) for d in others]
    return [primary, *others]


def _moved(stage: str, others: Sequence[Deployment]) -> bool:
    """Whether there is traffic to be brought back from others; only then hooks hear of it."""
    member = {"PRODUCTION_TRAFFIC_SHIFT": "weight", "TEST_TRAFFIC_SHIFT": "test_weight"}.get(stage, "")
    return any(getattr(d, member, None) for d in others)


def following(primary: Deployment) -> DeploymentStage:
    """The stage after the present one, before it is entered (`since` is still the old one's). Steps of production
    traffic come again until all of it has shifted."""
    stage = primary.stage
    assert stage is not None
    if stage.rolls_back:
        return replace(stage, name=BACK[BACK.index(stage.name) + 1], hooks=[])
    if stage.name == "PRODUCTION_TRAFFIC_SHIFT" and (primary.weight or 0.0) < 100.0:
        return replace(stage, name="PRE_PRODUCTION_TRAFFIC_SHIFT", hooks=[])
    name = FORWARD[FORWARD.index(stage.name) + 1]
    step = stage.step + (name == "PRODUCTION_TRAFFIC_SHIFT")
    return replace(stage, name=name, step=step, hooks=[])


def complete(primary: Deployment, now: float) -> Deployment:
    """The deployment at the end of its way: it has all the traffic, and is alone."""
    return replace(
        primary,
        rollout_state="COMPLETED",
        rollout_state_reason=f"ECS deployment {primary.id} completed.",
        stage=None,
        weight=100.0,
        test_weight=0.0,
        updated_at=now,
    )
