"""The commands that ask a running platform: status, env, services, logs, trace."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec

from services.cli.layout import Layout, PlatformInfo

Command = Callable[[Layout, argparse.Namespace], int]
ASK_S = 10.0


def _running(layout: Layout) -> PlatformInfo:
    info = layout.read_info()
    if info is None:
        pid = layout.holder()
        beginning = f"No platform runs on {layout.root}: start one with `roadstead up`"
        if pid is not None:
            beginning = f"The platform on {layout.root} (process {pid}) is not up yet, or stops"
        print(beginning, file=sys.stderr)
        raise SystemExit(1)
    return info


def _port(info: PlatformInfo, name: str) -> int:
    return next(service.port for service in info.services if service.name == name)


def _get(port: int, path: str) -> Any:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        try:
            return json.load(error)
        except ValueError:
            raise OSError(f"port {port} answered {error.code} to {path}") from None


def ask_door(
    layout: Layout, service: str, method: str, path: str, body: Any = None, timeout: float = ASK_S
) -> tuple[int, Any]:
    """What a service's own door answers, shown its key when something is to change: (status, JSON)."""
    port = _port(_running(layout), service)
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    if body is not None:
        key = (layout.root / service / "door.key").read_text().strip()
        request.add_header("Authorization", f"Bearer {key}")
        request.data = json.dumps(body).encode()
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def env(layout: Layout, arguments: argparse.Namespace) -> int:
    """Lines for a shell to evaluate."""
    info = _running(layout)
    credentials = json.loads((layout.root / "credentials.json").read_text())
    print(f"export AWS_ENDPOINT_URL=http://127.0.0.1:{info.port}")
    print(f"export AWS_ACCESS_KEY_ID={credentials['access_key_id']}")
    print(f"export AWS_SECRET_ACCESS_KEY={credentials['secret']}")
    print(f"export AWS_DEFAULT_REGION={credentials['region']}")
    print(f"export ROADSTEAD_CA_BUNDLE={info.ca_file}")
    return 0


def ca(layout: Layout, arguments: argparse.Namespace) -> int:
    """The path of the certificate that clients of App Runner's URLs, or of the registry, are to trust."""
    info = _running(layout)
    if arguments.registry and not info.registry_ca_file:
        print("The registry has no certificate of its own: `roadstead up --registry-https-port PORT`", file=sys.stderr)
        return 1
    print(info.registry_ca_file if arguments.registry else info.ca_file)
    return 0


def services(layout: Layout, arguments: argparse.Namespace) -> int:
    """A line a service."""
    info = _running(layout)
    if arguments.json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(info)) + b"\n")
        return 0
    print(f"{'SERVICE':<20}{'WHERE':<28}{'SINCE':<22}READY")
    rows = [(s.instance, f"http://127.0.0.1:{s.port}", s.started_at, _ready(s.port)) for s in info.services]
    rows += [
        ("dns", f"127.0.0.1:{info.dns_port} (udp, tcp)", s.started_at, _ready(s.port))
        for s in info.services
        if s.name == "discovery"
    ]
    rows += [
        ("https", f"127.0.0.1:{info.https_port}", s.started_at, _ready(s.port))
        for s in info.services
        if s.name == "app_runner_gateway"
    ]
    rows += [
        ("registry over TLS", f"127.0.0.1:{info.registry_https_port}", s.started_at, _ready(s.port))
        for s in info.services
        if s.name == "registry" and info.registry_https_port
    ]
    rows.insert(0, ("nats", info.nats_url, info.started_at, _listens(info.nats_url)))
    for name, where, since, ready in rows:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since))
        print(f"{name:<20}{where:<28}{stamp:<22}{ready}")
    return 0


def _listens(url: str) -> str:
    """NATS, started again when it ended, is another process on the same port."""
    address = urlsplit(url)
    try:
        socket.create_connection((address.hostname or "", address.port or 0), timeout=2).close()
    except OSError:
        return "no: it does not answer"
    return "yes"


def _ready(port: int) -> str:
    try:
        answer = _get(port, "/readyz")
    except OSError:
        return "no: it does not answer"
    return "yes" if answer["ready"] else f"no: {answer['why']}"


def status(layout: Layout, arguments: argparse.Namespace) -> int:
    """Up or not, nodes, tasks and services. Exit code 0 when everything is ready, 3 when something is not, 1: down."""
    info = layout.read_info()
    if info is None:
        return _not_up(layout)
    not_ready = {s.instance: why for s in info.services if (why := _ready(s.port)) != "yes"}
    print(
        f"up for {_ago(time.time() - info.started_at)}, process {info.pid}, runtime {info.runtime}, data {layout.root}"
    )
    print(
        f"AWS APIs http://127.0.0.1:{info.port}, registry localhost:{info.registry_port}, DNS 127.0.0.1:{info.dns_port}"
        f", HTTPS 127.0.0.1:{info.https_port}"
    )
    state = _get(_port(info, "scheduler"), "/state")
    print(f"{'NODE':<20}{'ZONE':<14}{'CPU':<14}{'MEMORY':<18}{'TASKS':<7}KIND")
    for node in state["nodes"]:
        cpu = f"{node['cpu_reserved'] / 1024:.1f}/{node['cpu_units'] / 1024:.1f}"
        memory = f"{node['memory_reserved']}/{node['memory_mib']} MiB"
        print(f"{node['node']:<20}{node['zone']:<14}{cpu:<14}{memory:<18}{node['tasks']:<7}{_kind(node)}")
    for service in state["services"]:
        url = f", {service['url']}" if service["url"] else ""
        counts = f"{service['running']} of {service['desired']} running"
        print(f"service {service['cluster']}/{service['name']}: {counts}{url}")
    for name, why in not_ready.items():
        print(f"{name} is not ready: {why}")
    return 3 if not_ready else 0


def _kind(node: dict[str, Any]) -> str:
    return node["capacity_kind"] + (", spot taken back" if node["taken_back"] else "")


def _not_up(layout: Layout) -> int:
    pid = layout.holder()
    if pid is not None:
        print(f"starting or stopping (process {pid}, data {layout.root})")
        return 3
    if layout.has_crashed():
        print(
            f"down: it ended without being stopped (data {layout.root}). Its tasks keep running; `roadstead up` adopts"
        )
        print("them. What it said last: `roadstead logs platform`")
    else:
        print(f"down (nothing runs on {layout.root})")
    return 1


def logs(layout: Layout, arguments: argparse.Namespace) -> int:
    """The last lines of a service's log, and what follows with --follow."""
    path = layout.logs / f"{arguments.service}.log"
    if not path.exists():
        known = sorted(p.stem for p in layout.logs.glob("*.log"))
        print(f"There is no log of {arguments.service!r}; there is: {', '.join(known) or 'none yet'}", file=sys.stderr)
        return 1
    show: Callable[[str], str] = str.rstrip if arguments.json else _readable
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in deque(file, maxlen=max(0, arguments.lines)):
            print(show(line))
        while arguments.follow:
            line = file.readline()
            if line:
                print(show(line), flush=True)
                continue
            if os.stat(path).st_ino != os.fstat(file.fileno()).st_ino:
                return logs(layout, arguments)
            time.sleep(0.2)
    return 0


def _readable(line: str) -> str:
    try:
        event = json.loads(line)
    except ValueError:
        return line.rstrip()
    head = f"{event.pop('timestamp', '')[11:23]} {event.pop('level', ''):<8}{event.pop('event', '')}"
    event.pop("service", None)
    tail = event.pop("exception", "")
    return f"{head}  " + " ".join(f"{k}={v}" for k, v in event.items()) + (f"\n{tail}" if tail else "")


def trace(layout: Layout, arguments: argparse.Namespace) -> int:
    """A waterfall of one trace, or the latest traces."""
    from services.cli.waterfall import latest, waterfall

    port = _port(_running(layout), "monitor")
    if arguments.id is None:
        print(latest(_get(port, "/traces?limit=200")["traces"], reads=arguments.all))
        return 0
    spans = _get(port, f"/traces/{arguments.id.lower()}").get("spans", [])
    if not spans:
        print(f"No trace {arguments.id} is stored (spans are kept for a day)", file=sys.stderr)
        return 1
    width = os.get_terminal_size().columns if sys.stdout.isatty() else 120
    print(waterfall(spans, width))
    return 0


COMMANDS: dict[str, Command] = {
    "status": status,
    "env": env,
    "ca": ca,
    "services": services,
    "logs": logs,
    "trace": trace,
}
