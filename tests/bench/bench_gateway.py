"""Requests through the gateway's HAProxy against a bare one, and a push to its first served request.

`python -m tests.bench gateway`. Both proxies have the same certificate, threads and upstream (an HAProxy that answers
by itself), and take turns. The client is ab (Debian: apache2-utils).
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from services.app_runner_gateway.adapters.certificates import Authority
from services.app_runner_gateway.adapters.haproxy import connections, free_port
from services.app_runner_gateway.adapters.proxy import Proxy
from services.app_runner_gateway.decisions.proxy import CERTIFICATE, Frame, Server
from tests.bench.figures import Figure, at_least, at_most, at_most_of, median, table
from tests.builders.images import File, busybox_image
from tests.builders.platform import Roadstead, roadstead, until
from tests.builders.visitors import Visitors

HOST = "bench.us-east-1.apprunner.localhost"
THREADS = max(1, min(4, len(os.sched_getaffinity(0))))
CONNECTIONS, REQUESTS, ROUNDS, PUSHES = 32, 20_000, 15, 5

_UPSTREAM = """global
  nbthread 1
defaults
  mode http
  timeout client 60s
frontend f
  bind 127.0.0.1:{port}
  http-request return status 200 content-type text/plain string "hello"
"""
_BARE = """global
  nbthread {threads}
  maxconn {most}
  ssl-default-bind-options ssl-min-ver TLSv1.2
  tune.ssl.default-dh-param 2048
defaults
  mode http
  timeout connect 1s
  timeout client 60s
  timeout server 60s
frontend f
  bind 127.0.0.1:{port} ssl crt {certificate} alpn h2,http/1.1
  default_backend b
backend b
  balance leastconn
  server s 127.0.0.1:{upstream} maxconn 100
"""


def run() -> list[Figure]:
    """The proxy's figures, and the way from a push to a request."""
    figures = asyncio.run(_proxies()) if shutil.which("ab") else _say("ab is not installed (apache2-utils)")
    return figures + (_pushes() if os.geteuid() == 0 else _say("real containers take root"))


def _say(why: str) -> list[Figure]:
    print(f"  left out: {why}", file=sys.stderr)
    return []


async def _proxies() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="roadstead-bench-") as directory:
        folder, now = Path(directory), datetime.datetime.now(datetime.UTC)
        Authority.open(folder, now).leaf(folder / CERTIFICATE, [], now)
        upstream, bare = free_port("127.0.0.1"), free_port("127.0.0.1")
        told = {"threads": THREADS, "most": connections(), "certificate": folder / CERTIFICATE, "upstream": upstream}
        frame = Frame("127.0.0.1", free_port("127.0.0.1"), THREADS, connections(), 30.0)
        proxy = Proxy(folder, frame, "haproxy")
        with (
            _haproxy(folder / "upstream.cfg", _UPSTREAM.format(port=upstream)),
            _haproxy(folder / "bare.cfg", _BARE.format(port=bare, **told)),
        ):
            await proxy.start()
            try:
                await proxy.carry(HOST, {"t1": Server("127.0.0.1", upstream, 100)}, answers=True)
                rounds = [_round(frame.port, bare, number % 2 == 0) for number in range(ROUNDS)]
            finally:
                await proxy.stop()
    # Of the round whose ratio is the middle one: a neighbour's load hits both sides of a round alike.
    (ours, our_p99), (theirs, their_p99) = sorted(rounds, key=lambda r: r[0][0] / r[1][0])[len(rounds) // 2]
    return [
        at_least("HTTPS requests through the gateway", ours, "1/s", "bare HAProxy", theirs, 0.9),
        at_most_of("… p99", our_p99, "ms", "bare HAProxy", their_p99, 1.25),
    ]


@contextlib.contextmanager
def _haproxy(path: Path, text: str) -> Iterator[None]:
    path.write_text(text)
    program = shutil.which("haproxy", path=os.environ["PATH"] + ":/usr/sbin")
    running = subprocess.Popen([str(program), "-db", "-f", str(path)], stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        running.terminate()
        running.wait()


def _round(ours: int, bare: int, ours_first: bool) -> tuple[tuple[float, float], tuple[float, float]]:
    if ours_first:
        return _ab(ours), _ab(bare)
    theirs = _ab(bare)
    return _ab(ours), theirs


def _ab(port: int) -> tuple[float, float]:
    """(requests a second, p99 in ms) of one round. Raises RuntimeError when a request was not answered with 200."""
    command = ["ab", "-k", "-q", "-r", "-c", str(CONNECTIONS), "-n", str(REQUESTS), "-H", f"Host: {HOST}"]
    said = subprocess.run([*command, f"https://127.0.0.1:{port}/"], capture_output=True, text=True, check=True).stdout
    failed = re.search(r"Failed requests:\s+(\d+)", said), re.search(r"Non-2xx responses:\s+(\d+)", said)
    if any(found and int(found[1]) for found in failed):
        raise RuntimeError(f"the load failed: {said}")
    rate = re.search(r"Requests per second:\s+([\d.]+)", said)
    late = re.search(r"^\s+99%\s+(\d+)", said, re.MULTILINE)
    assert rate and late, said
    return float(rate[1]), float(late[1])


def _pushes() -> list[Figure]:
    """From the moment that a push has begun to the first request that the new image answers."""
    with roadstead(runtime="oci", zones=3) as platform:
        _push(platform, 0)
        client = platform.client("apprunner")
        image: dict[str, Any] = {
            "ImageIdentifier": "000000000000.dkr.ecr.us-east-1.amazonaws.com/bench/shop:live",
            "ImageRepositoryType": "ECR",
            "ImageConfiguration": {"Port": "8080"},
        }
        service = client.create_service(
            ServiceName="bench",
            SourceConfiguration={"ImageRepository": image},
            InstanceConfiguration={"Cpu": "0.25 vCPU", "Memory": "0.5 GB"},
        )["Service"]
        visitors = Visitors(platform.command("ca").strip(), service["ServiceUrl"])
        until(lambda: visitors.once() == (200, "0"), 60)
        took, arn = [], service["ServiceArn"]
        for number in range(1, PUSHES + 1):
            until(lambda: client.describe_service(ServiceArn=arn)["Service"]["Status"] == "RUNNING", 60)
            began = time.monotonic()
            _push(platform, number)
            until(lambda number=number: visitors.once() == (200, str(number)), 60)
            took.append(time.monotonic() - began)
        return [at_most("push to its first served request, App Runner, p50", round(median(took), 2), "s", 3.0)]


def _push(platform: Roadstead, number: int) -> None:
    files = {"/www/index.html": File(str(number))}
    image = busybox_image(files, command=["httpd", "-f", "-p", "8080", "-h", "/www"])
    platform.push(image, "bench/shop", tag="live")


if __name__ == "__main__":
    print(table(run()))
