"""What agents store: the nodes, and what became of the tasks that were placed on them."""

import msgspec

from contracts.kinds import Kind


class Node(msgspec.Struct, kw_only=True, frozen=True):
    """A machine (or a zone of a laptop) that runs tasks.

    cpu_units (1024 = one core) and memory_mib are what tasks may reserve. `session` is new at each start of the
    agent. `draining` nodes get no new tasks. `gpus` are the ids of its GPUs, each one container's alone. `subnet` is
    the IPv4 network that its tasks have their addresses of. Liveness is not stored: it is the heartbeat
    (subjects.heartbeat).
    """

    node: str
    zone: str
    cpu_units: int
    memory_mib: int
    registered_at: float
    session: str
    capacity_kind: str = "FARGATE"
    runtime: str = "oci"
    hostname: str = ""
    address: str = ""
    network_modes: tuple[str, ...] = ("awsvpc", "bridge", "host", "none")
    attributes: dict[str, str] = {}
    agent_version: str = ""
    draining: bool = False
    gpus: list[str] = []
    subnet: str = ""


class NetworkBinding(msgspec.Struct, kw_only=True, frozen=True):
    """A container port that the node answers for."""

    container_port: int
    host_port: int
    bind_ip: str = "0.0.0.0"
    protocol: str = "tcp"


class ContainerStatus(msgspec.Struct, kw_only=True, frozen=True):
    """A container of a task. last_status: PENDING | RUNNING | STOPPED.

    health_status: HEALTHY | UNHEALTHY | UNKNOWN. exit_code stays None for a container that never started.
    restart_count: how often its restart policy had it started again.
    """

    name: str
    last_status: str = "PENDING"
    runtime_id: str = ""
    image: str = ""
    image_digest: str = ""
    exit_code: int | None = None
    reason: str | None = None
    health_status: str = "UNKNOWN"
    network_bindings: list[NetworkBinding] = []
    started_at: float | None = None
    stopped_at: float | None = None
    essential: bool = True
    restart_count: int = 0


class NetworkInterface(msgspec.Struct, kw_only=True, frozen=True):
    """The task's own address (awsvpc and bridge). `groups` are the security groups that are in force on it; None on a
    status of an agent that knew nothing of them."""

    private_ipv4: str
    mac_address: str = ""
    subnet_cidr: str = ""
    attachment_id: str = ""
    eni_id: str = ""
    groups: list[str] | None = None


class TaskStatus(msgspec.Struct, kw_only=True, frozen=True):
    """What a task is, as its agent sees it; what it should be is the scheduler's `Task`.

    last_status walks PROVISIONING, PENDING, ACTIVATING, RUNNING, DEACTIVATING, STOPPING, DEPROVISIONING, STOPPED as
    ECS' task life cycle does. stop_code and stopped_reason are set when the agent is who knows why it stopped
    (EssentialContainerExited, TaskFailedToStart); a stop that was asked for has them in the scheduler's record.
    `version` counts the changes.
    """

    account: str
    region: str
    cluster: str
    node: str
    task: str
    last_status: str
    health_status: str = "UNKNOWN"
    connectivity: str = "CONNECTED"
    containers: list[ContainerStatus] = []
    network: NetworkInterface | None = None
    pull_started_at: float | None = None
    pull_stopped_at: float | None = None
    started_at: float | None = None
    stopping_at: float | None = None
    execution_stopped_at: float | None = None
    stopped_at: float | None = None
    stop_code: str | None = None
    stopped_reason: str | None = None
    version: int = 0


class Heartbeat(msgspec.Struct, kw_only=True, frozen=True):
    """What an agent says every two seconds on `subjects.heartbeat(node)`. `tasks`: how many it looks after now."""

    node: str
    session: str
    tasks: int = 0


NODE = Kind("agent", "node", Node, ("node",))
TASK_STATUS = Kind("agent", "task_status", TaskStatus, ("account", "region", "cluster", "node", "task"))

KINDS = (NODE, TASK_STATUS)
