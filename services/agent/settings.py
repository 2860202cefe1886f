"""Settings of an agent (`ROADSTEAD_AGENT_…`)."""

import msgspec


class AgentSettings(msgspec.Struct, kw_only=True, frozen=True):
    """What one node is.

    `node` is its name, always the same on one machine (empty: the machine's); `zone` its availability zone.
    `runtime`: auto, oci or docker. cpu_units (1024 = one core) and memory_mib of 0 mean this machine's, divided by
    `shares`: how many agents share the machine. `image_pull`: `always` asks the registry each time; `default` does so
    and falls back to the image on the node when the registry is away; `prefer-cached` asks only for what is not here.
    `task_volumes`: where the volumes of a task alone lie (`bind` under the data directory, `named` by the runtime).
    `efs`: the directory whose folders are the EFS file systems (empty: `efs` under the data directory, which the nodes
    of one machine share).
    `subnet`: the IPv4 network of the node's tasks (oci; empty: a free one). `docker_host`: the engine's URL (docker;
    empty: what the docker command would use). `dns`: `host:port` of what tasks resolve names with (empty: what the
    machine or the engine asks); for oci an address of this machine. `external`: the node is of a platform elsewhere;
    `registry`: the host (and port, if another) by which that one's registry is reached from here. Times are in seconds;
    `gpus`: what this node has, `ID=/dev/PATH+/dev/PATH,…`: each id is one container's, with these device files.
    `usage_s`: how often the usage of the tasks is told. Each `image_sweep_s`, at most `images_a_sweep` images go that
    were not used for `image_idle_s` (oci): the ECS agent's own defaults.
    """

    node: str = ""
    zone: str = "us-east-1a"
    capacity_kind: str = "FARGATE"
    runtime: str = "auto"
    cpu_units: int = 0
    memory_mib: int = 0
    shares: int = 1
    address: str = ""
    image_pull: str = "default"
    task_volumes: str = "auto"
    efs: str = ""
    docker_host: str = ""
    subnet: str = ""
    dns: str = ""
    registry: str = ""
    external: bool = False
    gpus: str = ""
    heartbeat_s: float = 2.0
    image_sweep_s: float = 1800.0
    image_idle_s: float = 3600.0
    images_a_sweep: int = 5
    usage_s: float = 5.0
    pending_after_s: float = 0.3
    logs_before_stopped_s: float = 0.25
    logs_before_restart_s: float = 5.0
    dependency_wait_s: float = 30.0
