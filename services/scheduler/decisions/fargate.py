"""Task sizes, and what Fargate refuses.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-cpu-memory-error.html
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html
"""

from __future__ import annotations

import re

from contracts.aws import ecs
from services.shared.errors import AwsError

_SIZE = re.compile(r"\s*([\d.]+)\s*(vcpu|vcpus|gb)?\s*\Z", re.IGNORECASE)

#: cpu units: the memory sizes in MiB that go with them.
MEMORY = {
    256: (512, 1024, 2048),
    512: tuple(range(1024, 4097, 1024)),
    1024: tuple(range(2048, 8193, 1024)),
    2048: tuple(range(4096, 16385, 1024)),
    4096: tuple(range(8192, 30721, 1024)),
    8192: tuple(range(16384, 61441, 4096)),
    16384: tuple(range(32768, 122881, 8192)),
}


def size_in_units(text: str | None, name: str) -> str | None:
    """A task's `cpu` or `memory` (name) as ECS gives it back: units or MiB; `1 vCPU` and `2 GB` are understood.

    Raises ClientException.
    """
    if text is None or text.isdecimal():
        return text
    found = _SIZE.match(text)
    unit = (found[2] or "").lower() if found else "?"
    if found is None or (name == "cpu") != unit.startswith("vcpu"):
        raise AwsError(
            "ClientException",
            f"Invalid '{name}' setting for task. For more information, see the Troubleshooting section of the Amazon "
            "ECS Developer Guide.",
        )
    return str(round(float(found[1]) * 1024))


def fargate_size(cpu: str | None, memory: str | None) -> bool:
    """Whether Fargate has this size (units and MiB as text)."""
    return cpu is not None and memory is not None and int(memory) in MEMORY.get(int(cpu), ())


def unfit_for_fargate(request: ecs.RegisterTaskDefinitionRequest) -> str | None:
    """Why Fargate does not share such namespaces or has no such memory, as ECS says it; None when it does (ECS API
    reference, RegisterTaskDefinition: pidMode, ipcMode; LinuxParameters: maxSwap, swappiness)."""
    without = "Tasks using the Fargate launch type do not support"
    if request.pid_mode == "host":
        return f"{without} pidMode 'host'. The supported value for pidMode is 'task'."
    if request.ipc_mode is not None:
        return f"{without} ipcMode."
    for container in request.container_definitions:
        linux = container.linux_parameters
        for member, value in (("maxSwap", linux and linux.max_swap), ("swappiness", linux and linux.swappiness)):
            if value is not None:
                return f"{without} {member}."
    return None


def check_fargate(request: ecs.RegisterTaskDefinitionRequest) -> None:
    """Refuse what Fargate can't run. Raises ClientException."""

    def refuse(message: str) -> AwsError:
        return AwsError("ClientException", message)

    if request.network_mode != "awsvpc":
        raise refuse("Fargate only supports network mode ‘awsvpc’.")
    for name, value in (("cpu", request.cpu), ("memory", request.memory)):
        if value is None:
            raise refuse(f"Fargate requires that '{name}' be defined at the task level.")
    if not fargate_size(request.cpu, request.memory):
        raise refuse("No Fargate configuration exists for given values.")
    if request.placement_constraints:
        raise refuse("Task definitions that are compatible with Fargate do not support placement constraints.")
    if (why := unfit_for_fargate(request)) is not None:
        raise refuse(why)
    for container in request.container_definitions:
        if container.privileged:
            raise refuse("Fargate does not support privileged containers.")
    storage = request.ephemeral_storage
    if storage is not None and not 21 <= storage.size_in_gi_b <= 200:
        raise refuse("Invalid 'ephemeralStorage' setting for task: sizeInGiB must be between 21 and 200.")
    for volume in request.volumes or []:
        if volume.docker_volume_configuration is not None:
            raise refuse("Fargate does not support Docker volume configurations.")
        if volume.host is not None and volume.host.source_path:
            raise refuse("Fargate does not support host volumes with a source path.")
