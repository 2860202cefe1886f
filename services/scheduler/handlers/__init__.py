"""What the API, the controllers and other services' commands do alike."""

from services.scheduler.handlers.tasks import (
    CLUSTER_NOT_FOUND,
    TaskPlan,
    active_cluster,
    fresh_ids,
    next_revision,
    node_attributes,
    start_on,
    start_tasks,
    stop_task,
)

__all__ = [
    "CLUSTER_NOT_FOUND",
    "TaskPlan",
    "active_cluster",
    "fresh_ids",
    "next_revision",
    "node_attributes",
    "start_on",
    "start_tasks",
    "stop_task",
]
