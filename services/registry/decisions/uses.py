"""Which images tasks need: those their containers run, and those that tasks which are yet to start will pull."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from contracts.records.agent import TaskStatus
from contracts.records.scheduler import Task, TaskDefinition


class Use(msgspec.Struct, frozen=True):
    """An image that a task needs: its reference as the task definition has it, and its digest if it was pulled."""

    image: str
    digest: str = ""


def uses(
    tasks: Iterable[Task],
    definitions: Mapping[tuple[str, str, str], TaskDefinition],
    statuses: Iterable[TaskStatus],
) -> set[Use]:
    """What all tasks that are not over need. `definitions` by account, region and `family:revision`."""
    found: set[Use] = set()
    over: set[tuple[str, ...]] = set()
    for status in statuses:
        if status.last_status == "STOPPED":
            over.add((status.account, status.region, status.cluster, status.node, status.task))
        else:
            found.update(Use(each.image, each.image_digest) for each in status.containers if each.image)
    for task in tasks:
        key = (task.account, task.region, task.cluster, task.node, task.id)
        definition = definitions.get((task.account, task.region, task.task_definition))
        if key in over or task.lost_at is not None or definition is None:
            continue
        containers = definition.definition.get("containerDefinitions") or []
        found.update(Use(str(each["image"])) for each in containers if each.get("image"))
    return found
