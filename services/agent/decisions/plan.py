"""What a task definition, with the task's overrides, means on this node. Members are as in the ECS API, wire names."""

from __future__ import annotations

from typing import Any

import msgspec

from contracts.records.scheduler import Task
from contracts.task_definitions import environment_files, registry_secret
from services.agent.decisions.health import HealthCheck
from services.agent.decisions.members import (
    LinuxParameters,
    Logging,
    PlanError,
    cpu_units,
    health_check,
    linux_parameters,
    logging,
    memory_mib,
    mounts,
    namespace_modes,
    pairs,
    ports,
    refuse_unsupported,
    secrets,
    shared_hosts,
    volume_sources,
)
from services.agent.decisions.order import DependencyCycle, in_dependency_order
from services.agent.decisions.restarts import RestartPolicy, restart_policy
from services.agent.values import ContainerSpec, HostPort, Image, Mount, Sandbox, SandboxSpec, Ulimit

START, COMPLETE, SUCCESS, HEALTHY = "START", "COMPLETE", "SUCCESS", "HEALTHY"
STOP_TIMEOUT_S = 30.0
METADATA_ADDRESS = "169.254.170.2"


class Dependency(msgspec.Struct, frozen=True):
    """A container that must be started, over, over with 0, or healthy before another starts."""

    container: str
    condition: str


class ContainerPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One container of a task. `definition` is its ContainerDefinition with the overrides merged in."""

    id: str
    name: str
    image: str
    definition: dict[str, Any]
    essential: bool = True
    depends_on: list[Dependency] = []
    start_timeout_s: float | None = None
    stop_timeout_s: float = STOP_TIMEOUT_S
    health_check: HealthCheck | None = None
    restart: RestartPolicy | None = None
    logging: Logging = Logging()
    ports: list[HostPort] = []
    mounts: list[Mount] = []
    environment: dict[str, str] = {}
    secrets: dict[str, str] = {}
    registry_secret: str = ""
    environment_files: list[str] = []
    cpu_units: int = 0
    memory_mib: int = 0
    memory_reservation_mib: int = 0
    gpus: list[str] = []


class TaskPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A task: its sandbox, and its containers in dependency order. `directories` are to be made for its volumes;
    `storage_gib` (GiB) is what must be free on the node for it to start."""

    task: Task
    family: str
    revision: str
    network_mode: str
    containers: list[ContainerPlan]
    sandbox: SandboxSpec
    task_role_arn: str = ""
    execution_role_arn: str = ""
    cpu_units: int = 0
    memory_mib: int = 0
    directories: list[str] = []
    storage_gib: int = 0

    def dependencies(self) -> dict[str, list[str]]:
        """Whom each container depends on."""
        return {c.name: [d.container for d in c.depends_on] for c in self.containers}


def task_arn(task: Task) -> str:
    """The ARN of a task."""
    return f"arn:aws:ecs:{task.region}:{task.account}:task/{task.cluster}/{task.id}"


def cluster_arn(task: Task) -> str:
    """The ARN of a task's cluster."""
    return f"arn:aws:ecs:{task.region}:{task.account}:cluster/{task.cluster}"


def plan_task(
    task: Task, definition: dict[str, Any], labels: dict[str, str], volumes_root: str, file_systems: str = ""
) -> TaskPlan:
    """The plan. `labels` go on the sandbox; volumes of the task alone lie under `volumes_root` (empty: they are
    named volumes of the runtime), EFS file systems under `file_systems`. Raises PlanError for what can't be done."""
    refuse_unsupported(definition)
    family, _, revision = task.task_definition.partition(":")
    overrides = task.overrides
    mode = definition.get("networkMode") or ("awsvpc" if task.launch_type == "FARGATE" else "bridge")
    mode = mode if mode in ("awsvpc", "host", "none") else "bridge"
    sources, directories = volume_sources(definition, task.id, volumes_root, file_systems)
    merged = _merge(definition["containerDefinitions"], overrides.get("containerOverrides") or [])
    containers = [_container(task, index, d, mode, merged, sources) for index, d in enumerate(merged)]
    cpu = cpu_units(overrides.get("cpu") or definition.get("cpu"))
    memory = memory_mib(overrides.get("memory") or definition.get("memory"))
    return TaskPlan(
        task=task,
        family=family,
        revision=revision,
        network_mode=mode,
        containers=_ordered(containers, merged),
        sandbox=_sandbox(task, definition, merged, containers, mode, cpu, memory, labels),
        task_role_arn=overrides.get("taskRoleArn") or definition.get("taskRoleArn") or "",
        execution_role_arn=overrides.get("executionRoleArn") or definition.get("executionRoleArn") or "",
        cpu_units=cpu,
        memory_mib=memory,
        directories=directories,
        storage_gib=(definition.get("ephemeralStorage") or {}).get("sizeInGiB") or 0,
    )


def _merge(definitions: list[dict[str, Any]], overrides: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each container definition with its override: command and sizes replaced, environment added to."""
    by_name = {o.get("name"): o for o in overrides}
    merged = []
    for definition in definitions:
        override = by_name.get(definition.get("name"), {})
        new = {k: v for k, v in override.items() if k not in ("name", "environment") and v is not None}
        environment = {**pairs(definition.get("environment")), **pairs(override.get("environment"))}
        named = [{"name": k, "value": v} for k, v in environment.items()]
        merged.append({**definition, **new, "environment": named})
    return merged


def _container(
    task: Task,
    index: int,
    d: dict[str, Any],
    mode: str,
    siblings: list[dict[str, Any]],
    sources: dict[str, tuple[str, str]],
) -> ContainerPlan:
    memory, soft = d.get("memory") or 0, d.get("memoryReservation") or 0
    return ContainerPlan(
        id=f"{task.id}-{index}",
        name=d["name"],
        image=d["image"],
        definition=d,
        essential=d.get("essential") is not False,
        depends_on=[Dependency(x["containerName"], x["condition"]) for x in d.get("dependsOn") or []],
        start_timeout_s=d.get("startTimeout"),
        stop_timeout_s=float(d["stopTimeout"]) if d.get("stopTimeout") is not None else STOP_TIMEOUT_S,
        health_check=health_check(d),
        restart=restart_policy(d),
        logging=logging(d, task),
        ports=ports(d, mode),
        mounts=mounts(d, siblings, sources),
        environment=pairs(d.get("environment")),
        secrets=secrets(d),
        environment_files=environment_files(d),
        registry_secret=registry_secret(d, task.account, task.region),
        cpu_units=d.get("cpu") or 0,
        memory_mib=memory,
        memory_reservation_mib=soft,
        gpus=_gpus(task, d),
    )


def _gpus(task: Task, definition: dict[str, Any]) -> list[str]:
    """The GPUs that the scheduler gave the container. Raises PlanError when it asks for some and has none."""
    given = task.gpus.get(definition["name"], [])
    if definition.get("resourceRequirements") and not given:
        raise PlanError(f"container {definition['name']}: no GPU was reserved for it")
    return given


def _ordered(containers: list[ContainerPlan], merged: list[dict[str, Any]]) -> list[ContainerPlan]:
    by_name = {c.name: c for c in containers}
    implied = {d["name"]: [v["sourceContainer"] for v in d.get("volumesFrom") or []] for d in merged}
    needs = {c.name: [d.container for d in c.depends_on] + implied[c.name] for c in containers}
    try:
        return [by_name[name] for name in in_dependency_order(needs)]
    except DependencyCycle as cycle:
        raise PlanError(f"containers depend on each other in a circle, through {cycle}") from None
    except KeyError as missing:
        raise PlanError(f"a container depends on {missing}, which the task definition does not have") from None


def _sandbox(
    task: Task,
    definition: dict[str, Any],
    merged: list[dict[str, Any]],
    containers: list[ContainerPlan],
    mode: str,
    cpu: int,
    memory: int,
    labels: dict[str, str],
) -> SandboxSpec:
    hostname = next((d["hostname"] for d in merged if d.get("hostname")), "")
    hosts = {h["hostname"]: h["ipAddress"] for d in merged for h in d.get("extraHosts") or []}
    pid_mode, ipc_mode = namespace_modes(definition)
    linux = [linux_parameters(d) for d in merged]
    return SandboxSpec(
        id=task.id,
        hostname=hostname,
        network_mode=mode,
        ports=[p for c in containers for p in c.ports] if mode == "bridge" else [],
        cpu_units=cpu,
        memory_mib=memory,
        dns_servers=_distinct(merged, "dnsServers"),
        dns_search=_distinct(merged, "dnsSearchDomains"),
        extra_hosts={**hosts, **shared_hosts(merged)},
        labels=labels,
        pid_mode=pid_mode,
        ipc_mode=ipc_mode,
        shared_memory_mib=max(each.shared_memory_mib for each in linux) if ipc_mode == "task" else 0,
        swap_mib=sum(each.max_swap_mib or 0 for each in linux),
    )


def _distinct(merged: list[dict[str, Any]], member: str) -> list[str]:
    return list(dict.fromkeys(value for d in merged for value in d.get(member) or []))


def given_environment(
    plan: TaskPlan, container: ContainerPlan, credentials_id: str, *, metadata: bool
) -> dict[str, str]:
    """What ECS puts into each container's environment. Without `metadata` nothing answers at 169.254.170.2 here."""
    region = plan.task.region
    given = {
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_EXECUTION_ENV": "AWS_ECS_EC2" if plan.task.launch_type == "EC2" else f"AWS_ECS_{plan.task.launch_type}",
        **({"NVIDIA_VISIBLE_DEVICES": ",".join(container.gpus)} if container.gpus else {}),
        **container.environment,
    }
    if metadata:
        given["ECS_CONTAINER_METADATA_URI_V4"] = f"http://{METADATA_ADDRESS}/v4/{container.id}"
        if plan.task_role_arn:
            given["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] = f"/v2/credentials/{credentials_id}"
    return given


def container_labels(plan: TaskPlan, container: ContainerPlan) -> dict[str, str]:
    """A container's labels: ECS' own, the definition's, and where its output goes (for an agent that finds it)."""
    labels = {
        **(container.definition.get("dockerLabels") or {}),
        "com.amazonaws.ecs.cluster": cluster_arn(plan.task),
        "com.amazonaws.ecs.container-name": container.name,
        "com.amazonaws.ecs.task-arn": task_arn(plan.task),
        "com.amazonaws.ecs.task-definition-family": plan.family,
        "com.amazonaws.ecs.task-definition-version": plan.revision,
    }
    if container.logging.subject:
        labels["roadstead.logs"] = container.logging.subject
    return labels


def container_spec(
    plan: TaskPlan,
    container: ContainerPlan,
    image: Image,
    environment: dict[str, str],
    devices: list[str] | None = None,
) -> ContainerSpec:
    """What the runtime is asked for. `devices` are those of its GPUs. Raises PlanError."""
    d = container.definition
    linux = linux_parameters(d)
    limits = [Ulimit(u["name"], u["softLimit"], u["hardLimit"]) for u in d.get("ulimits") or []]
    return ContainerSpec(
        id=container.id,
        name=container.name,
        image=image,
        entry_point=d.get("entryPoint") or None,
        command=d.get("command") or None,
        environment=environment,
        working_directory=d.get("workingDirectory") or None,
        user=d.get("user") or None,
        mounts=[*container.mounts, *linux.tmpfs],
        ulimits=limits,
        cpu_units=container.cpu_units,
        memory_mib=_memory_limit(plan, container, linux),
        memory_reservation_mib=container.memory_reservation_mib,
        readonly_root_filesystem=bool(d.get("readonlyRootFilesystem")),
        privileged=bool(d.get("privileged")),
        # In a namespace of several containers none of them is the first process: what holds it is, and reaps for all.
        init=linux.init and not plan.sandbox.pid_mode,
        tty=bool(d.get("pseudoTerminal")),
        interactive=bool(d.get("interactive")),
        cap_add=linux.cap_add,
        cap_drop=linux.cap_drop,
        shared_memory_mib=linux.shared_memory_mib,
        sysctls={s["namespace"]: s["value"] for s in d.get("systemControls") or []},
        devices=devices or [],
        max_swap_mib=linux.max_swap_mib,
        swappiness=linux.swappiness,
        labels=container_labels(plan, container),
    )


def _memory_limit(plan: TaskPlan, container: ContainerPlan, linux: LinuxParameters) -> int:
    """The container's limit in MiB, 0 for none. Swap is bounded together with memory, so with maxSwap the task's limit
    is each container's, and there must be one. Raises PlanError."""
    if linux.max_swap_mib is None or container.memory_mib:
        return container.memory_mib
    if not plan.memory_mib:
        raise PlanError(f"container {container.name}: maxSwap needs a limit of memory, the container's or the task's")
    return plan.memory_mib


def bindings(container: ContainerPlan, sandbox: Sandbox) -> list[HostPort]:
    """The host ports of one container, as they were chosen."""
    if sandbox.network_mode == "host":
        return [HostPort(p.container_port, p.container_port, p.protocol) for p in container.ports]
    asked = {(p.container_port, p.protocol) for p in container.ports}
    return [p for p in sandbox.ports if (p.container_port, p.protocol) in asked]
