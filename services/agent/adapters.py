"""What the agent needs from outside: a runtime for this machine, images with leave to pull them, roles' sessions."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import socket
from collections.abc import Iterable
from pathlib import Path

import msgspec

from contracts.records.scheduler import Task
from contracts.rpc.identity import ISSUE_SESSION, RESOLVE_SECRETS, IssueSession, ResolveSecrets, Session
from contracts.rpc.registry import ISSUE_PULL_TOKEN, IssuePullToken, PullToken
from services.agent.decisions.members import PlanError
from services.agent.decisions.metadata import principal
from services.agent.ports import CannotPullContainerError, Image, RegistryAuth, RegistryAway, Runtime
from services.agent.settings import AgentSettings
from services.shared.bus import Bus, CommandRefused
from services.shared.clock import Clock
from services.shared.errors import StateUnavailable
from services.shared.sealing import Asker, CannotOpen
from services.shared.settings import SettingsError

DOCKER_SOCKETS = ("/var/run/docker.sock", "/run/podman/podman.sock")
RENEW_BEFORE_S = 600.0
PULL_AGAIN_S = 0.5


async def choose_runtime(wanted: str) -> str:
    """`oci` or `docker`: the one that is wanted, or for `auto` the one that this machine has, oci first.
    Raises SettingsError when it has neither, with what to install."""
    if wanted in ("oci", "docker"):
        return wanted
    if wanted != "auto":
        raise SettingsError(f"runtime {wanted!r} is none of auto, oci, docker")
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"  # where Debian has runc, and `su` without `-` does not look
    if os.geteuid() == 0 and shutil.which("runc", path=path):
        return "oci"
    if os.environ.get("DOCKER_HOST") or any(Path(path).exists() for path in DOCKER_SOCKETS):
        return "docker"
    raise SettingsError(
        "no container runtime: install runc and conmon (apt-get install runc conmon) and run as root, or start a "
        "Docker engine"
    )


def make_runtime(settings: AgentSettings, data: Path) -> Runtime:
    """The runtime that `settings.runtime` names (oci or docker; see choose_runtime), imported on use. `data` may be
    shared by all agents of a machine: images are, the rest lies under the node's name. Raises SettingsError."""
    node = node_name(settings)
    if settings.runtime == "docker":
        from services.agent.runtimes.docker import DockerRuntime

        return DockerRuntime(node, url=settings.docker_host, home=data, dns=settings.dns)
    if settings.runtime == "oci":
        from services.agent.runtimes.oci import OciRuntime
        from services.agent.runtimes.oci.settings import OciSettings

        oci = OciSettings(dns=settings.dns)
        return OciRuntime(data / "nodes" / node, node, subnet=settings.subnet, images_dir=data / "images", settings=oci)
    raise SettingsError(f"runtime {settings.runtime!r} is neither oci nor docker")


def node_name(settings: AgentSettings) -> str:
    """The node's name."""
    return settings.node or socket.gethostname()


def machine_size(settings: AgentSettings) -> tuple[int, int]:
    """(cpu units, MiB) that tasks may reserve here. A share has at least one core, if the machine has: processor time
    is elastic, and a task of 1 vCPU must fit on a laptop of two cores and three zones. Memory is divided strictly."""
    shares = max(settings.shares, 1)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    cores = len(os.sched_getaffinity(0)) * 1024
    cpu = settings.cpu_units or max(cores // shares, min(cores, 1024))
    return cpu, settings.memory_mib or memory // shares


def volumes_root(settings: AgentSettings, runtime: Runtime, own: Path) -> str:
    """Where the volumes of one task alone lie; empty for named volumes of the runtime, when the engine does not see
    this file system (an agent that is a container itself)."""
    inside = runtime.name == "docker" and Path("/.dockerenv").exists()
    named = settings.task_volumes == "named" or (settings.task_volumes == "auto" and inside)
    return "" if named else str((own / "volumes").resolve())


class Images:
    """Pulls what task definitions name, with the registry's leave for what is its own."""

    def __init__(
        self, bus: Bus, runtime: Runtime, behaviour: str = "default", *, wait_s: float = 30.0, registry: str = ""
    ) -> None:
        self._bus = bus
        self._runtime = runtime
        self._behaviour = behaviour
        self._wait_s = wait_s
        self._registry = registry

    async def pull(self, image: str, task: Task, login: RegistryAuth | None = None) -> Image:
        """The image of a task on this node; `login` is for a registry that is not the platform's own. Raises
        CannotPullContainerError."""
        request = IssuePullToken(
            image=image, account=task.account, region=task.region, task=task.id, cluster=task.cluster
        )
        deadline = asyncio.get_running_loop().time() + self._wait_s
        while True:
            token = await self._token(request)
            try:
                return await self._with(token, login)
            except RegistryAway:
                # Between its leave and the last layer the platform's own registry may be started anew.
                if not token.local or asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(PULL_AGAIN_S)

    async def _with(self, token: PullToken, login: RegistryAuth | None) -> Image:
        auth = RegistryAuth(token.username, token.password, token.insecure) if token.local else login
        always = self._behaviour != "prefer-cached"
        try:
            if token.pinned:  # the registry has said what the tag means now, so what is here need not be asked for
                return await self._runtime.pull(token.pinned, auth, always=False)
            return await self._runtime.pull(token.image, auth, always=always)
        except CannotPullContainerError as error:
            if self._behaviour != "default" or token.local:
                raise
            try:
                return await self._runtime.pull(token.image, auth, always=False)
            except CannotPullContainerError:
                raise error from None

    async def _token(self, request: IssuePullToken) -> PullToken:
        """A registry that is away for a moment is waited for."""
        try:
            token = await self._bus.call_again(ISSUE_PULL_TOKEN, request, within_s=self._wait_s)
            return reached_at(token, self._registry)
        except CommandRefused as refused:
            raise CannotPullContainerError(f"{refused.code}: {refused.message}") from refused
        except StateUnavailable as error:
            raise CannotPullContainerError(f"the registry does not answer: {error.message}") from error


def reached_at(token: PullToken, registry: str) -> PullToken:
    """The token with the registry's host as it is called from here; with its port too, if that is given."""
    if not registry or not token.local:
        return token

    def moved(reference: str) -> str:
        address, slash, path = reference.partition("/")
        _, colon, port = address.partition(":")
        return f"{registry}{slash}{path}" if ":" in registry else f"{registry}{colon}{port}{slash}{path}"

    pinned = moved(token.pinned) if token.pinned else ""
    return msgspec.structs.replace(token, image=moved(token.image), pinned=pinned)


class Sessions:
    """The credentials of one task's role, asked for when a container asks, and again before they end."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._held: dict[tuple[str, str], Session] = {}
        self._asking: dict[tuple[str, str], asyncio.Lock] = {}

    async def of(self, role_arn: str, task: Task) -> Session:
        """A session with at least ten minutes left. Raises CommandRefused, StateUnavailable."""
        key = (role_arn, task.id)
        async with self._asking.setdefault(key, asyncio.Lock()):
            held = self._held.get(key)
            if held is None or held.expires_at - self._clock() < RENEW_BEFORE_S:
                request = IssueSession(role_arn=role_arn, session_name=task.id, service=principal(task))
                held = self._held[key] = await self._bus.call(ISSUE_SESSION, request)
        return held

    def drop(self, task_id: str) -> None:
        """The task is over."""
        for key in [k for k in self._held if k[1] == task_id]:
            del self._held[key]
        for key in [k for k in self._asking if k[1] == task_id]:
            del self._asking[key]


class RegistryLogin(msgspec.Struct, frozen=True):
    """What the secret of a private registry holds, as JSON.
    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/private-auth.html"""

    username: str
    password: str


class Secrets:
    """The values of containers' `secrets`, and the logins of private registries. They come sealed, are kept nowhere,
    and are in no message of an error."""

    def __init__(self, bus: Bus, *, wait_s: float = 30.0) -> None:
        self._bus = bus
        self._wait_s = wait_s

    async def of(
        self, task: Task, role_arn: str, values_from: Iterable[str], files: Iterable[str] = ()
    ) -> dict[str, str]:
        """valueFrom -> value, and the ARN of an environment file -> its text. Raises PlanError, with the reason in ECS'
        words."""
        if not role_arn:
            raise PlanError("a task whose containers have secrets or environmentFiles must have an executionRoleArn")
        asker = Asker()
        request = ResolveSecrets(
            role_arn=role_arn,
            task=task.id,
            account=task.account,
            region=task.region,
            values_from=sorted(set(values_from)),
            environment_files=sorted(set(files)),
            public_key=base64.b64encode(asker.public).decode(),
            service=principal(task),
        )
        try:
            reply = await self._bus.call_again(RESOLVE_SECRETS, request, within_s=self._wait_s)
            return msgspec.json.decode(asker.open(base64.b64decode(reply.sealed), task.id), type=dict[str, str])
        except CommandRefused as refused:
            raise PlanError(refused.message) from None
        except CannotOpen:
            raise PlanError("the values of the secrets can't be opened") from None
        except StateUnavailable as error:
            raise PlanError(f"secrets are not to be had: identity does not answer: {error.message}") from None

    async def login(self, task: Task, role_arn: str, secret: str) -> RegistryAuth:
        """The login of a private registry, out of the secret with this ARN. Raises PlanError."""
        value = (await self.of(task, role_arn, [secret]))[secret]
        try:
            found = msgspec.json.decode(value, type=RegistryLogin)
        except msgspec.MsgspecError:
            raise PlanError(
                "unable to pull secrets or registry auth: execution resource retrieval failed: unable to retrieve "
                f"registry auth from asm: the secret {secret} is no JSON object with username and password"
            ) from None
        return RegistryAuth(found.username, found.password)
