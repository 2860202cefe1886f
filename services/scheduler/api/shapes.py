"""Records as the API shows them: tasks, joined from what is wanted and what is."""

from __future__ import annotations

from typing import Any

import msgspec

from contracts.aws import ecs
from contracts.records.agent import ContainerStatus, NetworkInterface, TaskStatus
from contracts.records.network import interface_subnet
from contracts.records.scheduler import Task
from services.scheduler.adapters import World
from services.scheduler.decisions import life, names, tags


def task_shape(world: World, task: Task, status: TaskStatus | None, *, with_tags: bool = False) -> ecs.Task:
    """A task as DescribeTasks shows it."""
    where = (task.account, task.region)
    family, _, revision = task.task_definition.rpartition(":")
    shape = ecs.Task(
        task_arn=task_arn(task),
        cluster_arn=names.arn(*where, "cluster", task.cluster),
        task_definition_arn=names.task_definition_arn(*where, family, int(revision)),
        availability_zone=task.zone,
        cpu=str(task.cpu_units),
        memory=str(task.memory_mib),
        created_at=task.created_at,
        desired_status=life.desired_status(task, status),
        last_status=life.last_status(task, status),
        launch_type=task.launch_type,  # type: ignore[arg-type]
        capacity_provider_name=task.capacity_provider,
        platform_version=task.platform_version,
        platform_family="Linux" if task.launch_type == "FARGATE" else None,
        group=task.group,
        started_by=task.started_by or None,
        enable_execute_command=task.enable_execute_command,
        overrides=_overrides(world, task),
        tags=tags.write(task.tags) if with_tags else [],
        stop_code=life.stop_code(task, status),  # type: ignore[arg-type]
        stopped_reason=life.stopped_reason(task, status),
        stopped_at=life.stopped_at(task, status),
        stopping_at=task.stopping_at or (status.stopping_at if status else None),
        health_status=status.health_status if status else "UNKNOWN",  # type: ignore[arg-type]
        version=task.version + (status.version if status is not None else 0),
        attributes=[],
        attachments=_attachments(world, task, status),
        containers=_containers(world, task, status),
    )
    if task.launch_type != "FARGATE":
        shape.container_instance_arn = instance_arn(task.account, task.region, task.cluster, task.node)
    if status is not None:
        _add_times(shape, status, task)
    return shape


def task_arn(task: Task) -> str:
    """The task's ARN."""
    return names.arn(task.account, task.region, "task", task.cluster, task.id)


def instance_arn(account: str, region: str, cluster: str, node: str) -> str:
    """The ARN of the container instance that a node is shown as in a cluster."""
    return names.arn(account, region, "container-instance", cluster, names.container_instance_id(node))


def _add_times(shape: ecs.Task, status: TaskStatus, task: Task) -> None:
    lost = task.lost_at is not None
    shape.connectivity = "DISCONNECTED" if lost else status.connectivity  # type: ignore[assignment]
    shape.connectivity_at = task.lost_at if lost else (status.pull_started_at or status.started_at)
    shape.pull_started_at = status.pull_started_at
    shape.pull_stopped_at = status.pull_stopped_at
    shape.started_at = status.started_at
    shape.execution_stopped_at = status.execution_stopped_at


def _overrides(world: World, task: Task) -> ecs.TaskOverride:
    """The request's overrides, with an entry for each container, as ECS gives them back."""
    given = msgspec.convert(task.overrides, ecs.TaskOverride)
    named = {override.name for override in given.container_overrides or ()}
    others = [ecs.ContainerOverride(name=c["name"]) for c in _definitions(world, task) if c["name"] not in named]
    given.container_overrides = [*(given.container_overrides or ()), *others]
    given.inference_accelerator_overrides = given.inference_accelerator_overrides or []
    return given


def _definitions(world: World, task: Task) -> list[dict[str, Any]]:
    definition = world.definition_of(task)
    return definition.definition.get("containerDefinitions", []) if definition is not None else []


def _network_mode(world: World, task: Task) -> str:
    definition = world.definition_of(task)
    return definition.definition.get("networkMode", "bridge") if definition is not None else "bridge"


def _attachments(world: World, task: Task, status: TaskStatus | None) -> list[ecs.Attachment]:
    if _network_mode(world, task) != "awsvpc":
        return []
    interface = status.network if status is not None else None
    attachment = ecs.Attachment(
        id=_attachment_id(task, interface),
        type="ElasticNetworkInterface",
        status="PRECREATED" if interface is None else "ATTACHED",
        details=[],
    )
    if life.over(task, status):
        attachment.status = "DELETED"
    subnet = interface_subnet(task.network_configuration, task.account, task.region, task.zone)
    details = {"subnetId": subnet}
    if interface is not None:
        details["networkInterfaceId"] = interface.eni_id or f"eni-{names.derived_id('eni', task.id)[:17]}"
        details["macAddress"] = interface.mac_address
        details["privateDnsName"] = f"ip-{interface.private_ipv4.replace('.', '-')}.ec2.internal"
        details["privateIPv4Address"] = interface.private_ipv4
    attachment.details = [ecs.KeyValuePair(name=k, value=v) for k, v in details.items() if v]
    return [attachment]


def _attachment_id(task: Task, interface: NetworkInterface | None) -> str:
    if interface is not None and interface.attachment_id:
        return interface.attachment_id
    text = names.derived_id("attachment", task.id)
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _containers(world: World, task: Task, status: TaskStatus | None) -> list[ecs.Container]:
    known = {c.name: c for c in status.containers} if status is not None else {}
    lost, mode = task.lost_at is not None, _network_mode(world, task)
    return [
        _container(task, definition, known.get(definition["name"]), status, lost, mode)
        for definition in _definitions(world, task)
    ]


def _container(
    task: Task,
    definition: dict[str, Any],
    known: ContainerStatus | None,
    status: TaskStatus | None,
    lost: bool,
    mode: str,
) -> ecs.Container:
    changed = next(
        (c for c in task.overrides.get("containerOverrides") or () if c.get("name") == definition["name"]), {}
    )
    now = {**definition, **changed}
    memory, reservation = now.get("memory"), now.get("memoryReservation")
    container_id = names.derived_id("container", task.id, definition["name"])
    uuid = f"{container_id[:8]}-{container_id[8:12]}-{container_id[12:16]}-{container_id[16:20]}-{container_id[20:]}"
    shape = ecs.Container(
        container_arn=names.arn(task.account, task.region, "container", task.cluster, task.id, uuid),
        task_arn=task_arn(task),
        name=definition["name"],
        image=definition["image"],
        last_status="STOPPED" if lost else "PENDING",
        network_interfaces=[],
        health_status="UNKNOWN",
        cpu=str(now.get("cpu") or 0),
        memory=str(memory) if memory is not None else None,
        memory_reservation=str(reservation) if reservation is not None else None,
    )
    if definition["name"] in task.gpus:
        shape.gpu_ids = task.gpus[definition["name"]]
    if task.enable_execute_command:
        shape.managed_agents = [_exec_agent(known, lost, task.launch_type)]
    if known is None:
        return shape
    shape.last_status = "STOPPED" if lost else known.last_status
    shape.runtime_id = known.runtime_id or None
    shape.image = known.image or definition["image"]
    shape.image_digest = known.image_digest or None
    shape.exit_code = known.exit_code
    shape.reason = known.reason
    shape.health_status = known.health_status  # type: ignore[assignment]
    # A port of the node's is bound in bridge and host mode; in awsvpc the task has an interface; with `none`, neither.
    bound = known.network_bindings if mode in ("bridge", "host") else []
    shape.network_bindings = [
        ecs.NetworkBinding(
            bind_ip=b.bind_ip,
            container_port=b.container_port,
            host_port=b.host_port,
            protocol=b.protocol,  # type: ignore[arg-type]
        )
        for b in bound
    ]
    if status is not None and status.network is not None and mode == "awsvpc":
        shape.network_interfaces = [
            ecs.NetworkInterface(
                attachment_id=_attachment_id(task, status.network), private_ipv4_address=status.network.private_ipv4
            )
        ]
    return shape


def _exec_agent(known: ContainerStatus | None, lost: bool, launch_type: str) -> ecs.ManagedAgent:
    """What lets ExecuteCommand in: the node's agent, so it runs when the container does. Not on an external node."""
    if launch_type == "EXTERNAL":
        why = "ExecuteCommand does not reach external nodes"
        return ecs.ManagedAgent(name="ExecuteCommandAgent", last_status="STOPPED", reason=why)
    if known is None:
        return ecs.ManagedAgent(name="ExecuteCommandAgent", last_status="PENDING")
    status = "STOPPED" if lost else known.last_status
    started = known.started_at if status == "RUNNING" else None
    return ecs.ManagedAgent(name="ExecuteCommandAgent", last_status=status, last_started_at=started)
