"""What the scheduler stores: clusters, task definitions, tasks and services.

AWS shapes (a task definition's members, a service's network configuration …) are kept as plain JSON in the wire's
own names, under `definition` and `request`, so that every member is given back.
"""

from typing import Any

import msgspec

from contracts.kinds import Kind


class Cluster(msgspec.Struct, kw_only=True, frozen=True):
    """A cluster. status: ACTIVE | INACTIVE. `request` is CreateCluster as it came (settings, strategy, tags).

    A hidden one holds the workloads of another service: it is described by its name, and not listed.
    """

    account: str
    region: str
    name: str
    status: str
    created_at: float
    request: dict[str, Any] = {}
    tags: dict[str, str] = {}
    hidden: bool = False


class TaskDefinition(msgspec.Struct, kw_only=True, frozen=True):
    """One revision of a family; a number is never used twice.

    It never changes but for its status (ACTIVE | INACTIVE | DELETE_IN_PROGRESS | DELETED) and tags. A DELETED one is
    an empty shell that keeps its number from being used again.

    `definition` is RegisterTaskDefinition as it came, with ECS' defaults filled in. A hidden one is a workload's: it is
    described by its name, and not listed.
    """

    account: str
    region: str
    family: str
    revision: int
    status: str
    definition: dict[str, Any]
    registered_at: float
    registered_by: str = ""
    deregistered_at: float | None = None
    delete_requested_at: float | None = None
    requires_attributes: list[str] = []
    compatibilities: list[str] = []
    tags: dict[str, str] = {}
    hidden: bool = False


class Task(msgspec.Struct, kw_only=True, frozen=True):
    """A task that was placed on a node: what is wanted of it. What is, is the agent's `TaskStatus`.

    `task_definition` is the key's end, "family:revision". `overrides` is the request's TaskOverride as it came.
    desired_status: RUNNING | STOPPED. A task that is to stop has stop_code and stopped_reason; `lost_at` is set when
    its node went away and nobody will report its end. cpu_units and memory_mib are what it reserves. `request_digest`
    tells a RunTask that is tried again with its client token from another one with the same token. Until
    `protected_until` (seconds since the epoch) neither a deployment nor scaling in stops it. What still runs at
    `stop_by` (seconds since the epoch) is killed, whatever its stopTimeout: its capacity is taken back. `gpus` are the
    ids of the node's GPUs that each container has to itself, by its name. With `drain_s` it gets requests through the
    gateway: when it is to stop, its agent first waits so many seconds at most for the gateway's `Target` to say that
    none is left on it.
    """

    account: str
    region: str
    cluster: str
    node: str
    id: str
    task_definition: str
    desired_status: str
    created_at: float
    zone: str = ""
    overrides: dict[str, Any] = {}
    cpu_units: int = 0
    memory_mib: int = 0
    host_ports: list[int] = []
    group: str = ""
    service: str = ""
    deployment: str = ""
    started_by: str = ""
    launch_type: str = "FARGATE"
    capacity_provider: str | None = None
    platform_version: str | None = None
    enable_execute_command: bool = False
    network_configuration: dict[str, Any] = {}
    tags: dict[str, str] = {}
    stop_code: str | None = None
    stopped_reason: str | None = None
    stopping_at: float | None = None
    lost_at: float | None = None
    request_digest: str = ""
    version: int = 1
    protected_until: float | None = None
    stop_by: float | None = None
    gpus: dict[str, list[str]] = {}
    drain_s: float = 0.0


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


class ExpressRevision(msgspec.Struct, kw_only=True, frozen=True):
    """What a deployment (its id) of a service with an address is beside its task definition: where its tasks answer
    requests (behind a gateway, with the port's name), and how they are checked. `check_port` 0: `port`; check_protocol:
    HTTP | HTTPS. The HTTP codes `good_from` to `good_to` are good, and those of `also_good`, each from and to."""

    deployment: str
    port: int
    health_check_path: str
    created_at: float
    check_port: int = 0
    interval_s: float = 5.0
    timeout_s: float = 2.0
    healthy: int = 1
    unhealthy: int = 3
    good_from: int = 200
    good_to: int = 200
    port_name: str = ""
    check_protocol: str = "HTTP"
    also_good: list[list[int]] = []


class ExpressScaling(msgspec.Struct, kw_only=True, frozen=True):
    """How an Express service is to be scaled: the autoscaler's to carry out, once for each `wanted_at`.

    metric: AVERAGE_CPU | AVERAGE_MEMORY (percent) | REQUEST_COUNT_PER_TARGET (in a minute).
    """

    min_tasks: int
    max_tasks: int
    metric: str
    target: float
    wanted_at: float


class Express(msgspec.Struct, kw_only=True, frozen=True):
    """What makes a service an Express service: the gateway leads the requests to `host` to its tasks.

    `revisions` newest first: those of the service's deployments and rollouts. `drain_s` is what its tasks get. `alarm`
    is the name of the alarm on its errors, which the monitor keeps for it; empty: none.
    """

    host: str
    infrastructure_role: str
    scaling: ExpressScaling
    revisions: list[ExpressRevision]
    updated_at: float
    drain_s: float = 30.0
    alarm: str = ""

    @property
    def hosts(self) -> list[str]:
        """All hosts of the service."""
        return [self.host]


class Route(msgspec.Struct, kw_only=True, frozen=True):
    """A route at a gateway (its name, and when that was made): the requests to `host` are led to a service's tasks.

    `route`: the route's id.
    """

    gateway: str
    route: str
    host: str
    gateway_since: float = 0.0


class Connector(msgspec.Struct, kw_only=True, frozen=True):
    """The routes of an ordinary service: the one that is told of here, and `others` at other gateways.

    `revisions` and `drain_s` as an Express service has them, but that deployments without a revision are behind no
    gateway: those of before the service came to one, and those with which it leaves.
    """

    gateway: str
    route: str
    host: str
    revisions: list[ExpressRevision]
    drain_s: float
    gateway_since: float = 0.0
    others: list[Route] = []

    @property
    def routes(self) -> list[Route]:
        """All of them, the oldest first."""
        own = Route(gateway=self.gateway, route=self.route, host=self.host, gateway_since=self.gateway_since)
        return [own, *self.others]

    @property
    def hosts(self) -> list[str]:
        """All hosts of the service."""
        return [route.host for route in self.routes]


class Service(msgspec.Struct, kw_only=True, frozen=True):
    """A service. status: ACTIVE | DRAINING | INACTIVE.

    `request` is CreateService as it came, with what UpdateService changed since. `events` newest first, at most 100.
    `steady` says that the steady-state event was told for what is now wanted. `rollouts` newest first. With the
    deployment controller EXTERNAL it has `task_sets` and no deployments. `express`: None for an ordinary service;
    `connector`: None for one that is behind no gateway.
    """

    account: str
    region: str
    cluster: str
    name: str
    status: str
    created_at: float
    desired_count: int
    deployments: list[Deployment]
    created_by: str = ""
    request: dict[str, Any] = {}
    events: list[ServiceEvent] = []
    steady: bool = False
    tags: dict[str, str] = {}
    rollouts: list[Rollout] = []
    task_sets: list[TaskSet] = []
    express: Express | None = None
    connector: Connector | None = None

    @property
    def front(self) -> Express | Connector | None:
        """What has the service's hosts and checks; None for a service without an address."""
        return self.express or self.connector

    @property
    def fronted(self) -> frozenset[str]:
        """The deployments whose tasks get the requests to its hosts."""
        return frozenset(r.deployment for r in self.front.revisions) if self.front is not None else frozenset()


class Association(msgspec.Struct, kw_only=True, frozen=True):
    """That services of a cluster may be behind a gateway. status: ACTIVE | DISASSOCIATING (no new ones; it is over when
    no service has a route). It is with the cluster that was made at `cluster_since`, and ends with it."""

    status: str
    cluster_since: float


class Gateway(msgspec.Struct, kw_only=True, frozen=True):
    """A way in to services of its clusters; it is deleted for good. `configuration`: hostSharedAlb as it came, with
    what was changed since. status: ACTIVE | UPDATE_COMPLETE. `clusters`: associations by the cluster's name."""

    account: str
    region: str
    name: str
    created_at: float
    updated_at: float
    infrastructure_role: str
    configuration: dict[str, Any] = {}
    deletion_protection: bool = True
    propagate_tags: str = "GATEWAY"
    client_token: str = ""
    status: str = "ACTIVE"
    clusters: dict[str, Association] = {}
    tags: dict[str, str] = {}


class CapacityProvider(msgspec.Struct, kw_only=True, frozen=True):
    """Capacity of a user's own: the nodes that are of a kind of its name.

    status: ACTIVE | INACTIVE. `request` is CreateCapacityProvider as it came, with what was changed since. One of
    managed instances is of one `cluster`.
    """

    account: str
    region: str
    name: str
    status: str
    created_at: float
    request: dict[str, Any] = {}
    tags: dict[str, str] = {}
    update_status: str | None = None
    cluster: str = ""


class ContainerInstance(msgspec.Struct, kw_only=True, frozen=True):
    """What a cluster's owner made of a node: attributes added to those the agent has, and whether it is to be emptied.

    status: ACTIVE | DRAINING | INACTIVE (deregistered). A node nobody said anything of has none. An INACTIVE one is in
    again when its agent registers anew, in another `session`; an external node is not.
    """

    account: str
    region: str
    cluster: str
    node: str
    status: str = "ACTIVE"
    attributes: dict[str, str] = {}
    version: int = 1
    session: str = ""


class SpotReclaim(msgspec.Struct, kw_only=True, frozen=True):
    """A node whose spot capacity is taken back: it gets no FARGATE_SPOT tasks as long as this stands, and those it has
    are gone by `until`. Times in seconds since the epoch."""

    node: str
    since: float
    until: float


class AccountSetting(msgspec.Struct, kw_only=True, frozen=True):
    """An account setting. `principal` is the ARN of who it is for, empty for the account's default."""

    account: str
    region: str
    principal: str
    name: str
    value: str


CLUSTER = Kind("scheduler", "cluster", Cluster, ("account", "region", "name"))
TASK_DEFINITION = Kind("scheduler", "task_definition", TaskDefinition, ("account", "region", "family", "revision"))
TASK = Kind("scheduler", "task", Task, ("account", "region", "cluster", "node", "id"))
SERVICE = Kind("scheduler", "service", Service, ("account", "region", "cluster", "name"))
CAPACITY_PROVIDER = Kind("scheduler", "capacity_provider", CapacityProvider, ("account", "region", "name"))
GATEWAY = Kind("scheduler", "gateway", Gateway, ("account", "region", "name"))
CONTAINER_INSTANCE = Kind(
    "scheduler", "container_instance", ContainerInstance, ("account", "region", "cluster", "node")
)
SPOT_RECLAIM = Kind("scheduler", "spot_reclaim", SpotReclaim, ("node",))
ACCOUNT_SETTING = Kind("scheduler", "account_setting", AccountSetting, ("account", "region", "principal", "name"))

KINDS = (
    CLUSTER, TASK_DEFINITION, TASK, SERVICE, CAPACITY_PROVIDER, CONTAINER_INSTANCE, SPOT_RECLAIM, ACCOUNT_SETTING,
    GATEWAY,
)  # fmt: skip
