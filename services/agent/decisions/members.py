"""Single members of a task definition, read. Shapes as in the ECS API (wire names), plain JSON."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from contracts.records.scheduler import Task
from contracts.subjects import log_stream
from contracts.task_definitions import KEPT_LOG_DRIVERS, unsupported
from services.agent.decisions.health import HealthCheck
from services.agent.values import HostPort, Mount


class PlanError(Exception):
    """The task definition asks for what can't be done here. Told as ECS tells it: ResourceInitializationError."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = f"ResourceInitializationError: {reason}"


class Logging(msgspec.Struct, frozen=True):
    """Where output goes. `subject` is empty when it stays on the node."""

    driver: str = "none"
    options: dict[str, str] = {}
    subject: str = ""


class LinuxParameters(msgspec.Struct, frozen=True):
    """What of linuxParameters a runtime can do."""

    init: bool = False
    cap_add: list[str] = []
    cap_drop: list[str] = []
    shared_memory_mib: int = 0
    tmpfs: list[Mount] = []
    max_swap_mib: int | None = None
    swappiness: int | None = None


def pairs(named: list[dict[str, Any]] | None) -> dict[str, str]:
    """[{name, value}] as a dict."""
    return {pair["name"]: pair.get("value") or "" for pair in named or [] if pair.get("name")}


def secrets(definition: dict[str, Any]) -> dict[str, str]:
    """Where the values of environment variables come from: name -> valueFrom."""
    return {s["name"]: s.get("valueFrom") or "" for s in definition.get("secrets") or [] if s.get("name")}


def cpu_units(text: Any) -> int:
    """`256`, `.25 vCPU` and the like in units; 0 when nothing is said. Raises PlanError."""
    return _quantity(text, {"": 1, "vcpu": 1024})


def memory_mib(text: Any) -> int:
    """`512`, `0.5 GB` and the like in MiB; 0 when nothing is said. Raises PlanError."""
    return _quantity(text, {"": 1, "mb": 1, "mib": 1, "gb": 1024, "gib": 1024})


def _quantity(text: Any, units: dict[str, int]) -> int:
    if text in (None, ""):
        return 0
    found = re.fullmatch(r"\s*(\d*\.?\d+)\s*([A-Za-z]*)\s*", str(text))
    if found is None or found[2].lower() not in units:
        raise PlanError(f"{text!r} is not a size")
    return round(float(found[1]) * units[found[2].lower()])


def gpus_of(text: str) -> dict[str, list[str]]:
    """The device files of each GPU, by its id, out of `ID=/dev/PATH+/dev/PATH,…`. Raises ValueError."""
    found: dict[str, list[str]] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        name, _, paths = part.partition("=")
        devices = [path for path in paths.split("+") if path]
        if not name or not devices or not all(path.startswith("/") for path in devices):
            raise ValueError(f"gpus: {part!r} is not ID=/dev/PATH, or several paths joined by +")
        found[name] = devices
    return found


def refuse_unsupported(definition: dict[str, Any]) -> None:
    """Raises PlanError, naming what no runtime here can do, rather than to run a task that lacks it."""
    if why := unsupported(definition):
        raise PlanError(why)


def health_check(definition: dict[str, Any]) -> HealthCheck | None:
    """The container's health check. `CMD-SHELL` runs in /bin/sh, `CMD` (or a bare list) as it is, `NONE` is none."""
    given = definition.get("healthCheck")
    command = (given or {}).get("command") or []
    if not command or command[0] == "NONE":
        return None
    if command[0] == "CMD-SHELL":
        argv = ["/bin/sh", "-c", " ".join(command[1:])]
    elif command[0] == "CMD":
        argv = list(command[1:])
    else:
        argv = ["/bin/sh", "-c", command[0]] if len(command) == 1 else list(command)
    return HealthCheck(
        argv,
        float(given.get("interval") or 30),
        float(given.get("timeout") or 5),
        int(given.get("retries") or 3),
        float(given.get("startPeriod") or 0),
    )


def logging(definition: dict[str, Any], task: Task) -> Logging:
    """Where the container's output goes. Its driver is one that is served."""
    given = definition.get("logConfiguration")
    if not given:
        return Logging()
    driver, options = given.get("logDriver", ""), dict(given.get("options") or {})
    if driver in KEPT_LOG_DRIVERS:
        return Logging(driver, options)
    stream = stream_name(options, definition["name"], task.id)
    region = options.get("awslogs-region") or task.region
    return Logging(
        driver,
        {**options, "awslogs-stream": stream},
        log_stream(task.account, region, options["awslogs-group"], stream),
    )


def stream_name(options: dict[str, str], container: str, task_id: str) -> str:
    """prefix/container/task, as ECS makes it; without a prefix there is none."""
    prefix = options.get("awslogs-stream-prefix")
    return options.get("awslogs-stream") or "/".join(filter(None, (prefix, container, task_id)))


def ports(definition: dict[str, Any], mode: str) -> list[HostPort]:
    """The container's ports; host_port 0 is chosen by the runtime (bridge). awsvpc and host have them as they are."""
    found = []
    for mapping in definition.get("portMappings") or []:
        protocol = mapping.get("protocol") or "tcp"
        if mapping.get("containerPortRange"):
            first, _, last = mapping["containerPortRange"].partition("-")
            found += [HostPort(p, 0, protocol, definition["name"]) for p in range(int(first), int(last or first) + 1)]
        elif mapping.get("containerPort"):
            host_port = mapping.get("hostPort") or 0 if mode == "bridge" else mapping["containerPort"]
            found.append(HostPort(mapping["containerPort"], host_port, protocol, definition["name"]))
    return found


def volume_sources(
    definition: dict[str, Any], task_id: str, volumes_root: str, file_systems: str = ""
) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Each volume's (kind, source), and the directories that must be made: for those of the task alone, and for EFS,
    whose file systems are directories under `file_systems` (empty: named volumes of the runtime)."""
    sources, directories = {}, []
    for volume in definition.get("volumes") or []:
        name = volume["name"]
        path = (volume.get("host") or {}).get("sourcePath")
        docker = volume.get("dockerVolumeConfiguration")
        if efs := volume.get("efsVolumeConfiguration"):
            sources[name] = _file_system(name, efs, file_systems)
            directories += [sources[name][1]] if sources[name][0] == "bind" else []
        elif path:
            sources[name] = ("bind", path)
        elif docker and docker.get("scope") == "shared":
            sources[name] = ("volume", name)
        elif volumes_root:
            sources[name] = ("bind", f"{volumes_root}/{task_id}/{name}")
            directories.append(sources[name][1])
        else:
            sources[name] = ("volume", f"{task_id}-{name}")
    return sources, directories


def _file_system(volume: str, given: dict[str, Any], root: str) -> tuple[str, str]:
    """An EFS file system: all tasks of a node that name it find the same files there. What its mount says of the way to
    it (transitEncryption) means nothing, for there is none."""
    identity = given["fileSystemId"]
    parts = [part for part in (given.get("rootDirectory") or "/").split("/") if part not in ("", ".")]
    if root:
        return "bind", "/".join((root, identity, *parts))
    if parts:
        raise PlanError(f"volume {volume}: a rootDirectory needs a node whose files its runtime sees")
    return "volume", f"efs-{identity}"


def mounts(
    definition: dict[str, Any], siblings: list[dict[str, Any]], sources: dict[str, tuple[str, str]]
) -> list[Mount]:
    """The container's mounts, its own and those of the containers named in volumesFrom."""
    found = []
    for point in definition.get("mountPoints") or []:
        volume = point.get("sourceVolume")
        if volume not in sources:
            raise PlanError(f"container {definition['name']}: there is no volume {volume!r}")
        kind, source = sources[volume]
        found.append(Mount(point["containerPath"], source, kind, bool(point.get("readOnly"))))
    for other in definition.get("volumesFrom") or []:
        sibling = next((s for s in siblings if s["name"] == other["sourceContainer"]), None)
        if sibling is None or sibling is definition:
            raise PlanError(f"container {definition['name']}: no container {other['sourceContainer']!r} (volumesFrom)")
        for mount in mounts({**sibling, "volumesFrom": None}, siblings, sources):
            read_only = bool(other.get("readOnly")) or mount.read_only
            found.append(msgspec.structs.replace(mount, read_only=read_only))
    return found


def shared_hosts(containers: list[dict[str, Any]]) -> dict[str, str]:
    """`links` name a sibling; here siblings share one network, so the name is the loopback."""
    links = [link for c in containers for link in c.get("links") or []]
    return {name: "127.0.0.1" for link in links for name in link.split(":")[:2]}


def linux_parameters(definition: dict[str, Any]) -> LinuxParameters:
    """linuxParameters, what can be done of it."""
    given = definition.get("linuxParameters") or {}
    capabilities = given.get("capabilities") or {}
    tmpfs = [
        Mount(t["containerPath"], kind="tmpfs", options=[f"size={t['size']}m", *(t.get("mountOptions") or [])])
        for t in given.get("tmpfs") or []
    ]
    return LinuxParameters(
        init=bool(given.get("initProcessEnabled")),
        cap_add=list(capabilities.get("add") or []),
        cap_drop=list(capabilities.get("drop") or []),
        shared_memory_mib=given.get("sharedMemorySize") or 0,
        tmpfs=tmpfs,
        max_swap_mib=given.get("maxSwap"),
        # "If a value is not specified for maxSwap then this parameter is ignored" (ECS API reference, LinuxParameters)
        swappiness=given.get("swappiness") if given.get("maxSwap") is not None else None,
    )


def namespace_modes(definition: dict[str, Any]) -> tuple[str, str]:
    """(pidMode, ipcMode), empty where nothing is said. Raises PlanError for a word that ECS does not have."""
    found = []
    for member, known in (("pidMode", ("host", "task")), ("ipcMode", ("host", "task", "none"))):
        mode = definition.get(member) or ""
        if mode and mode not in known:
            raise PlanError(f"{mode!r} is no {member}")
        found.append(mode)
    return found[0], found[1]
