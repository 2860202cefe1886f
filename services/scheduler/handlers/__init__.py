"""What the API, the controllers and other services' commands do alike."""

from services.scheduler.handlers.tasks import (
    CLUSTER_NOT_FOUND,
    TaskPlan,
    active_cluster,
    fresh_ids,
    next_revision,
    node_attributes,
    place_tasks,
    start_on,
    start_tasks,
    stop_task,
    write_tasks,
)

__all__ = [
    "CLUSTER_NOT_FOUND",
    "TaskPlan",
    "active_cluster",
    "fresh_ids",
    "next_revision",
    "node_attributes",
    "place_tasks",
    "start_on",
    "start_tasks",
    "stop_task",
    "write_tasks",
]
