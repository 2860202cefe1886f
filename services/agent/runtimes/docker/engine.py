"""The Engine API over its socket: requests, streams, and failures in the port's words. Knows no container.

aiodocker finds the engine (DOCKER_HOST, contexts, TLS, the usual sockets), speaks its version and upgrades exec
connections; what it has no method for goes through its request functions, here and nowhere else.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import aiohttp

from services.agent.ports import NoSuchContainer, RuntimeFailure

if TYPE_CHECKING:
    from aiodocker import Docker
    from aiodocker.execs import Exec

UNREACHABLE = 900
_CONNECT = aiohttp.ClientTimeout(sock_connect=5)


class EngineError(Exception):
    """The engine refused. status is the HTTP one; 0 when it said so in the middle of a stream."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message.strip()

    @property
    def missing(self) -> bool:
        """Whether the container, image or network that was named does not exist."""
        return self.status == 404 and "no such" in self.message.lower()

    @property
    def away(self) -> bool:
        """Whether there was no answer at all."""
        return self.status == UNREACHABLE


class Engine:
    """A connection to an engine. `url` empty: the one that the docker command would use."""

    def __init__(self, url: str = "") -> None:
        self._url = url
        self._docker: Docker | None = None
        self._podman: bool | None = None

    def _client(self) -> Docker:
        if self._docker is None:
            from aiodocker import Docker  # 60 ms that a platform with another runtime need not spend

            try:
                found = Docker(self._url or None)
            except (AssertionError, ValueError) as error:
                raise EngineError(UNREACHABLE, "no Docker or Podman socket was found (set DOCKER_HOST)") from error
            # Each waiting container holds a connection, so there can't be a bound on them.
            found.connector._limit = 0
            self._docker = found
        return self._docker

    async def is_podman(self) -> bool:
        """Whether the engine is Podman, which has an API of its own beside Docker's. Asked once."""
        if self._podman is None:
            parts = (await self.call("GET", "version")).get("Components") or []
            self._podman = any(part.get("Name") == "Podman Engine" for part in parts)
        return self._podman

    async def close(self) -> None:
        """Close the connections; what is waiting in them fails."""
        if self._docker is not None:
            await self._docker.close()
            self._docker = None

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 120.0,
    ) -> Any:
        """One request and its JSON answer (None when it has none). Raises EngineError."""
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=5)
        async with self.open(method, path, params=params, body=body, headers=headers, timeout=timeout) as response:
            data = await response.read()
            return json.loads(data) if data and "json" in response.headers.get("Content-Type", "") else None

    @contextlib.asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout = _CONNECT,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A request whose answer is read while it comes; without a time limit of its own. Raises EngineError."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body)
        with translated():
            # aiodocker asks for the engine's version before the first request.
            response = await self._client()._do_query(
                path, method, params=_flat(params), data=data, headers=headers, timeout=timeout
            )
            try:
                yield response
            finally:
                response.close() if not response.content.at_eof() else response.release()

    async def progress(
        self, path: str, *, params: Mapping[str, Any], headers: Mapping[str, str] | None = None, body: Any = None
    ) -> list[dict[str, Any]]:
        """A POST that answers with one JSON object a line (pull, import); an error line is an EngineError."""
        lines: list[dict[str, Any]] = []
        async with self.open("POST", path, params=params, headers=headers, body=body) as response:
            async for line in response.content:
                if line.strip():
                    lines.append(json.loads(line))
                    if "error" in lines[-1]:
                        raise EngineError(0, str(lines[-1]["error"]))
        return lines

    @contextlib.asynccontextmanager
    async def events(self, filters: Mapping[str, list[str]]) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """What happens from now on, until the engine ends: what comes after this was entered is not missed."""

        async def each() -> AsyncIterator[dict[str, Any]]:
            async for line in response.content:
                if line.strip():
                    yield json.loads(line)

        async with self.open("GET", "events", params={"filters": filters}) as response:
            yield each()

    @contextlib.asynccontextmanager
    async def run_exec(self, exec_id: str, *, tty: bool = False) -> AsyncIterator[AsyncIterator[bytes]]:
        """Start an exec and give its output (stdout and stderr as they come)."""

        async def chunks() -> AsyncIterator[bytes]:
            while (message := await stream.read_out()) is not None:
                yield message.data

        with translated():
            stream = self.exec(exec_id, tty=tty).start()
            try:
                yield chunks()
            finally:
                with contextlib.suppress(AssertionError):  # the connection is gone already
                    await stream.close()

    def exec(self, exec_id: str, *, tty: bool) -> Exec:
        """An exec that was made, to be started and talked to."""
        from aiodocker.execs import Exec

        return Exec(self._client(), exec_id, tty)


@contextlib.contextmanager
def translated() -> Any:
    """aiodocker's and aiohttp's exceptions as EngineError."""
    from aiodocker.exceptions import DockerError

    try:
        yield
    except DockerError as error:
        raise EngineError(error.status, error.message) from error
    except TimeoutError as error:
        raise EngineError(UNREACHABLE, "the engine did not answer in time") from error
    except (aiohttp.ClientError, OSError) as error:
        raise EngineError(UNREACHABLE, f"the engine does not answer: {error}") from error


@contextlib.contextmanager
def failing_as(kind: type[RuntimeFailure], subject: str = "") -> Any:
    """EngineErrors as a failure of the port: NoSuchContainer when `subject` is what is missing."""
    try:
        yield
    except EngineError as error:
        if error.missing and "container" in error.message.lower():
            raise NoSuchContainer(f"there is no container {subject}".strip()) from error
        raise kind(error.message) from error


def registry_header(username: str, password: str, server: str) -> dict[str, str]:
    """X-Registry-Auth as the Engine API reads it: base64url of JSON. Empty without a user."""
    if not username:
        return {}
    text = json.dumps({"username": username, "password": password, "serveraddress": server})
    return {"X-Registry-Auth": base64.urlsafe_b64encode(text.encode()).decode()}


def _flat(params: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if params is None:
        return None
    return {key: value if isinstance(value, str | bool | int) else json.dumps(value) for key, value in params.items()}
