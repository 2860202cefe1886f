"""Starting and stopping tasks: what the API and the controllers do alike. One write a task."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import islice
from typing import Any

import msgspec
from msgspec.structs import replace

from contracts.kinds import Key
from contracts.records.scheduler import CLUSTER, TASK, TASK_DEFINITION, Cluster, Task, TaskDefinition
from services.scheduler.adapters import World
from services.scheduler.decisions.capacity import Capacity
from services.scheduler.decisions.expressions import Placing, read
from services.scheduler.decisions.names import DEFAULT_CLUSTER, daemon_name, new_id
from services.scheduler.decisions.placement import Demand, Refusal, attributes_of, free_gpus, refuses
from services.scheduler.decisions.query import parse
from services.scheduler.decisions.ranking import Batch
from services.scheduler.decisions.task_definitions import needs, platform
from services.shared.bus import Fence
from services.shared.errors import AwsError
from services.shared.state import Conflict

_ATTEMPTS = 64
_AT_ONCE = 64
"""How many writes are under way at a time."""
CLUSTER_NOT_FOUND = ("ClusterNotFoundException", "Cluster not found.")


class TaskPlan(msgspec.Struct, frozen=True):
    """What is alike in all tasks that are started together."""

    cluster: Cluster
    definition: TaskDefinition
    group: str
    capacity: Capacity
    overrides: dict[str, Any] = {}
    placing: Placing = Placing()
    service: str = ""
    deployment: str = ""
    started_by: str = ""
    network_configuration: dict[str, Any] = {}
    enable_execute_command: bool = False
    request_digest: str = ""
    tags: dict[str, str] = {}
    drain_s: float = 0.0

    def demand(self) -> Demand:
        """What one of them needs of a node."""
        need = needs(self.definition.definition, self.overrides)
        scope = f"{self.cluster.account}/{self.cluster.region}/{self.cluster.name}/"
        own = read(self.definition.definition.get("placementConstraints", ()), ())
        asked = platform(self.definition.definition)
        return Demand(
            cpu=need.cpu,
            memory=need.memory,
            ports=need.ports,
            gpus=sum(number for _, number in need.gpus),
            network_mode=self.definition.definition.get("networkMode", "bridge"),
            kind=self.capacity.kind,
            group=f"{scope}{self.group}",
            scope=scope,
            distinct=self.placing.distinct,
            expressions=(*own.expressions, *self.placing.expressions, *([parse(asked)] if asked else [])),
            strategy=self.placing.strategy,
        )


async def start_tasks(world: World, plan: TaskPlan, ids: Sequence[str]) -> tuple[list[Task], Refusal | None]:
    """Place and write as many of these tasks as fit; why the first that did not fit was refused.

    Raises StateUnavailable; what was reserved for a task that was not written is let go.
    """
    placed, refusal = place_tasks(world, plan, ids)
    return await write_tasks(world, placed), refusal


def place_tasks(world: World, plan: TaskPlan, ids: Sequence[str]) -> tuple[list[Task], Refusal | None]:
    """Choose nodes for as many of these tasks as fit, and hold there what they need (`write_tasks` is to follow); why
    the first that did not fit was refused."""
    demand = plan.demand()
    batch = Batch(demand, world.candidates(*CLUSTER.key_of(plan.cluster)), world.ledger, seed=ids[0] if ids else "")
    placed: list[Task] = []
    for task_id in ids:
        chosen = batch.next()
        if chosen is None:
            return placed, batch.refusal()
        placed.append(_claim(world, plan, demand, task_id, chosen))
    return placed, None


async def start_on(world: World, plan: TaskPlan, node: str, task_id: str, fence: Fence | None = None) -> Task | str:
    """Start one task on this very node (StartTask), or the reason why it can't be there. `fence`: as in start_tasks."""
    # What makes a node well again is not kept from it because it is not.
    found = world.candidate(*CLUSTER.key_of(plan.cluster), node, impaired=daemon_name(plan.service) is not None)
    if found is None:
        return "MISSING"
    demand = plan.demand()
    candidate = replace(found, kind=demand.kind)
    reason = refuses(candidate, demand, world.ledger.usage(node))
    if reason is not None:
        return reason
    return (await write_tasks(world, [_claim(world, plan, demand, task_id, node)], fence))[0]


def _claim(world: World, plan: TaskPlan, demand: Demand, task_id: str, node: str) -> Task:
    """The task on this node, reserved for before it is written: others are placed meanwhile."""
    cluster, definition = plan.cluster, plan.definition
    placed = world.nodes.record(node)
    task = Task(
        account=cluster.account,
        region=cluster.region,
        cluster=cluster.name,
        node=node,
        id=task_id,
        task_definition=f"{definition.family}:{definition.revision}",
        desired_status="RUNNING",
        created_at=world.clock(),
        zone=placed.zone if placed is not None else "",
        overrides=plan.overrides,
        cpu_units=demand.cpu,
        memory_mib=demand.memory,
        host_ports=list(demand.ports),
        group=plan.group,
        service=plan.service,
        deployment=plan.deployment,
        started_by=plan.started_by,
        launch_type=plan.capacity.launch_type,
        capacity_provider=plan.capacity.provider,
        platform_version=plan.capacity.platform_version,
        enable_execute_command=plan.enable_execute_command,
        network_configuration=plan.network_configuration,
        request_digest=plan.request_digest,
        tags=plan.tags,
        gpus=_assigned(world, plan, demand, node),
        drain_s=plan.drain_s,
    )
    world.ledger.hold(TASK.key_of(task), world.holding(task))
    return task


def _assigned(world: World, plan: TaskPlan, demand: Demand, node: str) -> dict[str, list[str]]:
    """Free GPUs of the node for each container that asks for some."""
    candidate = world.candidate(*CLUSTER.key_of(plan.cluster), node) if demand.gpus else None
    if candidate is None:
        return {}
    free = iter(free_gpus(candidate, world.ledger.usage(node)))
    wanted = needs(plan.definition.definition, plan.overrides).gpus
    return {container: list(islice(free, number)) for container, number in wanted}


async def write_tasks(world: World, tasks: list[Task], fence: Fence | None = None) -> list[Task]:
    """Write tasks that were placed. `fence`: the term of the controller that wants them. Raises StateUnavailable, and
    Conflict when the term is over; what was reserved for a task that was not written is let go."""

    async def write(task: Task) -> Task:
        try:
            return (await world.store.put(TASK, task, "task.placed.v1", expect=0, fence=fence)).record
        except BaseException:
            world.ledger.release(TASK.key_of(task))
            raise

    if len(tasks) == 1:
        return [await write(tasks[0])]
    written: list[Task | BaseException] = []
    try:
        for begin in range(0, len(tasks), _AT_ONCE):
            chunk = tasks[begin : begin + _AT_ONCE]
            written += await asyncio.gather(*(write(task) for task in chunk), return_exceptions=True)
            for result in written[begin:]:
                if isinstance(result, BaseException):
                    raise result
    finally:
        for task in tasks[len(written) :]:
            world.ledger.release(TASK.key_of(task))
    return [task for task in written if isinstance(task, Task)]


async def stop_task(
    world: World,
    key: Key,
    *,
    code: str,
    reason: str,
    lost: bool = False,
    stop_by: float | None = None,
    trace: str | None = None,
) -> Task | None:
    """Want a task stopped: one write, none if it was wanted before. `lost`: its node will not report its end.
    `stop_by`: its capacity is taken back then, in seconds since the epoch."""
    now = world.clock()
    event = "task.stopping.v1" if stop_by is None else "task.interrupted.v1"

    def change(old: Task | None) -> Task | None:
        if old is None or (old.desired_status == "STOPPED" and not (lost and old.lost_at is None)):
            return old
        return replace(
            old,
            desired_status="STOPPED",
            stop_code=old.stop_code or code,
            stopped_reason=old.stopped_reason or reason,
            stopping_at=old.stopping_at or now,
            lost_at=now if lost else old.lost_at,
            stop_by=stop_by if old.desired_status == "RUNNING" else old.stop_by,
            version=old.version + 1,
        )

    return await world.store.update(TASK, key, change, "task.lost.v1" if lost else event, trace=trace)


async def active_cluster(world: World, account: str, region: str, name: str) -> Cluster:
    """The cluster, if it is ACTIVE. Raises ClusterNotFoundException.

    The cluster `default` comes into being with its first use once a node has registered, as it does in an AWS account
    with its first container instance.
    """
    cluster = world.clusters.record(account, region, name)
    if cluster is None and name == DEFAULT_CLUSTER and len(world.nodes):
        fresh = Cluster(account=account, region=region, name=name, status="ACTIVE", created_at=world.clock())
        try:
            await world.store.put(CLUSTER, fresh, "cluster.created.v1", expect=0)
        except Conflict:
            await world.store.refresh(CLUSTER, (account, region, name))
        cluster = world.clusters.record(account, region, name)
    if cluster is None or cluster.status != "ACTIVE":
        raise AwsError(*CLUSTER_NOT_FOUND)
    return cluster


async def next_revision(world: World, record: TaskDefinition) -> TaskDefinition:
    """Store it as the next revision of its family: one write, which fails when another took the number."""
    for _ in range(_ATTEMPTS):
        revision = world.claim_revision(record.account, record.region, record.family)
        numbered = replace(record, revision=revision)
        try:
            return (await world.store.put(TASK_DEFINITION, numbered, "task_definition.registered.v1", expect=0)).record
        except Conflict:
            await world.store.refresh(TASK_DEFINITION, TASK_DEFINITION.key_of(numbered))
    raise AwsError("ClientException", "Too many concurrent attempts to create a new revision of the specified family.")


def node_attributes(world: World, cluster: Cluster, node: str) -> dict[str, str]:
    """The attributes that a node has as a container instance of a cluster."""
    candidate = world.candidate(*CLUSTER.key_of(cluster), node)
    return dict(attributes_of(candidate)) if candidate is not None else {}


def fresh_ids(count: int) -> list[str]:
    """Ids of tasks that are not there yet."""
    return [new_id() for _ in range(count)]
