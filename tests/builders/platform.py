"""A platform of one's own for flows, chaos, conformance and benchmarks: on free ports, gone afterwards."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from tests.builders.images import BuiltImage

ROOT = Path(__file__).resolve().parent.parent.parent
CLI = [sys.executable, "-m", "services.cli"]
T = TypeVar("T")

FARGATE: dict[str, Any] = {
    "launchType": "FARGATE",
    "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-local"]}},
}
"""What RunTask and CreateService want to be told of an awsvpc task."""


def until(condition: Callable[[], T], seconds: float = 30.0, every: float = 0.01) -> T:
    """The first true value of a condition. AssertionError when there was none in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(every)
    raise AssertionError(f"not true within {seconds} s: {getattr(condition, '__name__', condition)}")


@dataclass
class Endpoint:
    """A server of AWS APIs."""

    port: int
    access_key_id: str = "test"
    secret: str = "test"
    pid: int = 0

    def client(self, api: str, **config: Any) -> Any:
        """A boto3 client that tries once."""
        return boto3.client(
            api,
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name="us-east-1",
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret,
            config=Config(retries={"total_max_attempts": 1}, max_pool_connections=16, **config),
        )

    def signed(self, target: str, body: dict[str, Any], service: str = "ecs") -> bytes:
        """One signed JSON 1.1 request, as bytes to send again and again within five minutes."""
        payload = json.dumps(body).encode()
        host = f"127.0.0.1:{self.port}"
        headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target, "Host": host}
        request = AWSRequest("POST", f"http://{host}/", data=payload, headers=headers)
        SigV4Auth(Credentials(self.access_key_id, self.secret), service, "us-east-1").add_auth(request)
        lines = [f"{name}: {value}" for name, value in request.headers.items()]
        head = "\r\n".join(["POST / HTTP/1.1", *lines, f"Content-Length: {len(payload)}"])
        return f"{head}\r\n\r\n".encode() + payload


@dataclass
class Roadstead(Endpoint):
    """A platform started with `roadstead up`."""

    data: Path = field(default_factory=Path)
    info: dict[str, Any] = field(default_factory=dict)

    def command(self, *arguments: str, check: bool = True) -> str:
        """Run `roadstead` on this platform's data; what it printed."""
        run = subprocess.run(
            [*CLI, *arguments, "--data", str(self.data)], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if check and run.returncode != 0:
            raise AssertionError(f"roadstead {' '.join(arguments)}: {run.stderr}{run.stdout}{self.last_words()}")
        return run.stdout

    def up(self, *options: str) -> None:
        """Start it; on the ports it had, when it ran before."""
        port, registry = (str(self.info.get(name, 0)) for name in ("port", "registry_port"))
        self.command("up", "--detach", "--port", port, "--registry-port", registry, *options)
        self.info = json.loads((self.data / "platform.json").read_text())
        keys = json.loads((self.data / "credentials.json").read_text())
        self.port, self.pid = self.info["port"], self.info["pid"]
        self.access_key_id, self.secret = keys["access_key_id"], keys["secret"]

    def kill(self) -> None:
        """kill -9 of the platform; return when it is gone, its NATS too."""
        pids = (self.pid, self.info["nats_pid"])
        os.kill(self.pid, signal.SIGKILL)
        until(lambda: not any(_lives(pid) for pid in pids), 15)

    def environment(self) -> dict[str, str]:
        """The variables that `roadstead env` prints, on top of this process' own."""
        lines = self.command("env").splitlines()
        return {**os.environ, **dict(line.removeprefix("export ").split("=", 1) for line in lines)}

    def login(self) -> str:
        """`user:password` for the registry."""
        answer = self.client("ecr").get_authorization_token()
        return base64.b64decode(answer["authorizationData"][0]["authorizationToken"]).decode()

    def push(self, image: BuiltImage, repository: str, tag: str = "1") -> str:
        """Make the repository if need be, push with skopeo; the image's URI."""
        ecr = self.client("ecr")
        with contextlib.suppress(ecr.exceptions.RepositoryAlreadyExistsException):
            ecr.create_repository(repositoryName=repository)
        uri = ecr.describe_repositories(repositoryNames=[repository])["repositories"][0]["repositoryUri"]
        with tempfile.TemporaryDirectory() as directory:
            layout = image.write_oci_layout(Path(directory) / "image", tag=tag)
            subprocess.run(
                ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", "--dest-creds", self.login(),
                 f"oci:{layout}:{tag}", f"docker://{uri}:{tag}"],
                check=True,
            )  # fmt: skip
        return f"{uri}:{tag}"

    def last_words(self) -> str:
        """The end of every log, for a failure's report."""
        logs = sorted((self.data / "logs").glob("*.log"))
        return "".join(f"\n--- {path.name}\n" + "\n".join(path.read_text().splitlines()[-15:]) for path in logs)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def roadstead(*, zones: int = 3, runtime: str = "auto", options: tuple[str, ...] = ()) -> Iterator[Roadstead]:
    """A platform, up and then down with all its tasks."""
    data = Path(tempfile.mkdtemp(prefix="roadstead-"))
    platform = Roadstead(port=0, data=data)
    try:
        platform.up("--zones", str(zones), "--runtime", runtime, *options)
        yield platform
    finally:
        platform.command("down", "--tasks", check=False)
        shutil.rmtree(data, ignore_errors=True)


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


def processes(*argv: str) -> list[int]:
    """The processes of this machine with exactly this command line."""
    wanted = b"\0".join(part.encode() for part in argv) + b"\0"
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if (entry / "cmdline").read_bytes() == wanted:
                    found.append(int(entry.name))
    return found
