"""External nodes: they register with an activation, connect to NATS, and ask for what their own tasks may have."""

from __future__ import annotations

import structlog
from msgspec.structs import replace
from nats.aio.msg import Msg

from contracts.grants import node_permissions
from contracts.records.identity import ACTIVATION, MANAGED_NODE, ManagedNode
from contracts.records.scheduler import Task, TaskDefinition
from contracts.rpc.identity import (
    ECS_TASKS,
    IssueSession,
    NodeRegistered,
    RegisterNode,
    ResolvedSecrets,
    ResolveSecrets,
    Session,
    SessionLogStored,
    StoreSessionLog,
)
from contracts.task_definitions import environment_files, registry_secret
from services.identity.decisions.activations import admit, check
from services.identity.handlers.injection import Injection
from services.identity.handlers.objects import Objects
from services.identity.handlers.sessions import Sessions
from services.shared.clock import Clock
from services.shared.errors import AccessDenied, AwsError
from services.shared.managed_nodes import ManagedNodes
from services.shared.nats_users import Issuer, read_login
from services.shared.state import Conflict, Store

log = structlog.get_logger()

_ATTEMPTS = 32


class Nodes:
    """Lets them in, and answers them."""

    def __init__(
        self,
        store: Store,
        members: ManagedNodes,
        sessions: Sessions,
        injection: Injection,
        objects: Objects,
        issuer: Issuer,
        clock: Clock,
    ) -> None:
        self._store = store
        self._members = members
        self._sessions = sessions
        self._injection = injection
        self._objects = objects
        self._issuer = issuer
        self._clock = clock

    async def register(self, request: RegisterNode) -> NodeRegistered:
        """Give a machine a slot of its activation: one write, which fails when another took the slot. Raises
        InvalidActivation, ValidationException."""
        check(request)
        for _ in range(_ATTEMPTS):
            activation = next(
                (
                    a
                    for a in self._store.table(ACTIVATION).records()
                    if (a.activation, a.region) == (request.activation_id, request.region)
                ),
                None,
            )
            key = (activation.account, activation.region, activation.activation) if activation else ("", "", "")
            node = admit(activation, self._store.table(MANAGED_NODE).records(*key), request, self._clock())
            try:
                if self._store.table(MANAGED_NODE).record(*MANAGED_NODE.key_of(node)) is None:
                    await self._store.put(MANAGED_NODE, node, "managed_node.registered.v1", expect=0)
            except Conflict:
                await self._store.refresh(MANAGED_NODE, MANAGED_NODE.key_of(node))
                continue
            return NodeRegistered(node=node.node, account=node.account, region=node.region, cluster=node.cluster)
        raise AwsError("ServiceUnavailable", "Too many machines join at once; try again.")

    async def on_login(self, message: Msg) -> None:
        """nats-server asks whether a user that it does not know may connect: only a node that is in."""
        try:
            login = read_login(message.data)
        except ValueError as error:
            log.warning("login.unreadable", error=str(error))
            return
        options, now = login.connect_opts, self._clock()
        why = self._members.refusal(options.user, options.password)
        member = self._members.member(options.user)
        if why or member is None:
            log.warning("node.refused", node=options.user, why=why)
            await message.respond(self._issuer.refuse(login, why, now))
            return
        log.info("node.connected", node=member.node)
        permissions = node_permissions(member.node, member.account, member.region)
        await message.respond(self._issuer.admit(login, permissions, now))

    async def issue_session(self, node: str, request: IssueSession) -> Session:
        """Credentials of the role of a task that is on this node. Raises AccessDenied."""
        task, definition = await self._members.task(node, request.session_name)
        if request.role_arn not in _task_roles(task, definition):
            raise AccessDenied(f"The task {task.id} does not have the role '{request.role_arn}'.")
        return await self._sessions.for_task(replace(request, service=ECS_TASKS))

    async def resolve_secrets(self, node: str, request: ResolveSecrets) -> ResolvedSecrets:
        """The secrets of a task that is on this node, read as its execution role. Raises AccessDenied and what
        `Injection.resolve` does."""
        task, definition = await self._members.task(node, request.task)
        own = {definition.definition.get("executionRoleArn"), task.overrides.get("executionRoleArn")}
        containers = definition.definition["containerDefinitions"]
        named = {secret["valueFrom"] for container in containers for secret in container.get("secrets") or ()}
        named |= {registry_secret(container, task.account, task.region) for container in containers}
        overridden = task.overrides.get("containerOverrides") or ()
        files = {arn for each in (*containers, *overridden) for arn in environment_files(each)}
        asked = (named.issuperset(request.values_from), files.issuperset(request.environment_files))
        if request.role_arn not in own or not all(asked):
            raise AccessDenied(f"The task {task.id} has no such secrets.")
        if (request.account, request.region) != (task.account, task.region):
            raise AccessDenied(f"The task {task.id} is of another account or region.")
        return await self._injection.resolve(replace(request, service=ECS_TASKS))

    async def store_session_log(self, node: str, request: StoreSessionLog) -> SessionLogStored:
        """What a session in a task on this node wrote, put into S3 as the task's role. Raises AccessDenied and what
        `Objects.store_session_log` does."""
        task, definition = await self._members.task(node, request.task)
        if request.role_arn not in _task_roles(task, definition):
            raise AccessDenied(f"The task {task.id} does not have the role '{request.role_arn}'.")
        return await self._objects.store_session_log(replace(request, service=ECS_TASKS))

    async def deregister(self, account: str, region: str, name: str) -> ManagedNode | None:
        """Take a node out for good; None when there is none of this name. It is refused from then on."""
        found = (n for n in self._store.table(MANAGED_NODE).records(account, region) if n.node == name)
        node = next(found, None)
        if node is None:
            return None
        return await self._store.update(
            MANAGED_NODE,
            MANAGED_NODE.key_of(node),
            lambda old: old if old is None or old.status == "INACTIVE" else replace(old, status="INACTIVE"),
            "managed_node.deregistered.v1",
        )


def _task_roles(task: Task, definition: TaskDefinition) -> set[str | None]:
    return {definition.definition.get("taskRoleArn"), task.overrides.get("taskRoleArn")}
