"""A service's deployments, where one is on its way, and its story; task sets."""

from typing import Any

import msgspec


class HookRun(msgspec.Struct, kw_only=True, frozen=True):
    """A lifecycle hook at work in a stage of a deployment.

    target_type: AWS_LAMBDA (a target is asked) | PAUSE; status: AWAITING_ACTION | IN_PROGRESS | SUCCEEDED | FAILED |
    TIMED_OUT, all as ECS names them. A target is asked at `next_at` with `details`; `tries` counts the times in a row
    that it could not be reached. Undecided at `expires_at`, `timeout_action` is taken (CONTINUE | ROLLBACK).
    """

    id: str
    target_type: str
    status: str
    expires_at: float
    timeout_action: str = "ROLLBACK"
    target: str = ""
    details: Any = None
    next_at: float = 0.0
    tries: int = 0
    reason: str = ""


class DeploymentStage(msgspec.Struct, kw_only=True, frozen=True):
    """Where a deployment is that goes by lifecycle stages: `name` as ECS names them, entered at `since`.

    `strategy` is what it goes by; `step` counts the shifts of production traffic that were begun; one that `rolls_back`
    brings the traffic home to its deployment.
    """

    name: str
    since: float
    strategy: str
    step: int = 0
    hooks: list[HookRun] = []
    rolls_back: bool = False


class Deployment(msgspec.Struct, kw_only=True, frozen=True):
    """One deployment of a service.

    status: PRIMARY | ACTIVE; rollout_state: IN_PROGRESS | COMPLETED | FAILED. How many of its tasks failed is told by
    the tasks, not stored.

    `weight` is the percent of production traffic that its tasks are to get, `test_weight` that of test traffic; None:
    nobody directs the traffic, whoever runs gets it. `stage` is there until it is complete, if it goes by stages.
    `alarms` are those that failed it; none is watched (`unwatched`) when one was on as it began.
    `daemon` is what a daemon's revision has besides (propagateTags, enableECSManagedTags, enableExecuteCommand), empty
    for a service's.
    """

    id: str
    status: str
    task_definition: str
    desired_count: int
    created_at: float
    updated_at: float
    rollout_state: str = "IN_PROGRESS"
    rollout_state_reason: str = ""
    launch_type: str = "FARGATE"
    capacity_provider_strategy: list[dict[str, Any]] = []
    platform_version: str | None = None
    network_configuration: dict[str, Any] = {}
    weight: float | None = None
    test_weight: float | None = None
    stage: DeploymentStage | None = None
    alarms: list[str] = []
    unwatched: bool = False
    daemon: dict[str, Any] = {}


class TaskSet(msgspec.Struct, kw_only=True, frozen=True):
    """A version of a service whose deployments somebody else controls. status: PRIMARY | ACTIVE | DRAINING.

    `id` is `ecs-svc/<digits>`, and what its tasks have as deployment; `scale` the percent of the desired count that it
    is to have.
    """

    id: str
    status: str
    task_definition: str
    scale: float
    created_at: float
    updated_at: float
    external_id: str = ""
    launch_type: str = ""
    capacity_provider_strategy: list[dict[str, Any]] = []
    platform_version: str | None = None
    network_configuration: dict[str, Any] = {}
    service_registries: list[dict[str, Any]] = []
    tags: dict[str, str] = {}
    client_token: str = ""


class Rollout(msgspec.Struct, kw_only=True, frozen=True):
    """The story of one deployment, kept when it is over (ECS: a service deployment with its target revision).

    `id` is the deployment's. status: IN_PROGRESS | SUCCESSFUL | STOPPED | ROLLBACK_IN_PROGRESS | ROLLBACK_SUCCESSFUL |
    ROLLBACK_FAILED. `sources` are the deployments that it took over from; `rolled_back_to` the one that came back.
    `stage` is the last lifecycle stage that was seen of it, `alarms` are those that failed it.
    """

    id: str
    status: str
    deployment: Deployment
    created_at: float
    updated_at: float
    status_reason: str = ""
    finished_at: float | None = None
    stopped_at: float | None = None
    sources: list[str] = []
    failures: int = 0
    rolled_back_to: str = ""
    rollback_reason: str = ""
    rollback_at: float | None = None
    stage: str = ""
    alarms: list[str] = []


class ServiceEvent(msgspec.Struct, kw_only=True, frozen=True):
    """A line of a service's story, as DescribeServices shows it. `action` is what EventBridge calls it
    (SERVICE_STEADY_STATE …), empty for what only the story has; `detail` what its event says besides."""

    id: str
    created_at: float
    message: str
    action: str = ""
    detail: dict[str, Any] = {}
