"""The endpoint inside each task at 169.254.170.2: metadata (version 4) and the task role's credentials."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Protocol

import msgspec
from aiohttp import web

from contracts.rpc.identity import Session
from services.agent.decisions.metadata import container_metadata, credentials, docker_stats, task_metadata
from services.agent.decisions.plan import ContainerPlan, TaskPlan
from services.agent.decisions.status import Run
from services.agent.ports import RuntimeFailure, Sandbox, Stats
from services.shared.bus import CommandRefused
from services.shared.errors import AwsError


class Subject(Protocol):
    """The task that is told of."""

    plan: TaskPlan
    sandbox: Sandbox
    credentials_id: str
    pulled: tuple[float | None, float | None]

    def runs(self) -> list[tuple[ContainerPlan, Run]]:
        """Its containers."""
        ...

    def states(self) -> tuple[str, str]:
        """Its desired and its known status."""
        ...

    async def stats(self, container_id: str) -> Stats:
        """What a container uses."""
        ...

    async def session(self) -> Session:
        """Credentials of its role."""
        ...


class Refusal(Exception):
    """An answer that is an error, as the ECS agent's endpoint gives it."""

    def __init__(self, code: str, message: str, status: int = 404) -> None:
        super().__init__(message)
        self.body = {"code": code, "message": message, "HTTPErrorCode": status}
        self.status = status


class TaskEndpoint:
    """Serves one task on the sockets that only its containers reach. Idle it costs nothing."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._servers: list[asyncio.Server] = []

    async def start(self, sockets: list[socket.socket]) -> None:
        """Answer on these sockets."""
        loop = asyncio.get_running_loop()
        self._protocol = web.Server(self.handle, access_log=None)
        for listener in sockets:
            listener.setblocking(False)
            self._servers.append(await loop.create_server(self._protocol, sock=listener))

    async def stop(self) -> None:
        """Close the sockets."""
        for server in self._servers:
            server.close()
        if self._servers:
            await self._protocol.shutdown(0.1)
        self._servers = []

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Answer one request."""
        try:
            if request.method not in ("GET", "HEAD"):
                raise Refusal("MethodNotAllowed", "only GET is answered here", 405)
            body, status = await self._answer(request.path.strip("/").split("/")), 200
        except Refusal as refusal:
            body, status = refusal.body, refusal.status
        except (AwsError, CommandRefused) as error:
            body, status = Refusal("CredentialsUnavailable", str(error), 503).body, 503
        except RuntimeFailure as error:
            body, status = Refusal("NotAvailable", error.reason, 404).body, 404
        return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")

    async def _answer(self, path: list[str]) -> Any:
        match path:
            case ["v2", "credentials", given]:
                return await self._credentials(given)
            case ["v4", container_id]:
                plan, run = self._container(container_id)
                subject = self._subject
                return container_metadata(subject.plan, plan, run, subject.sandbox, subject.states()[0])
            case ["v4", container_id, "task" | "taskWithTags"]:
                self._container(container_id)
                return self._task()
            case ["v4", container_id, "stats"]:
                plan, _ = self._container(container_id)
                return docker_stats(plan, await self._subject.stats(plan.id))
            case ["v4", container_id, "task", "stats"]:
                self._container(container_id)
                return await self._all_stats()
        raise Refusal("NotFound", f"there is no /{'/'.join(path)} here")

    def _container(self, container_id: str) -> tuple[ContainerPlan, Run]:
        for plan, run in self._subject.runs():
            if plan.id == container_id:
                return plan, run
        raise Refusal(
            "NotFound", f"V4 container metadata handler: unable to get container ID from request: {container_id}"
        )

    def _task(self) -> dict[str, Any]:
        subject = self._subject
        return task_metadata(subject.plan, subject.runs(), subject.sandbox, *subject.states(), subject.pulled)

    async def _all_stats(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for plan, run in self._subject.runs():
            if run.state == "RUNNING":
                found[plan.id] = docker_stats(plan, await self._subject.stats(plan.id))
        return found

    async def _credentials(self, given: str) -> dict[str, str]:
        if not self._subject.plan.task_role_arn:
            raise Refusal("NoIdInRequest", "CredentialsV2Request: the task has no role")
        if given != self._subject.credentials_id:
            raise Refusal("InvalidIdInRequest", "CredentialsV2Request: ID not found")
        return credentials(await self._subject.session())
