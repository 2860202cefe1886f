"""ExecuteCommand.

https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ExecuteCommand.html
"""

from __future__ import annotations

import hashlib
import secrets
import string
from urllib.parse import urlencode

import msgspec
import structlog

from contracts.aws import ecs
from contracts.records.exec import ExecAnswer, ExecOpen
from contracts.records.scheduler import Task
from contracts.subjects import exec_open
from services.scheduler.api.base import EcsBase
from services.scheduler.api.shapes import task_shape
from services.scheduler.decisions import names
from services.scheduler.decisions.execute_command import (
    NOT_ENABLED,
    choose_container,
    log_group,
    log_object,
    read_command,
)
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError, StateUnavailable

log = structlog.get_logger()

SESSION_LETTERS = string.ascii_lowercase + string.digits
NOT_CONNECTED = (
    "TargetNotConnectedException",
    "The execute command failed due to an internal error. Try again later.",
)


class ExecuteCommands(EcsBase):
    """A session in a running container. The task's agent is told to expect it; the client then comes to the edge with
    the token. Unlike ECS `interactive: false` is possible: without a terminal."""

    async def execute_command(
        self, context: RequestContext, request: ecs.ExecuteCommandRequest
    ) -> ecs.ExecuteCommandResponse:
        """A session id, where its WebSocket is, and a token that is good once, for a minute."""
        cluster = self._own_cluster(context, request.cluster)
        joined = self._find(cluster, names.last_part(request.task))
        if joined is None:
            raise AwsError("InvalidParameterException", "The referenced task was not found.")
        task, status = joined
        shape = task_shape(self.world, task, status)
        if not task.enable_execute_command or shape.last_status != "RUNNING":
            raise AwsError(*NOT_ENABLED)
        containers = {container.name or "": container for container in shape.containers or ()}
        name = choose_container(list(containers), request.container)
        if containers[name].last_status != "RUNNING":
            raise AwsError(*NOT_ENABLED)
        session = "ecs-execute-command-" + "".join(secrets.choice(SESSION_LETTERS) for _ in range(25))
        token = secrets.token_urlsafe(48)
        log_bucket, log_key = log_object(cluster.request, session)
        await self._expect(
            task.node,
            ExecOpen(
                session=session,
                token_digest=hashlib.sha256(token.encode()).hexdigest(),
                account=task.account,
                region=task.region,
                cluster=task.cluster,
                task=task.id,
                container=name,
                argv=read_command(request.command),
                tty=request.interactive,
                log_group=log_group(cluster.request),
                log_bucket=log_bucket,
                log_key=log_key,
                log_role=self._task_role(task) if log_bucket else "",
            ),
        )
        where = urlencode(
            {"role": "publish_subscribe", "node": task.node}
        )  # the edge does not know whose session it is
        return ecs.ExecuteCommandResponse(
            cluster_arn=shape.cluster_arn,
            container_arn=containers[name].container_arn,
            container_name=name,
            interactive=request.interactive,
            session=ecs.Session(
                session_id=session,
                stream_url=f"ws://{context.host}/v1/data-channel/{session}?{where}",
                token_value=token,
            ),
            task_arn=shape.task_arn,
        )

    def _task_role(self, task: Task) -> str:
        definition = self.world.definition_of(task)
        own = definition.definition.get("taskRoleArn") if definition is not None else None
        return task.overrides.get("taskRoleArn") or own or ""

    async def _expect(self, node: str, wanted: ExecOpen) -> None:
        """Have the node's agent expect the session. Raises TargetNotConnectedException."""
        try:
            reply = await self.world.bus.request(exec_open(node), msgspec.json.encode(wanted))
        except StateUnavailable:
            raise AwsError(*NOT_CONNECTED) from None
        answer = msgspec.json.decode(reply.data, type=ExecAnswer)
        if answer.refusal:
            log.warning("exec.refused", session=wanted.session, node=node, why=answer.refusal)
            raise AwsError(*NOT_CONNECTED)
