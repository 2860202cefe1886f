"""`roadstead up` to the first answered API call, and what an idle platform costs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.figures import Figure, at_most, median
from tests.bench.load import load
from tests.bench.platforms import free_port
from tests.builders.platform import ROOT, Endpoint, roadstead

ROUNDS = 5
IDLE_S = 20.0


def first_answer() -> float:
    """Seconds from the start of the command to the first signed call that was answered."""
    data = Path(tempfile.mkdtemp(prefix="roadstead-bench-"))
    port = free_port()
    endpoint = Endpoint(port)
    began = time.monotonic()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "services.cli",
            "up",
            "--data",
            str(data),
            "--port",
            str(port),
            "--registry-port",
            "0",
            "--insecure-test-keys",
        ],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        request = endpoint.signed("AmazonEC2ContainerServiceV20141113.ListClusters", {})
        while not _answers(port, request):
            if process.poll() is not None:
                raise RuntimeError("the platform did not start")
            time.sleep(0.005)
        return time.monotonic() - began
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(data, ignore_errors=True)


def _answers(port: int, request: bytes) -> bool:
    import socket

    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as sock:
            sock.sendall(request)
            return sock.recv(15).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def resident_mib(pids: list[int]) -> float:
    """Their resident memory together (proportional: a page shared by two counts once)."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def cpu_seconds(pids: list[int]) -> float:
    """Processor time they have used."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(p for child in children for p in family(int(child)))]


def run() -> list[Figure]:
    """Start-up time, then memory and processor time while nothing runs."""
    starts = [first_answer() for _ in range(ROUNDS)]
    with roadstead() as platform:
        load(platform.port, platform.signed("AmazonEC2ContainerServiceV20141113.ListClusters", {}), seconds=1)
        time.sleep(3)
        pids = family(platform.pid)
        before = cpu_seconds(pids)
        time.sleep(IDLE_S)
        percent = (cpu_seconds(pids) - before) / IDLE_S * 100
        memory = resident_mib(pids)
    return [
        at_most("up to first answered call", median(starts), "s", 1.5),
        at_most("idle: resident memory in all", memory, "MiB", 200),
        at_most("idle: of one core", percent, "%", 2),
    ]
