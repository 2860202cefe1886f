"""A platform of one's own on this machine: `roadstead up` on free ports, gone afterwards with all its tasks."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.testing.endpoint import Endpoint, until

HOME = Path(__file__).resolve().parents[2]
"""Where `services` is imported from: the repository, or site-packages."""
CLI = [sys.executable, "-m", "services.cli"]


class PlatformFailed(AssertionError):
    """`roadstead` ended with an error; says what it printed, and the end of every log."""


@dataclass
class Roadstead(Endpoint):
    """A platform started with `roadstead up`. `data` is its directory, `info` what it says of itself when up."""

    data: Path = field(default_factory=Path)
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def registry(self) -> str:
        """`host:port` of the registry."""
        return f"localhost:{self.info['registry_port']}"

    def command(self, *arguments: str, check: bool = True) -> str:
        """Run `roadstead` on this platform's data; what it printed. Raises PlatformFailed."""
        run = subprocess.run(
            [*CLI, *arguments, "--data", str(self.data)], cwd=HOME, capture_output=True, text=True, check=False
        )
        if check and run.returncode != 0:
            raise PlatformFailed(f"roadstead {' '.join(arguments)}: {run.stderr}{run.stdout}{self.last_words()}")
        return run.stdout

    def up(self, *options: str) -> None:
        """Start it; on the ports it had, when it ran before. Raises PlatformFailed."""
        port, registry = (str(self.info.get(name, 0)) for name in ("port", "registry_port"))
        self.command("up", "--detach", "--port", port, "--registry-port", registry, *options)
        self.info = json.loads((self.data / "platform.json").read_text())
        keys = json.loads((self.data / "credentials.json").read_text())
        self.port, self.pid = self.info["port"], self.info["pid"]
        self.access_key_id, self.secret, self.region = keys["access_key_id"], keys["secret"], keys["region"]

    def down(self) -> None:
        """Stop it, with all its tasks. Never fails: there may be nothing to stop."""
        self.command("down", "--tasks", check=False)

    def kill(self) -> None:
        """kill -9 of the platform; return when it is gone, its NATS too. Its tasks go on, for the next `up`."""
        pids = (self.pid, self.info["nats_pid"])
        os.kill(self.pid, signal.SIGKILL)
        until(lambda: not any(_lives(pid) for pid in pids))

    def environment(self) -> dict[str, str]:
        """The variables that `roadstead env` prints, on top of this process' own."""
        lines = self.command("env").splitlines()
        return {**os.environ, **dict(line.removeprefix("export ").split("=", 1) for line in lines)}

    def last_words(self) -> str:
        """The end of every log, for a failure's report."""
        logs = sorted((self.data / "logs").glob("*.log"))
        tails = ((path.name, path.read_text(errors="replace").splitlines()[-15:]) for path in logs)
        return "".join(f"\n--- {name}\n" + "\n".join(lines) for name, lines in tails)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def roadstead(*, zones: int = 3, runtime: str = "auto", options: tuple[str, ...] = ()) -> Iterator[Roadstead]:
    """A platform, up and then down with all its tasks. `runtime`: oci (root and runc, no Docker), docker, or auto;
    `options` go to `roadstead up`. Raises PlatformFailed when it does not come up."""
    data = Path(tempfile.mkdtemp(prefix="roadstead-"))
    platform = Roadstead(port=0, data=data)
    try:
        platform.up("--zones", str(zones), "--runtime", runtime, *options)
        yield platform
    finally:
        platform.down()
        shutil.rmtree(data, ignore_errors=True)
