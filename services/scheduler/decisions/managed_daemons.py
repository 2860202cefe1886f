"""Daemons: what CreateDaemon and UpdateDaemon make of the service that stands for one, and daemon task definitions.

A daemon is stored as a DAEMON service under a name that no service can have. What ECS does by draining instances and
providing new ones is done on the nodes that there are: their tasks are replaced, drainPercent of them at a time.
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/managed-daemons.html
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from contracts.aws import ecs
from contracts.records.agent import TaskStatus
from contracts.records.scheduler import Service, Task
from services.scheduler.decisions import life, names
from services.scheduler.decisions import services as rules
from services.scheduler.decisions.capacity import FARGATE_PROVIDERS, MOST_ITEMS, not_found
from services.scheduler.decisions.names import DAEMON
from services.scheduler.decisions.requests import invalid
from services.shared.errors import AwsError

DRAIN_PERCENT = 25.0
NAMESPACES = ("pidMode", "ipcMode")
_SETTINGS = ("propagateTags", "enableECSManagedTags", "enableExecuteCommand")
_BREAKER = {"deploymentCircuitBreaker": {"enable": True, "rollback": True}, "minimumHealthyPercent": 0}


def given(request: Mapping[str, Any], providers: Container[str]) -> dict[str, Any]:
    """What CreateDaemon or UpdateDaemon (wire form) says, as a service's request. `providers`: those there are. Raises
    AwsError."""
    configuration = request.get("deploymentConfiguration") or {}
    settings = {name: request[name] for name in _SETTINGS if name in request}
    made = {
        "schedulingStrategy": "DAEMON",
        "desiredCount": 0,
        "capacityProviderStrategy": [
            {"capacityProvider": name, "weight": 1}
            for name in _providers(request.get("capacityProviderArns") or (), providers)
        ],
        "deploymentConfiguration": rules.completed({**_BREAKER, **_watching(configuration)}, daemon=True),
        "drainPercent": configuration.get("drainPercent", DRAIN_PERCENT),
        "propagateTags": "SERVICE" if settings.get("propagateTags") == "DAEMON" else "NONE",
        "enableECSManagedTags": settings.get("enableECSManagedTags", False),
        "enableExecuteCommand": settings.get("enableExecuteCommand", False),
        "daemon": {**settings, "critical": request.get("critical", True)},
    }
    rules.check({k: made[k] for k in ("schedulingStrategy", "deploymentConfiguration")})
    return made


def _watching(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """How long each step of a deployment is watched, and by which alarms: one that goes off always rolls it back."""
    alarms = configuration.get("alarms") or {}
    told = {"alarms": {**alarms, "rollback": True}} if alarms.get("enable") else {}
    return {"bakeTimeInMinutes": configuration.get("bakeTimeInMinutes") or 0, **told}


def _providers(arns: Sequence[str], known: Container[str]) -> list[str]:
    if not 1 <= len(arns) <= MOST_ITEMS:
        raise invalid(f"capacityProviderArns must have between 1 and {MOST_ITEMS} items.")
    found = [names.last_part(arn) for arn in arns]
    for name in found:
        if name in FARGATE_PROVIDERS:
            raise invalid(f"Daemons are not supported for the capacity provider {name}.")
        if name not in known:
            raise not_found(name)
    if len(set(found)) < len(found):
        raise invalid("A capacity provider can be given only once.")
    return found


def providers_of(service: Service) -> list[str]:
    """The capacity providers of a daemon."""
    return [item["capacityProvider"] for item in service.request.get("capacityProviderStrategy", ())]


def _unsupported(noun: str) -> AwsError:
    return AwsError("UnsupportedFeatureException", f"Roadstead does not support {noun}.")


def is_critical(service: Service) -> bool:
    """Whether it is a daemon that nodes are not well without."""
    return service.status == "ACTIVE" and bool(service.request.get("daemon", {}).get("critical"))


def impairs(tasks: Iterable[tuple[Task, TaskStatus | None]], checked: bool) -> bool:
    """Whether a critical daemon's tasks on a node tell that the node is not well: the latest of which something is
    known has failed, was stopped or is ill. Not known is what becomes of one that is not up yet (`checked`: not healthy
    yet), and what the scheduler stops in an update is no failure, nor well if it never was.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/managed-daemons-auto-repair.html
    """
    for task, status in sorted(tasks, key=lambda each: each[0].created_at, reverse=True):
        state = life.counts_as(task, status)
        if state in ("stopping", "stopped") and not _replaced(task):
            return True
        if status is None:
            continue
        if state == "running" and status.health_status == "UNHEALTHY":
            return True
        if status.health_status == "HEALTHY" if checked else status.started_at is not None:
            return False
    return False


def impaired_reason(daemons: Iterable[str]) -> str:
    """What is told of a node, and of what has to leave it, without these daemons (names of records); empty for none."""
    found = ", ".join(sorted(names.daemon_name(each) or each for each in daemons))
    return f"The node is drained until its critical daemon is well again: {found}." if found else ""


def _replaced(task: Task) -> bool:
    ill = (task.stopped_reason or "").startswith(life.UNHEALTHY_REASON)
    return task.lost_at is not None or (task.stop_code == "ServiceSchedulerInitiated" and not ill)


def status(service: Service) -> str:
    """ACTIVE or DELETE_IN_PROGRESS."""
    return "ACTIVE" if service.status == "ACTIVE" else "DELETE_IN_PROGRESS"


def definition(request: ecs.RegisterDaemonTaskDefinitionRequest) -> ecs.RegisterTaskDefinitionRequest:
    """A daemon task definition as a task definition. Raises AwsError for what can't be done."""
    if any(volume.log_driver_volume_configuration is not None for volume in request.volumes or ()):
        raise _unsupported("volumes of log drivers (logDriverVolumeConfiguration)")
    plain = msgspec.to_builtins(request)
    plain.pop("tags", None)
    for member in NAMESPACES:
        # A daemon's `shared` is a task's `host`, its `none` what a task has that says nothing (ECS API reference,
        # RegisterDaemonTaskDefinition).
        if plain.pop(member, None) == "shared":
            plain[member] = "host"
    return msgspec.convert({**plain, "networkMode": "bridge"}, ecs.RegisterTaskDefinitionRequest)


def shown(kept: Mapping[str, Any]) -> ecs.DaemonTaskDefinition:
    """What was kept of `definition`, in wire form, as a daemon task definition."""
    modes = {member: "shared" if kept.get(member) == "host" else "none" for member in NAMESPACES}
    return msgspec.convert({**kept, **modes}, ecs.DaemonTaskDefinition)


def reference(text: str) -> tuple[str, int | None]:
    """The record's family, and the revision if there is one, of `family`, `family:revision` or an ARN. Raises
    ClientException."""
    if text.startswith("arn:") and ":daemon-task-definition/" not in text:
        raise AwsError("ClientException", "The daemon task definition ARN is invalid.")
    family, revision = names.family_and_revision(text)
    return f"{DAEMON}{family}", revision


def of_daemon_arn(arn: str) -> tuple[str, str]:
    """The cluster, and the name of the record, of a daemon's ARN. Raises InvalidParameterException."""
    kind, path = names.split_arn(arn)
    if kind != "daemon" or len(path) != 2:
        raise invalid("The specified daemon ARN is invalid.")
    return path[0], f"{DAEMON}{path[1]}"
