"""The platform of users' tests (services.testing), and what the flows, chaos, conformance and benchmarks add to it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from services.testing.endpoint import Endpoint, until
from services.testing.platform import CLI, Roadstead, roadstead
from tests.builders.images import BuiltImage

__all__ = [
    "FARGATE",
    "ROOT",
    "Endpoint",
    "Roadstead",
    "busy_when_told",
    "node_process",
    "processes",
    "roadstead",
    "skopeo_push",
    "sleeper",
    "until",
]

ROOT = Path(__file__).resolve().parent.parent.parent

FARGATE: dict[str, Any] = {
    "launchType": "FARGATE",
    "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-local"]}},
}
"""What RunTask and CreateService want to be told of an awsvpc task."""


def skopeo_push(platform: Endpoint, image: BuiltImage, repository: str, tag: str = "1") -> str:
    """As `platform.push`, with skopeo; the image's URI."""
    uri = platform.repository(repository)
    with tempfile.TemporaryDirectory() as directory:
        layout = image.write_oci_layout(Path(directory) / "image", tag=tag)
        subprocess.run(
            ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", "--dest-creds", platform.login(),
             f"oci:{layout}:{tag}", f"docker://{uri}:{tag}"],
            check=True,
        )  # fmt: skip
    return f"{uri}:{tag}"


@contextlib.contextmanager
def node_process(data: Path, zone: str, *options: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A node of this zone as a process of its own, for the platform of a directory; killed at the end if it still
    runs."""
    command = [*CLI, "node", "--zone", zone, "--data", str(data), *options]
    node = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, **environment},
    )
    assert node.stdout is not None
    try:
        assert f"is a node of zone {zone}" in node.stdout.readline()
        yield node
    finally:
        node.kill()
        node.wait()
        node.stdout.close()


def sleeper(uri: str, *command: str, **members: Any) -> dict[str, Any]:
    """RegisterTaskDefinition's arguments for one small Fargate container; `members` go into the container."""
    container = {
        "name": "main",
        "image": uri,
        "essential": True,
        "command": list(command or ("sleep", "3600")),
        "stopTimeout": 2,
        **members,
    }
    return {
        "family": "sleeper",
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "256",
        "memory": "512",
        "containerDefinitions": [container],
    }


def busy_when_told(uri: str, load: Path) -> dict[str, Any]:
    """RegisterTaskDefinition's arguments for a container (family `busy`) that uses what it gets of the processor as
    long as the folder `load` has a file `on`."""
    work = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"
    container = {
        "name": "main",
        "image": uri,
        "command": ["sh", "-c", f"while :; do if [ -e /load/on ]; then {work}; else sleep 0.2; fi; done"],
        "stopTimeout": 2,
        "mountPoints": [{"sourceVolume": "load", "containerPath": "/load"}],
    }
    return {
        "family": "busy",
        "cpu": "256",
        "memory": "128",
        "volumes": [{"name": "load", "host": {"sourcePath": str(load)}}],
        "containerDefinitions": [container],
    }


def processes(data: Path, *argv: str) -> list[int]:
    """The processes with exactly this command line that the platform of this directory keeps: others on this machine
    may run the same. What a container forked is none of them."""
    wanted, keeper = _command_line(argv), f"{data}/".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if (entry / "cmdline").read_bytes() == wanted and keeper in _parent(entry):
                    found.append(int(entry.name))
    return found


def _command_line(argv: Sequence[str]) -> bytes:
    return b"".join(part.encode() + b"\0" for part in argv)


def _parent(process: Path) -> bytes:
    """The command line of its parent: of a container's first process that is its keeper, which names its bundle."""
    _, _, fields = (process / "stat").read_text().rpartition(")")
    return (process.parent / fields.split()[1] / "cmdline").read_bytes()
