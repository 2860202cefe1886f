"""Which tasks of an ECS service are instances of which Cloud Map service.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-discovery.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from contracts.records.agent import TaskStatus
from contracts.records.scheduler import Service, Task


class Member(NamedTuple):
    """A task of a service. `checked`: an essential container has a health check; `ports` by container name."""

    task: Task
    status: TaskStatus | None
    checked: bool
    ports: Mapping[str, list[int]]


class Registration(NamedTuple):
    """What an instance of a task has; group and weight as in the record."""

    attributes: dict[str, str]
    group: str = ""
    weight: float | None = None


def owner_of(cluster: str, service: str) -> str:
    """The `owner` of the instances that an ECS service has."""
    return f"ecs/{cluster}/{service}"


def registry_ids(service: Service | None) -> list[tuple[str, Mapping[str, Any]]]:
    """The ids of the Cloud Map services that tasks of the ECS service are to be found in, each with its registry (wire
    form): the service's own, and those of its task sets."""
    if service is None or service.status == "INACTIVE":
        return []
    sets = [registry for each in service.task_sets for registry in each.service_registries]
    return _ids([*(service.request.get("serviceRegistries") or []), *sets])


def _ids(registries: Iterable[Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(r["registryArn"].rsplit("/", 1)[-1], r) for r in registries if r.get("registryArn")]


def container_facts(definition: Mapping[str, Any]) -> tuple[bool, dict[str, list[int]]]:
    """(`checked`, `ports`) of a task definition in wire form."""
    containers = definition.get("containerDefinitions") or []
    checked = any(c.get("healthCheck") and c.get("essential", True) for c in containers)
    ports = {
        c["name"]: [p["containerPort"] for p in c.get("portMappings") or [] if p.get("containerPort")]
        for c in containers
    }
    return checked, ports


def in_service(member: Member) -> bool:
    """Whether the task is to be found: it runs, is wanted to, has an address, and is healthy if it says."""
    task, status = member.task, member.status
    if status is None or task.desired_status != "RUNNING" or task.lost_at is not None:
        return False
    if status.last_status != "RUNNING" or status.network is None or not status.network.private_ipv4:
        return False
    return status.health_status == "HEALTHY" if member.checked else status.health_status != "UNHEALTHY"


def attributes(member: Member, registry: Mapping[str, Any]) -> dict[str, str]:
    """The attributes of the task's instance."""
    task, status = member.task, member.status
    assert status is not None and status.network is not None
    given = {
        "AWS_INSTANCE_IPV4": status.network.private_ipv4,
        "ECS_CLUSTER_NAME": task.cluster,
        "ECS_SERVICE_NAME": task.service,
        "ECS_TASK_DEFINITION_FAMILY": task.task_definition.rpartition(":")[0],
        "AVAILABILITY_ZONE": task.zone,
        "REGION": task.region,
    }
    port = _port(member.ports, registry)
    if port is not None:
        given["AWS_INSTANCE_PORT"] = str(port)
    return given


def _port(ports: Mapping[str, list[int]], registry: Mapping[str, Any]) -> int | None:
    """The registry's port, or the container's, or the first that the task has."""
    named = registry.get("port") or registry.get("containerPort")
    if named:
        return int(named)
    of_container = ports.get(registry.get("containerName", ""), [])
    return next(iter(of_container), None) or next((p for each in ports.values() for p in each), None)


def shares(service: Service) -> tuple[set[str], dict[str, float]]:
    """The deployments that are to get no traffic; and, where several share it, the percent that each of them gets."""
    without = {d.id for d in service.deployments if d.weight == 0.0}
    given = {d.id: d.weight for d in service.deployments if d.id not in without}
    directed = {one: weight for one, weight in given.items() if weight is not None}
    return without, directed if len(directed) == len(given) > 1 else {}


def wanted(service: Service | None, members: Iterable[Member]) -> dict[tuple[str, str], Registration]:
    """(Cloud Map service, task) -> what every instance is that should be registered. Tasks of a deployment that is to
    get no traffic are none."""
    if service is None or not registry_ids(service):
        return {}
    without, given = shares(service)
    sets = {s.id: s for s in service.task_sets}
    everybody = _ids(service.request.get("serviceRegistries") or [])
    found = {}
    for member in members:
        deployment = member.task.deployment
        if not in_service(member) or deployment in without:
            continue
        group, weight = (deployment, given[deployment]) if deployment in given else ("", None)
        own = sets.get(deployment)
        named = {"ECS_TASK_SET_EXTERNAL_ID": own.external_id} if own is not None and own.external_id else {}
        for service_id, registry in everybody if own is None else _ids(own.service_registries):
            told = {**attributes(member, registry), **named}
            found[service_id, member.task.id] = Registration(told, group, weight)
    return found
