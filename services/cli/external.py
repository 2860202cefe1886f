"""`roadstead node --activation-id …`: this machine joins a platform elsewhere (ECS Anywhere), and stays its node.

The machine makes a secret, registers with the activation, and keeps both in its data directory: it joins once, and only
connects from then on. Tasks keep running while it is cut off, and when this process ends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import secrets
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from services.cli.layout import Layout
from services.cli.node import say_no
from services.cli.uplink import Uplink
from services.shared.private_files import write_private

FILE = "external.json"
PATH = "/v1/nodes"
ASK_S = 30.0


class Registration(msgspec.Struct, kw_only=True, frozen=True):
    """What this machine is, and to whom. `node` is empty until the platform has said which one."""

    endpoint: str
    region: str
    cluster: str
    activation_id: str
    secret: str
    node: str = ""
    account: str = ""


class CannotJoin(Exception):
    """Why not, in words for a person."""


def external_node(layout: Layout, arguments: argparse.Namespace) -> int:
    """Join if this machine has not yet; run tasks until SIGINT or SIGTERM, or until the node is taken out."""
    try:
        layout.prepare()
        known = _join(layout, arguments)
    except CannotJoin as error:
        return say_no(str(error))
    except OSError as error:
        return say_no(f"The node can't live under {layout.root}: {error.strerror} ({error.filename})")
    held = layout.lock_node(known.node)
    if held is None:
        return say_no(f"The node {known.node} runs already")
    with held:
        import uvloop

        return uvloop.run(_serve(layout, known, arguments))


def _join(layout: Layout, arguments: argparse.Namespace) -> Registration:
    path = layout.root / FILE
    known = _read(path)
    if known is not None and arguments.activation_id in ("", known.activation_id):
        if known.node:
            return known
    elif not (arguments.activation_id and arguments.activation_code and arguments.endpoint):
        raise CannotJoin("A machine joins with --activation-id, --activation-code and --endpoint")
    else:
        known = Registration(
            endpoint=arguments.endpoint.rstrip("/"),
            region=arguments.region,
            cluster=arguments.cluster,
            activation_id=arguments.activation_id,
            secret=secrets.token_hex(32),
        )
        write_private(
            path, msgspec.json.encode(known)
        )  # before it is used: should the answer be lost, the same machine asks again
    if not arguments.activation_code:
        raise CannotJoin("--activation-code is needed until the machine has joined")
    answer = _ask(known, arguments.activation_code)
    joined = msgspec.structs.replace(known, node=answer["node"], account=answer["account"])
    write_private(path, msgspec.json.encode(joined))
    return joined


def _ask(known: Registration, code: str) -> dict[str, str]:
    if urlsplit(known.endpoint).scheme not in ("http", "https"):
        raise CannotJoin(f"--endpoint {known.endpoint}: http://HOST:PORT or https://HOST:PORT")
    body = {
        "activation_id": known.activation_id,
        "activation_code": code,
        "region": known.region,
        "cluster": known.cluster,
        "secret_digest": hashlib.sha256(known.secret.encode()).hexdigest(),
        "hostname": socket.gethostname(),
    }
    request = urllib.request.Request(known.endpoint + PATH, method="POST", data=json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=ASK_S) as answer:
            told: dict[str, str] = json.load(answer)
            return told
    except urllib.error.HTTPError as error:
        why = error.read().decode(errors="replace")
        with contextlib.suppress(ValueError):
            why = json.loads(why)["message"]
        raise CannotJoin(f"{known.endpoint} refused: {why}") from None
    except (OSError, ValueError) as error:
        raise CannotJoin(f"{known.endpoint} does not answer: {error}") from None


def _read(path: Path) -> Registration | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Registration)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise CannotJoin(f"{path} can't be read ({error}); delete it to join anew") from None


async def _serve(layout: Layout, known: Registration, arguments: argparse.Namespace) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    from services.cli.node import run_agent
    from services.shared import logs, telemetry
    from services.shared.bus import Bus
    from services.shared.settings import SettingsError

    logs.configure(logs.FileSink(layout.logs / known.node), os.environ.get("ROADSTEAD_LOG_LEVEL", "info"))
    telemetry.become("agent")
    uplink = Uplink(known.endpoint, known.node, known.secret)
    await uplink.start()
    over = asyncio.ensure_future(_either(stop, uplink.refused))
    connecting = asyncio.ensure_future(
        Bus.connect(uplink.url, "agent", user=known.node, password=known.secret, node=known.node)
    )
    try:
        await asyncio.wait([over, connecting], return_when=asyncio.FIRST_COMPLETED)
        if not over.done():
            code = await run_agent(layout, connecting.result(), over, **await _agent(layout, known, arguments))
            if code:
                return code
        return say_no(f"{known.node}: {uplink.refusal}; its tasks go on") if uplink.refused.is_set() else 0
    except SettingsError as error:
        return say_no(f"{known.node}: {error}")
    finally:
        over.cancel()
        while not connecting.done():  # one cancellation may get lost: see Bus._end_reconnecting
            connecting.cancel()
            await asyncio.wait([connecting], timeout=0.1)
        await uplink.stop()


async def _agent(layout: Layout, known: Registration, arguments: argparse.Namespace) -> dict[str, object]:
    from services.cli import parts

    runtime = await parts.choose_runtime(arguments.runtime)
    (layout.root / "runtime").write_text(runtime + "\n")
    return {
        "zone": arguments.zone or "external",
        "node": known.node,
        "runtime": runtime,
        "dns": "",
        "cpu_units": arguments.cpu or None,
        "memory_mib": arguments.memory or None,
        "registry": arguments.registry or urlsplit(known.endpoint).hostname or "",
        "external": True,
    }


async def _either(*events: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
