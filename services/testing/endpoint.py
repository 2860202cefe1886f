"""A server of AWS APIs, as a test uses it."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from services.testing.pushing import OciWriter, push_image

T = TypeVar("T")


def until(condition: Callable[[], T], seconds: float = 60.0, every: float = 0.01) -> T:
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
    """Where it answers, and the keys it takes."""

    port: int
    access_key_id: str = "test"
    secret: str = "test"
    pid: int = 0
    host: str = "127.0.0.1"
    region: str = "us-east-1"

    @property
    def url(self) -> str:
        """What AWS clients take as endpoint_url."""
        return f"http://{self.host}:{self.port}"

    @property
    def credentials(self) -> dict[str, str]:
        """The keys under the names that boto3 takes them."""
        return {"aws_access_key_id": self.access_key_id, "aws_secret_access_key": self.secret}

    @property
    def variables(self) -> dict[str, str]:
        """The environment that points the AWS CLI and every SDK here."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": self.region,
        }

    def client(self, api: str, **config: Any) -> Any:
        """A boto3 client that tries once; `config` as botocore's Config takes it."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            api,
            endpoint_url=self.url,
            region_name=self.region,
            config=Config(**{"retries": {"total_max_attempts": 1}, "max_pool_connections": 16, **config}),
            **self.credentials,
        )

    def signed(self, target: str, body: Mapping[str, Any], service: str = "ecs") -> bytes:
        """One signed JSON 1.1 request, as bytes to send again and again within five minutes."""
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        payload = json.dumps(body).encode()
        host = f"{self.host}:{self.port}"
        headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target, "Host": host}
        request = AWSRequest("POST", f"http://{host}/", data=payload, headers=headers)
        SigV4Auth(Credentials(self.access_key_id, self.secret), service, self.region).add_auth(request)
        lines = [f"{name}: {value}" for name, value in request.headers.items()]
        head = "\r\n".join(["POST / HTTP/1.1", *lines, f"Content-Length: {len(payload)}"])
        return f"{head}\r\n\r\n".encode() + payload

    def login(self) -> str:
        """`user:password` for the registry."""
        answer = self.client("ecr").get_authorization_token()
        return base64.b64decode(answer["authorizationData"][0]["authorizationToken"]).decode()

    def repository(self, name: str) -> str:
        """The URI of a repository, made if need be."""
        ecr = self.client("ecr")
        with contextlib.suppress(ecr.exceptions.RepositoryAlreadyExistsException):
            ecr.create_repository(repositoryName=name)
        return ecr.describe_repositories(repositoryNames=[name])["repositories"][0]["repositoryUri"]

    def push(self, image: str | Path | OciWriter, repository: str, tag: str = "1") -> str:
        """Push an image: an OCI layout (a folder, or one in a tar) or a tar of `docker save`. No Docker is needed.
        Makes the repository if need be; returns the image's URI, as task definitions take it. Raises PushFailed."""
        uri = self.repository(repository)
        push_image(image, uri, tag, self.login())
        return f"{uri}:{tag}"

    def addresses(self, service: str, cluster: str = "default") -> list[str]:
        """The private IPv4 addresses of a service's running tasks (awsvpc)."""
        ecs = self.client("ecs")
        arns = ecs.list_tasks(cluster=cluster, serviceName=service)["taskArns"]
        tasks = ecs.describe_tasks(cluster=cluster, tasks=arns)["tasks"] if arns else []
        return [
            detail["value"]
            for task in tasks
            if task["lastStatus"] == "RUNNING"
            for attachment in task["attachments"]
            for detail in attachment["details"]
            if detail["name"] == "privateIPv4Address"
        ]
