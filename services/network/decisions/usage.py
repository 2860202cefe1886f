"""Who is in a group: what keeps it from being deleted."""

from __future__ import annotations

from collections.abc import Iterable

from contracts.records.agent import TaskStatus
from contracts.records.network import SecurityGroup, interface_groups
from contracts.records.scheduler import Service, Task


def over(task: Task, status: TaskStatus | None) -> bool:
    """Whether a task has let go of its interface: it ended, was lost, or never came to be and is not wanted to."""
    if task.lost_at is not None:
        return True
    if status is None:
        return task.desired_status == "STOPPED"
    return status.last_status == "STOPPED"


def of_task(task: Task) -> list[str]:
    """The groups that a task is in."""
    return interface_groups(task.network_configuration, task.account, task.region, task.cluster)


def of_service(service: Service) -> set[str]:
    """The groups that a service's next task may be in: of its deployments, its task sets, its request."""
    if service.status == "INACTIVE":
        return set()
    parts = [*service.deployments, *service.task_sets]
    configurations = [each.network_configuration for each in parts]
    configurations.append(service.request.get("networkConfiguration") or {})
    where = (service.account, service.region, service.cluster)
    return {group for each in configurations for group in interface_groups(each, *where)}


def referring(group: str, groups: Iterable[SecurityGroup]) -> list[str]:
    """The other groups whose rules name this one."""
    return [each.id for each in groups if each.id != group and any(rule.group == group for rule in each.rules)]
