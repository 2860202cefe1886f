"""Task definitions: what ECS fills in, what it refuses, and what a task of one reserves.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task_definition_parameters.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from contracts.aws import ecs
from contracts.task_definitions import unsupported
from services.scheduler.decisions.fargate import check_fargate, fargate_size, size_in_units, unfit_for_fargate
from services.shared.errors import AwsError

_FAMILY = re.compile(r"[A-Za-z0-9_-]{1,255}\Z")
_S3_OBJECT = re.compile(r"arn:aws[a-z-]*:s3:::[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.")
MAX_CONTAINERS = 10
MOST_ENVIRONMENT_FILES = 10
"""Of a whole task definition, too."""
#: The kernel parameters that each IPC namespace has (ECS API reference, SystemControl).
IPC_CONTROLS = ("kernel.msg", "kernel.sem", "kernel.shm", "fs.mqueue.")


def refuse(message: str) -> AwsError:
    """The error ECS gives for a task definition that does not make sense."""
    return AwsError("ClientException", message)


def complete(request: ecs.RegisterTaskDefinitionRequest) -> dict[str, Any]:
    """Check a request and fill in, in place, what ECS fills in; its wire form, without tags. Raises ClientException."""
    if not _FAMILY.match(request.family):
        raise refuse("Family contains invalid characters.")
    if not request.container_definitions:
        raise refuse("Container list cannot be empty.")
    if len(request.container_definitions) > MAX_CONTAINERS:
        raise refuse("Too many containers.")
    request.cpu = size_in_units(request.cpu, "cpu")
    request.memory = size_in_units(request.memory, "memory")
    if request.network_mode is None:
        request.network_mode = "bridge"
        if request.requires_compatibilities and "FARGATE" in request.requires_compatibilities:
            raise refuse("Fargate only supports network mode ‘awsvpc’.")
    request.volumes = request.volumes or []
    request.placement_constraints = request.placement_constraints or []
    for container in request.container_definitions:
        _complete_container(container, request)
    _check_together(request)
    _check_namespaces(request)
    if request.requires_compatibilities and "FARGATE" in request.requires_compatibilities:
        check_fargate(request)
    wire: dict[str, Any] = msgspec.to_builtins(request)
    wire.pop("tags", None)
    if why := unsupported(wire):
        raise refuse(why[0].upper() + why[1:])
    return wire


def _complete_container(container: ecs.ContainerDefinition, request: ecs.RegisterTaskDefinitionRequest) -> None:
    if not container.name:
        raise refuse("Container.name should not be null or empty.")
    if not container.image:
        raise refuse("Container.image should not be null or empty.")
    if not _FAMILY.match(container.name):
        raise refuse(f"Invalid container name: {container.name}")
    if container.cpu is None:
        container.cpu = 0
    if container.essential is None:
        container.essential = True
    container.environment = container.environment or []
    container.mount_points = container.mount_points or []
    container.volumes_from = container.volumes_from or []
    container.port_mappings = container.port_mappings or []
    container.system_controls = container.system_controls or []
    if (check := container.health_check) is not None:
        _complete_health_check(check)
    if container.restart_policy is not None:
        _check_restarts(container, container.restart_policy)
    if container.port_mappings:
        _complete_ports(container, request.network_mode or "bridge")
    _check_memory(container, request)
    check_environment_files(container.name, container.environment_files or [])
    check_resources(container.name, container.resource_requirements or [], request.requires_compatibilities or [])
    if request.network_mode == "awsvpc":
        if container.links:
            raise refuse("Links are not supported when networkMode=awsvpc.")
        if container.extra_hosts:
            raise refuse("Extra hosts are not supported on container when networkMode=awsvpc.")
        if container.hostname:
            raise refuse("Hostname is not supported on container when networkMode=awsvpc.")
        if container.dns_servers:
            raise refuse("DNS servers are not supported on container when networkMode=awsvpc.")


def check_resources(
    name: str, requirements: Sequence[ecs.ResourceRequirement], compatible_with: Sequence[str] = ()
) -> None:
    """A container may ask for whole GPUs, a number of them, and for no other resource. Raises ClientException."""
    for requirement in requirements:
        if requirement.type != "GPU":
            raise refuse(f"Container '{name}': resourceRequirements of type {requirement.type} are not supported.")
        value = requirement.value or ""
        if not (value.isdecimal() and int(value)):
            raise refuse(f"Container '{name}': the value of a GPU resource requirement must be a number of GPUs.")
        if "FARGATE" in compatible_with:
            raise refuse("GPU resource requirements are not supported on Fargate.")
    if len(requirements) > 1:
        raise refuse(f"Container '{name}': a resource type can be required only once.")


def check_environment_files(name: str, files: Sequence[ecs.EnvironmentFile]) -> None:
    """Files of environment variables are objects of S3 whose names end with .env. Raises ClientException.
    https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_EnvironmentFile.html"""
    for file in files:
        if not _S3_OBJECT.match(file.value):
            raise refuse(
                f"Container '{name}': the environment file '{file.value}' is not the ARN of an Amazon S3 object."
            )
        if not file.value.endswith(".env"):
            raise refuse(f"Container '{name}': the environment file '{file.value}' must have the extension .env.")
    if len(files) > MOST_ENVIRONMENT_FILES:
        raise refuse(f"Container '{name}': at most {MOST_ENVIRONMENT_FILES} environment files can be specified.")


def _check_restarts(container: ecs.ContainerDefinition, policy: ecs.ContainerRestartPolicy) -> None:
    period = policy.restart_attempt_period
    if period is not None and not 60 <= period <= 1800:
        raise refuse(f"Container '{container.name}': restartAttemptPeriod must be between 60 and 1800.")
    if len(policy.ignored_exit_codes or ()) > 50:
        raise refuse(f"Container '{container.name}': ignoredExitCodes can have at most 50 items.")


def _complete_health_check(check: ecs.HealthCheck) -> None:
    if not check.command:
        raise refuse("Health check command must not be empty.")
    for name, default, low, high in (("interval", 30, 5, 300), ("timeout", 5, 2, 120), ("retries", 3, 1, 10)):
        value = getattr(check, name)
        if value is None:
            setattr(check, name, default)
        elif not low <= value <= high:
            raise refuse(f"Health check {name} must be between {low} and {high}.")
    if check.start_period is not None and not 0 <= check.start_period <= 300:
        raise refuse("Health check startPeriod must be between 0 and 300.")


def _complete_ports(container: ecs.ContainerDefinition, mode: str) -> None:
    if mode == "none":
        raise refuse("Port mappings are not supported when networkMode=none.")
    for port in container.port_mappings or []:
        if port.container_port_range is None:
            if port.container_port is None or not 1 <= port.container_port <= 65535:
                raise refuse(f"Invalid container port: {port.container_port}")
            if not port.host_port:
                port.host_port = 0 if mode == "bridge" else port.container_port
            if not 0 <= port.host_port <= 65535:
                raise refuse(f"Invalid host port: {port.host_port}")
            if mode != "bridge" and port.host_port != port.container_port:
                raise refuse(
                    f"When networkMode={mode}, the host ports and container ports in port mappings must match."
                )
        port.protocol = port.protocol or "tcp"


def _check_memory(container: ecs.ContainerDefinition, request: ecs.RegisterTaskDefinitionRequest) -> None:
    memory, reservation = container.memory, container.memory_reservation
    if memory is None and reservation is None and request.memory is None:
        raise refuse(
            f"Invalid setting for container '{container.name}'. At least one of 'memory' or 'memoryReservation' must "
            "be specified."
        )
    for name, value in (("memory", memory), ("memoryReservation", reservation)):
        if value is not None and value < 4:
            raise refuse(f"Invalid setting for container '{container.name}'. '{name}' must be at least 4.")
    if memory is not None and reservation is not None and reservation > memory:
        raise refuse(
            f"Invalid setting for container '{container.name}'. 'memory' must be greater than or equal to "
            "'memoryReservation'."
        )
    if request.memory is not None and max(memory or 0, reservation or 0) > int(request.memory):
        raise refuse("The 'memory' setting for container is greater than for the task.")
    if container.cpu is not None and container.cpu < 0:
        raise refuse(f"Invalid setting for container '{container.name}'. 'cpu' must not be negative.")


def _check_together(request: ecs.RegisterTaskDefinitionRequest) -> None:
    containers = request.container_definitions
    by_name = {c.name or "": c for c in containers}
    if len(by_name) < len(containers):
        raise refuse("Container names must be unique within a Task Definition.")
    if not any(c.essential for c in containers):
        raise refuse("A task definition must have at least one essential container.")
    if request.cpu is not None and sum(c.cpu or 0 for c in containers) > int(request.cpu):
        raise refuse("The sum of the 'cpu' settings of the containers is greater than for the task.")
    if sum(len(c.environment_files or ()) for c in containers) > MOST_ENVIRONMENT_FILES:
        raise refuse(f"A task definition can have at most {MOST_ENVIRONMENT_FILES} environment files.")
    _check_port_clash(request)
    volumes = {v.name for v in request.volumes or []}
    for container in containers:
        for mount in container.mount_points or []:
            if mount.source_volume is not None and mount.source_volume not in volumes:
                raise refuse(f"Unknown volume '{mount.source_volume}'.")
        for source in container.volumes_from or []:
            if source.source_container not in by_name:
                raise refuse(f"Unknown container '{source.source_container}' in volumesFrom.")
        for link in container.links or []:
            if link.partition(":")[0] not in by_name:
                raise refuse(f"Invalid link: container '{link.partition(':')[0]}' does not exist.")
    if any(c.depends_on for c in containers):
        _check_dependencies(by_name)


def _check_namespaces(request: ecs.RegisterTaskDefinitionRequest) -> None:
    """pidMode, ipcMode and what goes with them (ECS API reference, RegisterTaskDefinition and LinuxParameters)."""
    platform = request.runtime_platform
    windows = ((platform and platform.operating_system_family) or "").startswith("WINDOWS")
    for member, mode in (("pidMode", request.pid_mode), ("ipcMode", request.ipc_mode)):
        if windows and mode is not None:
            raise refuse(f"{member} is not supported for Windows containers.")
    for container in request.container_definitions:
        if request.ipc_mode == "host":
            named = (control.namespace or "" for control in container.system_controls or ())
            if kernel := next((name for name in named if name.startswith(IPC_CONTROLS)), None):
                raise refuse(f"systemControls of the IPC namespace ({kernel}) are not supported when ipcMode=host.")
        if windows and container.environment_files:
            raise refuse("environmentFiles is not supported for Windows containers.")
        if (linux := container.linux_parameters) is not None:
            _check_swap(container.name or "", linux, windows=windows)


def _check_swap(name: str, linux: ecs.LinuxParameters, *, windows: bool) -> None:
    if windows and (linux.max_swap is not None or linux.swappiness is not None):
        raise refuse(f"Container '{name}': maxSwap and swappiness are not supported for Windows containers.")
    if linux.max_swap is not None and linux.max_swap < 0:
        raise refuse(f"Container '{name}': maxSwap must be 0 or a positive number.")
    if linux.swappiness is not None and not 0 <= linux.swappiness <= 100:
        raise refuse(f"Container '{name}': swappiness must be between 0 and 100.")


def _check_port_clash(request: ecs.RegisterTaskDefinitionRequest) -> None:
    taken: set[tuple[int, str | None]] = set()
    for container in request.container_definitions:
        for port in container.port_mappings or []:
            if not port.host_port:
                continue
            if (port.host_port, port.protocol) in taken:
                raise refuse(
                    f"Container '{container.name}' maps the host port {port.host_port}/{port.protocol} that is already "
                    "mapped in this task definition."
                )
            taken.add((port.host_port, port.protocol))


def _check_dependencies(by_name: Mapping[str, ecs.ContainerDefinition]) -> None:
    for name, container in by_name.items():
        for dependency in container.depends_on or []:
            other = by_name.get(dependency.container_name)
            if other is None or other is container:
                raise refuse(f"Invalid dependency of container '{name}': no container '{dependency.container_name}'.")
            if dependency.condition in ("SUCCESS", "COMPLETE") and other.essential:
                raise refuse(
                    "A dependency container with SUCCESS or COMPLETE condition cannot be an essential container"
                )
            if dependency.condition == "HEALTHY" and other.health_check is None:
                raise refuse(
                    f"Container '{dependency.container_name}' has no health check, and '{name}' waits for HEALTHY."
                )
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise refuse(f"The container dependencies have a cycle: {' -> '.join((*above, name))}.")
        if name not in done:
            for dependency in by_name[name].depends_on or []:
                visit(dependency.container_name, (*above, name))
            done.add(name)

    for name in by_name:
        visit(name, ())


def compatibilities(request: ecs.RegisterTaskDefinitionRequest) -> list[str]:
    """Which launch types a completed request could run on."""
    if request.network_mode != "awsvpc":
        return ["EXTERNAL", "EC2", *(["MANAGED_INSTANCES"] if request.network_mode == "host" else [])]
    possible = fargate_size(request.cpu, request.memory) and unfit_for_fargate(request) is None
    fargate = ["FARGATE"] if possible else []
    return ["EC2", *fargate, "MANAGED_INSTANCES"]


def required_attributes(request: ecs.RegisterTaskDefinitionRequest) -> list[str]:
    """The capabilities that a container instance needs to run it, by their names."""
    found = {"com.amazonaws.ecs.capability.docker-remote-api.1.18"}
    if request.network_mode == "awsvpc":
        found.add("ecs.capability.task-eni")
    if request.task_role_arn:
        found.add("com.amazonaws.ecs.capability.task-iam-role")
    if request.pid_mode is not None or request.ipc_mode is not None:
        found.add("ecs.capability.pid-ipc-namespace-sharing")
    for container in request.container_definitions:
        if container.log_configuration is not None:
            found.add(f"com.amazonaws.ecs.capability.logging-driver.{container.log_configuration.log_driver}")
        if ".dkr.ecr." in (container.image or ""):
            found.add("com.amazonaws.ecs.capability.ecr-auth")
        if container.environment_files:
            found.add("ecs.capability.env-files.s3")
        if container.repository_credentials is not None:
            found.add("ecs.capability.private-registry-authentication.secretsmanager")
        if container.health_check is not None:
            found.add("ecs.capability.container-health-check")
        if container.depends_on:
            found.add("ecs.capability.container-ordering")
    return sorted(found)


_SYSTEMS = {"": "linux", "LINUX": "linux"}


def platform(definition: Mapping[str, Any]) -> str | None:
    """What a definition's runtimePlatform (wire form) asks of a node, as an expression of the cluster query language;
    None when it asks for nothing. A node that does not say what its processor is may have any."""
    wanted = definition.get("runtimePlatform") or {}
    asked = []
    if architecture := wanted.get("cpuArchitecture"):
        named = "attribute:ecs.cpu-architecture"
        asked.append(f"({named} !exists or {named} == {architecture.lower()})")
    if system := wanted.get("operatingSystemFamily"):
        asked.append(f"attribute:ecs.os-type == {_SYSTEMS.get(system, 'windows')}")
    return " and ".join(asked) or None


class Needs(msgspec.Struct, frozen=True):
    """What a task of a definition reserves on its node: cpu units, MiB, host ports, and how many GPUs a container."""

    cpu: int
    memory: int
    ports: tuple[int, ...]
    gpus: tuple[tuple[str, int], ...] = ()


def needs(definition: Mapping[str, Any], overrides: Mapping[str, Any]) -> Needs:
    """What to reserve for a task of this definition with these overrides (both in wire form)."""
    changed = {c.get("name"): c for c in overrides.get("containerOverrides") or []}
    cpu = memory = 0
    ports: list[int] = []
    gpus: list[tuple[str, int]] = []
    fixed = definition.get("networkMode") != "awsvpc"
    for container in definition["containerDefinitions"]:
        now = {**container, **changed.get(container["name"], {})}
        cpu += now.get("cpu") or 0
        memory += now.get("memoryReservation") or now.get("memory") or 0
        if now.get("resourceRequirements"):
            gpus.append((container["name"], sum(int(r["value"]) for r in now["resourceRequirements"])))
        if fixed:
            ports += [p["hostPort"] for p in container.get("portMappings", ()) if p.get("hostPort")]
    task_cpu = overrides.get("cpu") or definition.get("cpu")
    task_memory = overrides.get("memory") or definition.get("memory")
    cpu, memory = int(task_cpu) if task_cpu else cpu, int(task_memory) if task_memory else memory
    return Needs(cpu, memory, tuple(ports), tuple(gpus))
