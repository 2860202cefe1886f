"""The whole platform in one container, for testcontainers. Its tasks are containers of the same engine, beside it."""

from __future__ import annotations

import contextlib
import secrets
import socket
import urllib.error
import urllib.request
from typing import Any

from testcontainers.core.container import DockerContainer

from services.testing.endpoint import Endpoint, until

IMAGE = "roadstead:local"
API_PORT = 4566
REGISTRY_PORT = 5000
READY_S = 60.0
STOP_S = 60
SOCKET = "/var/run/docker.sock"


class RoadsteadContainer(DockerContainer):
    """Started with `with RoadsteadContainer() as roadstead:`; answers as `Roadstead` does, through `endpoint`.

    It has the engine's socket, which makes it as powerful as root on the engine's machine; the host's processes and the
    capabilities are what entering a task's network takes, for the metadata and credentials endpoint. `zones` is how
    many nodes it has. At the end its tasks are stopped and removed too.
    """

    def __init__(self, image: str = IMAGE, *, zones: int = 1, **kwargs: Any) -> None:
        super().__init__(image, **kwargs)
        # The engine pulls from the registry under the name that clients use, so its port must be known beforehand.
        self.registry_port = _free_port()
        self._access_key_id = "AKIA" + "".join(secrets.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") for _ in range(16))
        self._secret = secrets.token_hex(20)
        # Of its own for each platform: the engine's containers are told apart by it.
        data = f"/data/{secrets.token_hex(4)}"
        self.with_command(
            [
                *("python3", "-m", "services.cli", "up", "--data", data, "--zones", str(zones)),
                *("--runtime", "docker", "--host", "0.0.0.0", "--ephemeral"),
            ]
        )
        self.with_envs(
            ROADSTEAD_PORT=str(API_PORT),
            ROADSTEAD_IDENTITY_ACCESS_KEY_ID=self._access_key_id,
            ROADSTEAD_IDENTITY_SECRET=self._secret,
            ROADSTEAD_REGISTRY_ADVERTISED=f"localhost:{self.registry_port}",
            ROADSTEAD_APP_RUNNER_GATEWAY_HAPROXY="",  # there is no way to the instances: CreateService says so
        )
        self.with_exposed_ports(API_PORT).with_bind_ports(REGISTRY_PORT, self.registry_port)
        self.with_volume_mapping(SOCKET, SOCKET, "rw")
        self.with_kwargs(user="0:0", pid_mode="host", cap_add=["SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE"])

    def start(self) -> RoadsteadContainer:
        """Start it; when this returns every API answers. Raises AssertionError with its log when it does not."""
        super().start()
        try:
            until(self._is_ready, READY_S, every=0.1)
        except BaseException as error:
            error.add_note(self.last_words())
            self.stop()
            raise
        return self

    def stop(self, force: bool = True, delete_volume: bool = True) -> None:
        """Stop the tasks, then the platform, then remove the container."""
        if self._container is not None:
            with contextlib.suppress(Exception):  # it may have ended; then it is only to be removed
                self._container.stop(timeout=STOP_S)
        super().stop(force, delete_volume)

    @property
    def endpoint(self) -> Endpoint:
        """Its address and keys; `client`, `push`, `addresses` and the rest are there."""
        return Endpoint(
            port=int(self.get_exposed_port(API_PORT)),
            access_key_id=self._access_key_id,
            secret=self._secret,
            host=socket.gethostbyname(self.get_container_host_ip()),
        )

    def __getattr__(self, name: str) -> Any:
        """What an Endpoint has, the container has: url, credentials, variables, client, login, push, addresses."""
        if name.startswith("_") or not hasattr(Endpoint, name):
            raise AttributeError(name)
        return getattr(self.endpoint, name)

    @property
    def registry(self) -> str:
        """`host:port` of the registry."""
        return f"localhost:{self.registry_port}"

    def last_words(self) -> str:
        """The end of its log, for a failure's report."""
        if self._container is None:
            return ""
        return self._container.logs(tail=60).decode(errors="replace")

    def _is_ready(self) -> bool:
        assert self._container is not None
        self._container.reload()
        if self._container.status in ("exited", "dead"):
            raise AssertionError("the platform ended before it was up")
        try:
            with urllib.request.urlopen(f"{self.endpoint.url}/readyz", timeout=2) as answer:
                return answer.status == 200
        except (OSError, urllib.error.HTTPError, ConnectionError):
            return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
