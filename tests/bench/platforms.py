"""The peers, on free ports and gone afterwards. They live in an environment of their own."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

from tests.builders.platform import ROOT, Endpoint

PEERS = ROOT / ".venv-bench"


def free_port() -> int:
    """A port that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


@contextlib.contextmanager
def peer(name: str) -> Iterator[Endpoint]:
    """`ministack` or `moto`, from an environment of their own that is made on first use."""
    install_peers()
    port = free_port()
    command = {
        "ministack": [str(PEERS / "bin/ministack")],
        "moto": [str(PEERS / "bin/moto_server"), "-H", "127.0.0.1", "-p", str(port)],
    }[name]
    home = tempfile.mkdtemp(prefix="roadstead-peer-")
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=home,
        env={**os.environ, "GATEWAY_PORT": str(port), "EDGE_PORT": str(port), "LOG_LEVEL": "ERROR"},
    )
    try:
        _wait_for_answer(port, process)
        yield Endpoint(port, pid=process.pid)
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(home, ignore_errors=True)


def install_peers() -> None:
    """The environment of the peers: made when it is needed first, and brought up to what the lock file says then."""
    lock, installed = ROOT / "deploy/requirements/bench.lock", PEERS / ".installed"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    if installed.exists() and installed.read_text() == wanted:
        return
    print("installing the peers (moto, ministack, syft) into .venv-bench", flush=True)
    subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
    subprocess.run([str(PEERS / "bin/pip"), "install", "-q", "--require-hashes", "-r", str(lock)], check=True)
    installed.write_text(wanted)


def _wait_for_answer(port: int, process: subprocess.Popen[bytes], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1)
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("the peer did not start")
