"""Tasks: what is wanted of them."""

from typing import Any

import msgspec


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
