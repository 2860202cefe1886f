"""`roadstead up` and `roadstead down`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time

from services.cli.layout import Layout, PlatformInfo
from services.cli.node import say_no, stop_nodes
from services.shared.runner import calm_collector

READY_S = 60.0
STOP_S = 60.0


def up(layout: Layout, arguments: argparse.Namespace) -> int:
    """Start the platform in the foreground, or in the background with --detach."""
    if not 1 <= arguments.zones <= 26:
        return say_no(f"--zones {arguments.zones}: between 1 and 26, please")
    if 0 < arguments.port == arguments.registry_port:
        return say_no(f"--port and --registry-port are both {arguments.port}: the registry needs a port of its own")
    try:
        layout.prepare()
        if layout.is_running():
            return say_no(f"A platform runs on {layout.root} already; `roadstead status` tells how it is")
        if arguments.detach:
            return _detach(layout, arguments)
        lock = layout.lock()
    except OSError as error:
        return say_no(f"The platform can't live under {layout.root}: {error.strerror} ({error.filename})")
    if lock is None:
        return say_no(f"A platform runs on {layout.root} already; `roadstead status` tells how it is")
    layout.info_file.unlink(missing_ok=True)
    import uvloop

    calm_collector()
    return uvloop.run(_serve(layout, arguments))


async def _serve(layout: Layout, arguments: argparse.Namespace) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    from services.cli.platform import Platform, PlatformSettings
    from services.shared import logs
    from services.shared.errors import AwsError
    from services.shared.settings import SettingsError

    logs.configure(logs.FileSink(layout.logs), os.environ.get("ROADSTEAD_LOG_LEVEL", "info"))
    settings = PlatformSettings(
        port=arguments.port,
        registry_port=arguments.registry_port,
        https_port=_https_port(arguments),
        registry_https_port=arguments.registry_https_port,
        host=arguments.host,
        zones=arguments.zones,
        runtime=arguments.runtime,
        insecure_test_keys=arguments.insecure_test_keys,
    )
    started = time.monotonic()
    platform = Platform(layout, settings)
    try:
        info = await _until(platform.start(), stop)
        if info is not None:
            layout.write_info(info)
            print(_welcome(layout, info, time.monotonic() - started), flush=True)
            await stop.wait()
            print("stopping; tasks end too" if arguments.ephemeral else "stopping; tasks keep running", flush=True)
        else:
            print("stopped before it was up", flush=True)
    except Exception as error:
        expected = isinstance(error, AwsError | SettingsError | OSError) or hasattr(error, "reason")
        if not expected:
            logs.structlog.get_logger().exception("platform.failed")
        return say_no(f"The platform did not start: {error or type(error).__name__} (log: {layout.logs})")
    finally:
        await platform.stop()
        layout.info_file.unlink(missing_ok=True)
        if arguments.ephemeral:
            await _end_tasks(layout)
    return 0


async def _end_tasks(layout: Layout) -> int:
    """The nodes that are processes of their own first, or they would start again what ends."""
    from services.agent.ports import RuntimeFailure
    from services.cli.parts import purge

    await asyncio.to_thread(stop_nodes, layout)
    try:
        print(f"{await purge(layout.root)} tasks were stopped and removed", flush=True)
    except RuntimeFailure as failure:
        return say_no(f"Tasks could not be removed: {failure.reason}")
    return 0


async def _until(work, stop: asyncio.Event) -> PlatformInfo | None:
    """The result of `work`, or None when stopped before."""
    starting, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if starting.done():
        return starting.result()
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    return None


def _https_port(arguments: argparse.Namespace) -> int | None:
    """Who wants any port for the APIs wants any for HTTPS."""
    return 0 if arguments.https_port is None and arguments.port == 0 else arguments.https_port


def _welcome(layout: Layout, info: PlatformInfo, seconds: float) -> str:
    known = os.environ.get("ROADSTEAD_DATA") or layout.root == Layout().root
    data = "" if known else f" --data {layout.root}"
    what = f"{len(info.services)} services, {info.zones} zones, runtime {info.runtime}"
    lines = (
        f"Roadstead is up ({seconds:.1f} s): {what}",
        f"  AWS APIs   http://127.0.0.1:{info.port}",
        f"  registry   localhost:{info.registry_port}",
        f"  names      dig @127.0.0.1 -p {info.dns_port} SERVICE.NAMESPACE",
        f"  HTTPS      https://NAME.REGION.apprunner.localhost:{info.https_port}, trusted with $(roadstead ca{data})",
        f'  next       eval "$(roadstead env{data})"; aws ecs list-clusters',
    )
    return "\n".join(lines)


def _detach(layout: Layout, arguments: argparse.Namespace) -> int:
    command = [sys.executable, "-m", "services.cli", "up", "--data", str(layout.root), "--zones", str(arguments.zones)]
    command += ["--runtime", arguments.runtime, "--port", str(arguments.port)]
    command += ["--registry-port", str(arguments.registry_port), "--host", arguments.host]
    command += ["--ephemeral"] if arguments.ephemeral else []
    command += ["--https-port", str(arguments.https_port)] if arguments.https_port is not None else []
    if arguments.registry_https_port is not None:
        command += ["--registry-https-port", str(arguments.registry_https_port)]
    command += ["--insecure-test-keys"] if arguments.insecure_test_keys else []
    with open(layout.console_log, "wb") as console:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,
            cwd="/",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
    try:
        return _wait_until_up(layout, child)
    except KeyboardInterrupt:
        child.terminate()
        child.wait()
        return say_no("Stopped before it was up")


def _wait_until_up(layout: Layout, child: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and child.poll() is None:
        info = layout.read_info() if layout.info_file.exists() else None
        if info is not None and info.pid == child.pid:  # not what one before it, or beside it, wrote
            print(layout.console_log.read_text().strip())
            return 0
        time.sleep(0.02)
    text = layout.console_log.read_text().strip()
    if child.poll() is None:
        child.terminate()
        return say_no(f"The platform was not up after {READY_S:.0f} s. It said: {text or 'nothing'}")
    return say_no(text or f"The platform ended with exit code {child.returncode} before it was up")


def down(layout: Layout, *, tasks: bool = False) -> int:
    """Stop the platform that runs on this directory; with `tasks`, its containers too."""
    pid = layout.holder()
    if pid is None:
        print(f"No platform runs on {layout.root}")
    else:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        while layout.is_running():
            if time.monotonic() > deadline:
                return say_no(f"It has not stopped after {STOP_S:.0f} s (process {pid})")
            time.sleep(0.02)
        print("Roadstead is down; its tasks keep running" if not tasks else "Roadstead is down")
    if not tasks:
        return 0
    return asyncio.run(_end_tasks(layout))
