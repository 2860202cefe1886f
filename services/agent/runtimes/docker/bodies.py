"""What is asked of the engine, and what it answers, between the port's words and the Engine API's. Pure."""

from __future__ import annotations

import datetime
import json
import re
import time
from typing import Any

from services.agent.ports import (
    Container,
    ContainerSpec,
    Exit,
    HostPort,
    Image,
    Mount,
    Sandbox,
    SandboxSpec,
    Stats,
)
from services.agent.runtimes.docker import pause

PREFIX = "roadstead."
NODE, KIND, SANDBOX, ID, NAME = (PREFIX + word for word in ("node", "kind", "sandbox", "id", "name"))
USER_LABELS, MODE, CPU, MEMORY = (PREFIX + word for word in ("labels", "network-mode", "cpu", "memory"))
PORTS, PID_MODE, IPC_MODE = (PREFIX + word for word in ("ports", "pid-mode", "ipc-mode"))
TASK = "task"

MIB = 1024 * 1024
SHARED_MEMORY_MIB = 64
LOG_DRIVER = {"Type": "json-file", "Config": {"max-size": "16m", "max-file": "2"}}
_STATES = {"created": "created", "configured": "created", "running": "running", "paused": "running"}
_STATES |= {"restarting": "running", "stopping": "running"}
_PLAIN = re.compile(r"[^a-zA-Z0-9_.-]")


def container_name(node: str, identifier: str, suffix: str = "") -> str:
    """The engine's name of a container or sandbox: found again without asking, also by a new agent."""
    return _PLAIN.sub("-", f"roadstead-{node}-{identifier}{suffix}")


def pause_name(node: str, sandbox_id: str) -> str:
    """The engine's name of the container that holds a sandbox's network."""
    return container_name(node, sandbox_id, ".pause")


def pause_body(spec: SandboxSpec, node: str, network: str, resolver: str = "") -> dict[str, Any]:
    """POST /containers/create for a sandbox. `resolver` is asked by a sandbox with an address of its own, unless the
    task names others."""
    published = spec.ports if spec.network_mode == "bridge" else []
    exposed = {f"{port.container_port}/{port.protocol}": {} for port in spec.ports}
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in published:
        host_port = str(port.host_port) if port.host_port else ""
        bindings.setdefault(f"{port.container_port}/{port.protocol}", []).append({"HostPort": host_port})
    own_address = spec.network_mode in ("awsvpc", "bridge")
    labels = {NODE: node, KIND: "sandbox", SANDBOX: spec.id, ID: spec.id, MODE: spec.network_mode}
    labels |= {CPU: str(spec.cpu_units), MEMORY: str(spec.memory_mib), USER_LABELS: json.dumps(spec.labels)}
    labels |= {PID_MODE: spec.pid_mode, IPC_MODE: spec.ipc_mode}
    labels[PORTS] = json.dumps({f"{port.container_port}/{port.protocol}": port.container_name for port in spec.ports})
    body: dict[str, Any] = {
        "Image": pause.IMAGE,
        "Entrypoint": [pause.PROGRAM, spec.id],
        "Labels": labels,
        "ExposedPorts": exposed if own_address else {},
        "HostConfig": {
            "NetworkMode": network if own_address else spec.network_mode,
            "PortBindings": bindings,
            "Dns": spec.dns_servers or [resolver] * bool(resolver and own_address),
            "DnsSearch": spec.dns_search,
            "ExtraHosts": [f"{name}:{address}" for name, address in spec.extra_hosts.items()],
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "LogConfig": {"Type": "none"},
        },
    }
    if spec.ipc_mode == TASK:
        body["HostConfig"] |= {"IpcMode": "shareable", "ShmSize": (spec.shared_memory_mib or SHARED_MEMORY_MIB) * MIB}
    if spec.hostname and spec.network_mode != "host":
        body["Hostname"] = spec.hostname
    return body


def sandbox_from(shown: dict[str, Any], subnet: str) -> Sandbox:
    """The sandbox that an inspected pause container is. Its ports are named as they were asked for."""
    labels = shown["Config"]["Labels"]
    settings = shown["NetworkSettings"]
    networks = [each for each in (settings.get("Networks") or {}).values() if each.get("IPAddress")]
    own = networks[0] if networks else {}
    return Sandbox(
        id=labels[SANDBOX],
        ip_address=own.get("IPAddress", ""),
        mac_address=own.get("MacAddress", ""),
        gateway=own.get("Gateway", ""),
        subnet_cidr=subnet if own else "",
        network_mode=labels[MODE],
        ports=_host_ports(settings.get("Ports") or {}, json.loads(labels[PORTS])),
        labels=json.loads(labels[USER_LABELS]),
    )


def _host_ports(ports: dict[str, Any], container_names: dict[str, str]) -> list[HostPort]:
    found: set[tuple[int, int, str, str]] = set()
    for name, bindings in ports.items():
        number, _, protocol = name.partition("/")
        over_ipv4 = [each for each in bindings or [] if ":" not in each.get("HostIp", "")]
        for binding in over_ipv4 or bindings or []:
            found.add((int(number), int(binding["HostPort"]), protocol or "tcp", container_names.get(name, "")))
    return [HostPort(*port) for port in sorted(found)]


def namespaces(shown: dict[str, Any]) -> dict[str, str]:
    """HostConfig's PidMode and IpcMode of the containers of an inspected sandbox; without a key, the engine's default.
    What ECS calls `none` is Docker's `private`, which has a /dev/shm; Docker's `none` has not."""
    labels = shown["Config"]["Labels"]
    # A sandbox that an agent before these modes made has no such labels.
    modes = {"PidMode": labels.get(PID_MODE, ""), "IpcMode": labels.get(IPC_MODE, "")}
    words = {TASK: f"container:{pause_name(labels[NODE], labels[SANDBOX])}", "none": "private"}
    return {name: words.get(mode, mode) for name, mode in modes.items() if mode}


def container_body(
    spec: ContainerSpec,
    image: str,
    node: str,
    sandbox_id: str,
    task_cpu: int = 0,
    task_memory: int = 0,
    joined: dict[str, str] | None = None,
) -> dict[str, Any]:
    """POST /containers/create for a container of a sandbox, in the namespaces that it has joined (`namespaces`).

    The Engine API has no cgroup over several containers that it would also set limits on, so each container gets
    at most what the task may have: exact for a task of one container, for others a bound of each.
    """
    labels = {**spec.labels, NODE: node, KIND: "container", SANDBOX: sandbox_id, ID: spec.id, NAME: spec.name}
    labels[USER_LABELS] = json.dumps(spec.labels)
    body: dict[str, Any] = {
        "Image": image,
        "Env": [f"{name}={value}" for name, value in spec.environment.items()],
        "Labels": labels,
        "Tty": spec.tty,
        "OpenStdin": spec.interactive,
        "Healthcheck": {"Test": ["NONE"]},  # ECS runs the task definition's, never the image's
        "HostConfig": _host_config(spec, pause_name(node, sandbox_id), task_cpu, task_memory),
    }
    body["HostConfig"] |= joined or {}
    optional = {
        # An empty list means no entry point at all, which the engine spells [""].
        "Entrypoint": None if spec.entry_point is None else spec.entry_point or [""],
        "Cmd": spec.command,
        "WorkingDir": spec.working_directory,
        "User": spec.user,
        "StopSignal": spec.stop_signal or None,
    }
    return body | {name: value for name, value in optional.items() if value is not None}


def _host_config(spec: ContainerSpec, pause_container: str, task_cpu: int, task_memory: int) -> dict[str, Any]:
    config: dict[str, Any] = {
        "NetworkMode": f"container:{pause_container}",
        "CpuShares": max(2, spec.cpu_units),
        "Ulimits": [{"Name": each.name, "Soft": each.soft, "Hard": each.hard} for each in spec.ulimits],
        "ReadonlyRootfs": spec.readonly_root_filesystem,
        "Privileged": spec.privileged,
        "Init": spec.init,
        "CapAdd": spec.cap_add,
        "CapDrop": spec.cap_drop,
        "Sysctls": spec.sysctls,
        "Devices": [{"PathOnHost": path, "PathInContainer": path, "CgroupPermissions": "rwm"} for path in spec.devices],
        "LogConfig": LOG_DRIVER,
        # In this form the engine makes the source of a bind mount when it is missing, as ECS says of sourcePath.
        "Binds": [_bind(mount) for mount in spec.mounts if mount.kind != "tmpfs"],
        "Tmpfs": {mount.target: _tmpfs_options(mount) for mount in spec.mounts if mount.kind == "tmpfs"},
    }
    memory = min((limit for limit in (spec.memory_mib, task_memory) if limit), default=0)
    if memory:
        config |= {"Memory": memory * MIB, "MemorySwap": (memory + (spec.max_swap_mib or 0)) * MIB}
    if spec.max_swap_mib is not None and spec.swappiness is not None:
        config["MemorySwappiness"] = spec.swappiness
    if spec.memory_reservation_mib:
        config["MemoryReservation"] = spec.memory_reservation_mib * MIB
    quota = spec.cpu_units if spec.cpu_quota and spec.cpu_units else task_cpu
    if quota:
        config["NanoCpus"] = quota * 1_000_000_000 // 1024
    if spec.shared_memory_mib:
        config["ShmSize"] = spec.shared_memory_mib * MIB
    return config


def _bind(mount: Mount) -> str:
    options = [*mount.options, *(["ro"] if mount.read_only else [])]
    return ":".join([mount.source, mount.target, *([",".join(options)] if options else [])])


def _tmpfs_options(mount: Mount) -> str:
    return ",".join([*mount.options, *(["ro"] if mount.read_only else [])])


def container_from(shown: dict[str, Any]) -> Container:
    """The container that was inspected."""
    labels = shown["Config"]["Labels"]
    state = _STATES.get(shown["State"]["Status"], "exited")
    return Container(
        id=labels[ID],
        name=labels[NAME],
        sandbox_id=labels[SANDBOX],
        state=state,
        started_at=seconds(shown["State"].get("StartedAt", "")),
        exit=exit_from(shown) if state == "exited" else None,
        labels=json.loads(labels[USER_LABELS]),
    )


def exit_from(shown: dict[str, Any]) -> Exit:
    """How an inspected container ended."""
    state = shown["State"]
    return Exit(
        code=state["ExitCode"],
        oom_killed=bool(state.get("OOMKilled")),
        finished_at=seconds(state.get("FinishedAt", "")),
        started_at=seconds(state.get("StartedAt", "")),
    )


def image_from(reference: str, digest: str, shown: dict[str, Any]) -> Image:
    """An inspected image. Engines list a key either as null or not at all when it is empty."""
    config = shown.get("Config") or {}
    variables = (each.partition("=") for each in config.get("Env") or [])
    return Image(
        reference=reference,
        digest=digest,
        size_bytes=shown.get("Size", 0),
        entry_point=config.get("Entrypoint") or [],
        command=config.get("Cmd") or [],
        environment={name: value for name, _, value in variables},
        working_directory=config.get("WorkingDir") or "",
        user=config.get("User") or "",
        stop_signal=config.get("StopSignal") or "",
    )


def nanoseconds(text: str) -> int:
    """An RFC 3339 time with up to nine fraction digits, in nanoseconds since the epoch; 0 for none (year 1)."""
    if not text or text.startswith("0001-"):
        return 0
    whole, _, rest = text.partition(".")
    if not rest:  # no fraction: the zone is still on the whole
        return int(datetime.datetime.fromisoformat(whole).timestamp()) * 1_000_000_000
    digits = re.match(r"\d+", rest).group()  # type: ignore[union-attr]
    zone = rest[len(digits) :] or "Z"
    moment = datetime.datetime.fromisoformat(whole + zone)
    return int(moment.timestamp()) * 1_000_000_000 + int(digits[:9].ljust(9, "0"))


def seconds(text: str) -> float:
    """An RFC 3339 time in seconds since the epoch; 0.0 for none."""
    return nanoseconds(text) / 1e9


def split_reference(reference: str) -> tuple[str, str]:
    """An image reference as (repository, tag or digest); the tag is `latest` when none is given."""
    repository, _, digest = reference.partition("@")
    head, _, last = repository.rpartition("/")
    name, _, tag = last.partition(":")
    repository = f"{head}/{name}" if head else name
    return repository, digest or tag or "latest"


def registry_of(reference: str) -> str:
    """The registry's host in a reference; Docker Hub's name when it has none."""
    first, slash, _ = reference.partition("/")
    named = slash and ("." in first or ":" in first or first == "localhost")
    return first if named else "docker.io"


def stats_from(own: dict[str, Any], shared: dict[str, Any]) -> Stats:
    """What the engine's stats of a container, and of the one whose network it shares, mean."""
    memory = own["memory_stats"]
    cache = memory.get("stats", {})
    networks = (shared.get("networks") or {}).values()
    return Stats(
        time=time.time(),
        cpu_ns=own["cpu_stats"]["cpu_usage"]["total_usage"],
        memory_bytes=memory.get("usage", 0) - cache.get("inactive_file", cache.get("total_inactive_file", 0)),
        memory_limit_bytes=memory.get("limit", 0),
        network_rx_bytes=sum(each["rx_bytes"] for each in networks),
        network_tx_bytes=sum(each["tx_bytes"] for each in networks),
    )
