"""Each service, made as it stands in a platform of one process. Importing this module imports them all."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from services.agent.adapters import choose_runtime, make_runtime
from services.agent.app import AgentApp
from services.agent.settings import AgentSettings
from services.app_runner_gateway.adapters.haproxy import end as end_haproxy
from services.app_runner_gateway.app import AppRunnerGatewayApp
from services.app_runner_gateway.settings import AppRunnerGatewaySettings
from services.autoscaler.app import AutoscalerApp
from services.autoscaler.settings import AutoscalerSettings
from services.discovery.app import DiscoveryApp
from services.discovery.settings import DiscoverySettings
from services.edge.adapters import LocalUpstream
from services.edge.app import EdgeApp
from services.edge.ports import Upstream
from services.edge.settings import EdgeSettings
from services.events.app import EventsApp
from services.events.settings import EventsSettings
from services.identity.app import IdentityApp
from services.identity.settings import IdentitySettings
from services.monitor.app import MonitorApp
from services.monitor.settings import MonitorSettings
from services.network.app import NetworkApp
from services.network.settings import NetworkSettings
from services.registry.app import RegistryApp
from services.registry.settings import RegistrySettings
from services.scanner.app import ScannerApp
from services.scanner.settings import ScannerSettings
from services.scheduler.app import SchedulerApp
from services.scheduler.settings import SchedulerSettings
from services.shared.runner import App, Host
from services.shared.s3 import S3Settings
from services.shared.settings import load

if TYPE_CHECKING:
    from services.cli.platform import PlatformSettings

MINIMUM_CPU_UNITS = 8192

__all__ = [
    "agent",
    "app_runner_gateway",
    "autoscaler",
    "choose_runtime",
    "discovery",
    "edge",
    "events",
    "identity",
    "monitor",
    "network",
    "purge",
    "registry",
    "scanner",
    "scheduler",
]


def identity(host: Host, settings: PlatformSettings) -> App:
    """Keys and sessions."""
    own = load(IdentitySettings, "ROADSTEAD_IDENTITY_", insecure_test_keys=settings.insecure_test_keys or None)
    return IdentityApp(host, own, load(S3Settings, "ROADSTEAD_S3_"))


def registry(host: Host, settings: PlatformSettings) -> RegistryApp:
    """Images; listens on the registry's own port, and on one for TLS where it is to have one."""
    own = load(RegistrySettings, "ROADSTEAD_REGISTRY_", https_port=settings.registry_https_port)
    return RegistryApp(host, own)


def monitor(host: Host, settings: PlatformSettings) -> App:
    """Logs and traces."""
    return MonitorApp(host, load(MonitorSettings, "ROADSTEAD_MONITOR_"))


def scheduler(host: Host, settings: PlatformSettings) -> App:
    """ECS."""
    return SchedulerApp(host, load(SchedulerSettings, "ROADSTEAD_SCHEDULER_"))


def discovery(host: Host, settings: PlatformSettings) -> DiscoveryApp:
    """Cloud Map and the DNS; started before the agents, whose tasks resolve through it."""
    return DiscoveryApp(host, load(DiscoverySettings, "ROADSTEAD_DISCOVERY_"))


def scanner(host: Host, settings: PlatformSettings) -> App:
    """Scans of images, gates."""
    return ScannerApp(host, load(ScannerSettings, "ROADSTEAD_SCANNER_"))


def autoscaler(host: Host, settings: PlatformSettings) -> App:
    """Application Auto Scaling."""
    return AutoscalerApp(host, load(AutoscalerSettings, "ROADSTEAD_AUTOSCALER_"))


def events(host: Host, settings: PlatformSettings) -> App:
    """Webhooks."""
    return EventsApp(host, load(EventsSettings, "ROADSTEAD_EVENTS_"))


def network(host: Host, settings: PlatformSettings) -> App:
    """Security groups, and what else of EC2's API tells of the tasks' network."""
    return NetworkApp(host, load(NetworkSettings, "ROADSTEAD_NETWORK_"))


def app_runner_gateway(host: Host, settings: PlatformSettings) -> AppRunnerGatewayApp:
    """App Runner and its HTTPS port."""
    own = load(AppRunnerGatewaySettings, "ROADSTEAD_APP_RUNNER_GATEWAY_", https_port=settings.https_port)
    return AppRunnerGatewayApp(host, own)


def agent(
    host: Host,
    settings: PlatformSettings,
    *,
    zone: str,
    runtime: str,
    dns: str,
    node: str = "",
    cpu_units: int | None = None,
    memory_mib: int | None = None,
    registry: str = "",
    external: bool = False,
) -> App:
    """The node of one zone: an equal share of this machine's memory, and its processors as long as they are free.

    Memory can't be promised twice; time can, so every zone offers all processors, and at least MINIMUM_CPU_UNITS: a
    task definition of 2 vCPU is to run on a laptop too, only slower.
    """
    own = load(
        AgentSettings,
        "ROADSTEAD_AGENT_",
        node=node or f"node-{zone}",
        zone=zone,
        runtime=runtime,
        shares=settings.zones,
        dns=dns,
        cpu_units=cpu_units,
        memory_mib=memory_mib,
        registry=registry or None,
        external=external or None,
    )
    if not own.cpu_units:
        whole = len(os.sched_getaffinity(0)) * 1024
        own = msgspec.structs.replace(own, cpu_units=max(whole, MINIMUM_CPU_UNITS))
    return AgentApp(host, own, make_runtime(own, host.data))


async def purge(data: Path) -> int:
    """Give up every node that lives under `data`, with all its tasks; how many tasks there were. Raises RuntimeFailure
    when a runtime that was used can't work (its engine is away). What carried requests to them ends too."""
    end_haproxy(data / "app_runner_gateway")
    removed = 0
    for node in sorted(path.name for path in (data / "agent").glob("*")):
        for runtime in _used_by(data, node):
            engine = make_runtime(load(AgentSettings, "ROADSTEAD_AGENT_", node=node, runtime=runtime), data)
            try:
                await engine.start()
                removed += len(await engine.sandboxes())
                await engine.destroy()
            finally:
                await engine.aclose()
    return removed


def _used_by(data: Path, node: str) -> list[str]:
    """The runtimes that may have tasks of a node: the last one, and oci when it ever ran."""
    last = data / "runtime"
    docker = last.exists() and last.read_text().strip() == "docker"
    return ["oci"] * (data / "nodes" / node).exists() + ["docker"] * docker


def edge(host: Host, settings: PlatformSettings, apps: Sequence[App]) -> App:
    """One endpoint for every API, the services being next door."""

    def local() -> Mapping[str, Upstream]:
        return {app.name: LocalUpstream(app.aws_server) for app in apps if app.aws_server is not None}

    return EdgeApp(host, load(EdgeSettings, "ROADSTEAD_EDGE_"), local)
