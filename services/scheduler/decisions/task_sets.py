"""Task sets: the versions of a service whose deployments somebody else controls (deploymentController EXTERNAL).

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-type-external.html
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from contracts.records.scheduler import Service, TaskSet
from services.scheduler.decisions import messages
from services.scheduler.decisions.backoff import BackoffRules, Member
from services.scheduler.decisions.requests import invalid
from services.scheduler.decisions.rollout import Plan, Stop, drain, earliest
from services.scheduler.decisions.upkeep import keep
from services.shared.errors import AwsError

MOST = 5
_OF_SETS = (
    "taskDefinition",
    "launchType",
    "capacityProviderStrategy",
    "platformVersion",
    "networkConfiguration",
    "loadBalancers",
    "serviceRegistries",
    "serviceConnectConfiguration",
    "volumeConfigurations",
    "forceNewDeployment",
)


def is_external(service: Service) -> bool:
    """Whether its deployments are somebody else's: it has task sets."""
    return _controller(service.request) == "EXTERNAL"


def _controller(request: Mapping[str, Any]) -> str:
    return (request.get("deploymentController") or {}).get("type") or "ECS"


def check_service(request: Mapping[str, Any]) -> bool:
    """Whether a new service (wire form) is to have task sets. Raises InvalidParameterException for what is theirs."""
    if _controller(request) != "EXTERNAL":
        return False
    if request.get("schedulingStrategy") == "DAEMON":
        raise invalid("The daemon scheduling strategy does not support the deployment controller EXTERNAL.")
    check_update(request)
    return True


def check_update(request: Mapping[str, Any]) -> None:
    """Refuse what belongs to task sets in a service that has them (wire form). Raises InvalidParameterException."""
    for member in _OF_SETS:
        if request.get(member):
            raise invalid(f"{member} of a service with the deployment controller EXTERNAL belongs to its task sets.")
    strategy = (request.get("deploymentConfiguration") or {}).get("strategy") or "ROLLING"
    if strategy != "ROLLING":
        raise invalid(f"The deployment strategy {strategy} needs the deployment controller ECS.")


def read_scale(scale: Mapping[str, Any] | None) -> float:
    """A Scale (wire form) in percent; 100 when none is given. Raises InvalidParameterException."""
    given = scale or {}
    value = given.get("value", 100.0)
    if given.get("unit", "PERCENT") != "PERCENT":
        raise invalid("scale: unit must be PERCENT.")
    if not 0.0 <= value <= 100.0:
        raise invalid("scale: value must be between 0 and 100.")
    return float(value)


def computed_count(service: Service, of: TaskSet) -> int:
    """How many tasks a set is to have: its share of the desired count, rounded up."""
    if of.status == "DRAINING":
        return 0
    return math.ceil(round(service.desired_count * of.scale / 100.0, 9))


def is_steady(service: Service, of: TaskSet, members: Sequence[Member]) -> bool:
    """Whether it has what it is to have: all running and healthy, none pending, none on a node that is drained."""
    alive = [m for m in members if m.deployment == of.id and m.state in ("pending", "running")]
    return len(alive) == computed_count(service, of) and all(m.healthy and not m.leaving for m in alive)


def decide(service: Service, members: Sequence[Member], now: float, rules: BackoffRules) -> Plan:
    """The next step of a service with task sets: each is kept at its share, those that drain go when they are empty."""
    if service.status != "ACTIVE":
        plan = drain(service, members)
        return replace(plan, task_sets=[]) if plan.status == "INACTIVE" else plan
    kept = {s.id: keep(service, s.id, members, computed_count(service, s), now, rules) for s in service.task_sets}
    strays = _strays(kept, members)
    steady = not strays and all(each.up for each in kept.values())
    told = [text for each in kept.values() for text in each.messages]
    if steady and not service.steady:
        told.append(messages.steady(service.name))
    stops = [stop for each in kept.values() for stop in each.stops]
    return Plan(
        deployments=service.deployments,
        status="ACTIVE",
        steady=steady,
        stops=(*stops, *strays),
        messages=tuple(told),
        wake_at=earliest(*(each.wake_at for each in kept.values())),
        others=tuple((one, each.starts) for one, each in kept.items() if each.starts),
        task_sets=[s for s in service.task_sets if s.status != "DRAINING" or not kept[s.id].gone],
    )


def _strays(known: Collection[str], members: Sequence[Member]) -> tuple[Stop, ...]:
    left = [m for m in members if m.deployment not in known and m.state in ("pending", "running")]
    return tuple(Stop(m.id, messages.scaling(m.deployment)) for m in left)


def find(service: Service, set_id: str) -> TaskSet:
    """The set. Raises TaskSetNotFoundException."""
    found = next((s for s in service.task_sets if s.id == set_id), None)
    if found is None:
        raise AwsError("TaskSetNotFoundException", "The specified task set was not found.")
    return found


def changed(service: Service, new: TaskSet) -> Service:
    """The service with this set in place of the one of its id."""
    sets = [new if s.id == new.id else s for s in service.task_sets]
    return replace(service, task_sets=sets, steady=False)


def added(service: Service, new: TaskSet) -> Service:
    """The service with one set more. Raises LimitExceededException."""
    if len(service.task_sets) >= MOST:
        raise AwsError("LimitExceededException", f"A service can have at most {MOST} task sets.")
    return replace(service, task_sets=[*service.task_sets, new], steady=False)


def scaled(service: Service, set_id: str, scale: float, now: float) -> Service:
    """The service after a set is to have this share."""
    old = find(service, set_id)
    if old.status == "DRAINING":
        raise invalid("The task set is draining.")
    return changed(service, replace(old, scale=scale, updated_at=now))


def draining(service: Service, set_id: str, force: bool, now: float) -> Service:
    """The service after a set was deleted: it drains, and is gone when its tasks are. Only `force` does so while it is
    scaled above 0."""
    old = find(service, set_id)
    if old.scale > 0 and not force:
        raise invalid("The task set cannot be deleted while it is scaled above 0.")
    return changed(service, replace(old, status="DRAINING", updated_at=now))


def made_primary(service: Service, set_id: str, now: float) -> Service:
    """The service after this set has become the one that serves production traffic."""
    chosen = find(service, set_id)
    if chosen.status == "DRAINING":
        raise invalid("The task set is draining.")
    sets = []
    for each in service.task_sets:
        status = "PRIMARY" if each is chosen else "ACTIVE" if each.status == "PRIMARY" else each.status
        sets.append(each if status == each.status else replace(each, status=status, updated_at=now))
    return replace(service, task_sets=sets)
