"""What the suites share: an address for clients, a push, and the removal of what a platform left on the engine."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.builders.images import BuiltImage
from tests.builders.platform import Endpoint

ROOT = Path(__file__).resolve().parents[2]
IMAGE = os.environ.get("ROADSTEAD_IMAGE", "roadstead:test")


@dataclass
class ContainerPlatform(Endpoint):
    """A platform whose services are containers. `nodes` is what its nodes' names begin with."""

    registry_port: int = 0
    nodes: str = "node"

    def push(self, image: BuiltImage, repository: str, tag: str = "1") -> str:
        """Make the repository if need be, push with skopeo; the image's URI."""
        ecr = self.client("ecr")
        with contextlib.suppress(ecr.exceptions.RepositoryAlreadyExistsException):
            ecr.create_repository(repositoryName=repository)
        uri = ecr.describe_repositories(repositoryNames=[repository])["repositories"][0]["repositoryUri"]
        token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
        with tempfile.TemporaryDirectory() as directory:
            layout = image.write_oci_layout(Path(directory) / "image", tag=tag)
            run(
                *("skopeo", "copy", "--quiet", "--dest-tls-verify=false"),
                *("--dest-creds", base64.b64decode(token).decode()),
                *(f"oci:{layout}:{tag}", f"docker://{uri}:{tag}"),
            )
        return f"{uri}:{tag}"

    def containers(self, *filters: str) -> list[str]:
        """The engine's ids of this platform's task containers, running ones only."""
        wanted = [word for each in filters for word in ("--filter", each)]
        shown = run("docker", "ps", "--quiet", "--no-trunc", "--filter", "label=roadstead.kind=container", *wanted)
        return [each for each in shown.split() if self._is_ours(each)]

    def _is_ours(self, container: str) -> bool:
        node = run("docker", "inspect", "--format", '{{index .Config.Labels "roadstead.node"}}', container, check=False)
        return node.startswith(self.nodes)

    def remove_tasks(self) -> None:
        """Remove every task container and sandbox that is left of this platform, and the images it pulled."""
        every = run("docker", "ps", "--all", "--quiet", "--filter", "label=roadstead.node").split()
        ours = [each for each in every if self._is_ours(each)]
        if ours:
            run("docker", "rm", "--force", "--volumes", *ours, check=False)
        forget_images(self.registry_port)


def run(*argv: str, check: bool = True, timeout_s: float = 120, environment: dict[str, str] | None = None) -> str:
    """Run a command; its output. AssertionError with what it said when it fails."""
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
    )
    assert not check or done.returncode == 0, f"{' '.join(argv)}: {done.stderr}{done.stdout}"
    return done.stdout.strip()


def forget_images(registry_port: int) -> None:
    """Remove what the engine pulled from a registry that is gone."""
    names = run("docker", "images", "--format", "{{.Repository}}:{{.Tag}}", f"localhost:{registry_port}/*/*").split()
    if names:
        run("docker", "rmi", *names, check=False)


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
