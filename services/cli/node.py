"""`roadstead node`: one more node for the platform of this data directory, in a process of its own: it can be lost
without the platform, and the platform without it. On another machine see `external`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import signal
import string
import sys
import time
from typing import TYPE_CHECKING, Any

from services.cli.layout import Layout, PlatformInfo

if TYPE_CHECKING:
    from services.shared.bus import Bus

NAME = re.compile(r"^[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?$")
STOP_S = 20.0


def node(layout: Layout, arguments: argparse.Namespace) -> int:
    """Join and run tasks until SIGINT or SIGTERM; tasks keep running, to be adopted when the node comes back."""
    info = layout.read_info()
    if info is None and (arguments.activation_id or (layout.root / "external.json").exists()):
        from services.cli.external import external_node

        return external_node(layout, arguments)
    if info is not None and arguments.activation_id:
        return say_no(f"A platform runs on {layout.root}: to join another one takes a directory of its own (--data)")
    if info is None:
        return say_no(f"No platform runs on {layout.root}: start one with `roadstead up`")
    name = arguments.name or f"node-{arguments.zone}"
    wrong = _wrong(info, name, arguments)
    if wrong:
        return say_no(wrong)
    held = layout.lock_node(name)
    if held is None:
        return say_no(f"The node {name} runs already")
    with held:
        import uvloop

        return uvloop.run(_serve(layout, info, name, arguments))


def _wrong(info: PlatformInfo, name: str, arguments: argparse.Namespace) -> str:
    if not arguments.zone:
        return "--zone is missing: its availability zone, say us-east-1d"
    if name.startswith("mi-"):
        return f"--name {name!r}: such names are those of external nodes"
    own = {f"node-{info.region}{letter}" for letter in string.ascii_lowercase[: info.zones]}
    if not NAME.match(name):
        return f"--name {name!r}: small letters, digits and hyphens, at most 42"
    if name in own:
        return f"{name} is a node of the platform's own process; choose another --zone or --name"
    if arguments.memory < 0 or arguments.cpu < 0:
        return "--memory and --cpu are not negative"
    return ""


async def _serve(layout: Layout, info: PlatformInfo, name: str, arguments: argparse.Namespace) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    from services.cli.platform import passwords
    from services.shared import logs, telemetry
    from services.shared.bus import Bus
    from services.shared.errors import AwsError

    logs.configure(logs.FileSink(layout.logs / name), os.environ.get("ROADSTEAD_LOG_LEVEL", "info"))
    telemetry.become("agent")
    secret = passwords(layout)["agent"]
    try:
        bus = await Bus.connect(info.nats_url, "agent", user="agent", password=secret, wait_s=20)
    except AwsError as error:
        return say_no(f"{name}: {error}")
    over = asyncio.ensure_future(stop.wait())
    return await run_agent(
        layout,
        bus,
        over,
        zones=info.zones,
        zone=arguments.zone,
        node=name,
        runtime=info.runtime,
        dns=f"127.0.0.1:{info.dns_port}",
        cpu_units=arguments.cpu or None,
        memory_mib=arguments.memory or None,
    )


async def run_agent(
    layout: Layout, bus: Bus, over: asyncio.Future[Any], *, node: str, zones: int = 1, **agent: Any
) -> int:
    """Run the node's agent until `over` is done, close the bus; an exit code. `agent` is what `parts.agent` takes."""
    from services.cli import parts
    from services.cli.platform import PlatformSettings
    from services.shared.errors import AwsError
    from services.shared.runner import Host, HttpServer, start_app, stop_app
    from services.shared.settings import SettingsError

    app = server = None
    try:
        host = Host(bus, layout.root, instance=f"agent-{node}")
        app = parts.agent(host, PlatformSettings(zones=zones), node=node, **agent)
        server = HttpServer(app)
        server.bind()
        await start_app(app)
        await server.start()
        print(
            f"{node} is a node of zone {agent['zone']}; http://127.0.0.1:{server.port}/node, log {layout.logs / node}",
            flush=True,
        )
        await asyncio.wait([over])
    except (AwsError, SettingsError, OSError) as error:
        return say_no(f"{node}: {error}")
    finally:
        if server is not None:
            await server.stop()
        if app is not None:
            await stop_app(app)
        await bus.close()
    return 0


def stop_nodes(layout: Layout) -> int:
    """Stop the node processes of this data directory and wait for their end; how many there were."""
    found = layout.node_processes()
    for pid in found.values():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    while layout.node_processes() and time.monotonic() < deadline:
        time.sleep(0.02)
    return len(found)


def say_no(text: str) -> int:
    """Say why a command can't do its work; its exit code."""
    print(text, file=sys.stderr)
    return 1
