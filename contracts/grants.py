"""Who may say and hear what on NATS: the permissions of each service's own user. Least privilege, in one table.

A service writes its own state and reads its own stream; what it may read of others is named here, down to the kind.
"""

from __future__ import annotations

from typing import Any

from contracts.kinds import Kind, escape
from contracts.records.agent import NODE, TASK_STATUS
from contracts.records.app_runner_gateway import INGRESS, TARGET
from contracts.records.discovery import DISCOVERY_SERVICE, NAMESPACE
from contracts.records.identity import ACCESS_KEY, MANAGED_NODE, POLICY, ROLE
from contracts.records.kms import KMS_GRANT, KMS_KEY
from contracts.records.monitor import METRIC_ALARM
from contracts.records.network import SECURITY_GROUP
from contracts.records.registry import IMAGE, IMAGE_TAG, REGISTRY_SETTINGS
from contracts.records.scanner import GATE_OVERRIDE, IMAGE_SCAN, SCAN_GATE
from contracts.records.scheduler import CONTAINER_INSTANCE, GATEWAY, SERVICE, TASK, TASK_DEFINITION
from contracts.rpc.command import Command
from contracts.rpc.discovery import PROVIDE_NAME, REMOVE_NAME
from contracts.rpc.identity import (
    ISSUE_SESSION,
    READ_REGISTRY_LOGIN,
    REGISTER_NODE,
    RESOLVE_SECRETS,
    STORE_SESSION_LOG,
)
from contracts.rpc.kms import GRANT_DATA_KEY, OPEN_DATA_KEY, RETIRE_DATA_KEY
from contracts.rpc.monitor import GET_METRICS
from contracts.rpc.registry import ISSUE_ATTACH_TOKEN, ISSUE_PULL_TOKEN
from contracts.rpc.scanner import DESCRIBE_FINDINGS, JUDGE_FINDINGS, START_SCAN
from contracts.rpc.scheduler import DELETE_WORKLOAD, PUT_WORKLOAD, SET_DESIRED_COUNT
from contracts.subjects import (
    AWS_EVENTS_STREAM,
    EVENTS_STREAM,
    EXEC_ATTACH,
    EXEC_IN,
    EXEC_OPEN,
    EXEC_OUT,
    HEARTBEATS,
    METRICS,
    NODE_LOGIN_REPLIES,
    NODE_LOGINS,
    exec_attach,
    exec_in,
    exec_open,
    exec_out,
    heartbeat,
    metrics,
    node_command,
)

OPERATOR = "operator"
USERS = (
    "scheduler",
    "agent",
    "registry",
    "identity",
    "monitor",
    "discovery",
    "scanner",
    "autoscaler",
    "app_runner_gateway",
    "events",
    "network",
    "edge",
)

READS: dict[str, tuple[Kind[Any], ...]] = {
    "scheduler": (
        ACCESS_KEY,
        NODE,
        TASK_STATUS,
        METRIC_ALARM,
        MANAGED_NODE,
        NAMESPACE,
        DISCOVERY_SERVICE,
        INGRESS,
        TARGET,
        SECURITY_GROUP,
    ),
    "agent": (TASK, TASK_DEFINITION, TARGET, SECURITY_GROUP),
    "registry": (
        ACCESS_KEY,
        TASK,
        TASK_DEFINITION,
        TASK_STATUS,
        IMAGE_SCAN,
        SCAN_GATE,
        GATE_OVERRIDE,
        MANAGED_NODE,
        CONTAINER_INSTANCE,
        KMS_KEY,
        KMS_GRANT,
    ),
    "identity": (ACCESS_KEY, TASK, TASK_DEFINITION, CONTAINER_INSTANCE),
    "monitor": (ACCESS_KEY, TASK, TASK_STATUS, NODE, SERVICE),
    "discovery": (ACCESS_KEY, SERVICE, TASK, TASK_DEFINITION, TASK_STATUS),
    "scanner": (IMAGE, REGISTRY_SETTINGS),
    "autoscaler": (ACCESS_KEY, SERVICE, METRIC_ALARM),
    "app_runner_gateway": (ACCESS_KEY, SERVICE, GATEWAY, TASK, TASK_STATUS, IMAGE_TAG),
    "network": (ACCESS_KEY, SERVICE, TASK, TASK_STATUS, NODE),
    "edge": (ACCESS_KEY, MANAGED_NODE, CONTAINER_INSTANCE),
}
"""Whose entities a service may read, beside its own."""

CALLS: dict[str, tuple[Command[Any, Any], ...]] = {
    "agent": (ISSUE_SESSION, RESOLVE_SECRETS, STORE_SESSION_LOG, ISSUE_PULL_TOKEN),
    "edge": (REGISTER_NODE,),
    "registry": (
        START_SCAN,
        DESCRIBE_FINDINGS,
        JUDGE_FINDINGS,
        READ_REGISTRY_LOGIN,
        GRANT_DATA_KEY,
        OPEN_DATA_KEY,
        RETIRE_DATA_KEY,
    ),
    "scanner": (ISSUE_PULL_TOKEN, ISSUE_ATTACH_TOKEN),
    "autoscaler": (SET_DESIRED_COUNT, GET_METRICS),
    "app_runner_gateway": (PUT_WORKLOAD, DELETE_WORKLOAD, PROVIDE_NAME, REMOVE_NAME),
}
"""Which commands it may ask for."""

PUBLISHES: dict[str, tuple[str, ...]] = {
    "agent": ("logs.>", "metrics.agent.*", HEARTBEATS, EXEC_OUT),
    "scheduler": (EXEC_OPEN, "aws.events.*.*.aws_ecs.*", f"$JS.API.DIRECT.GET.{EVENTS_STREAM}"),
    "registry": ("aws.events.*.*.aws_ecr.*",),
    "scanner": ("metrics.scanner.*",),
    "identity": (NODE_LOGIN_REPLIES,),
    "edge": (EXEC_ATTACH, EXEC_IN),
    "monitor": ("logs.>", "metrics.monitor.*", "$JS.API.STREAM.PURGE.LOGS"),
    "app_runner_gateway": ("logs.>", "metrics.app_runner_gateway.*"),
    "events": (f"$JS.API.CONSUMER.INFO.{AWS_EVENTS_STREAM}.*",),
}
"""What else it may publish."""

HEARS: dict[str, tuple[str, ...]] = {
    "agent": (EXEC_OPEN, EXEC_ATTACH, EXEC_IN),
    "identity": (NODE_LOGINS,),
    "edge": (EXEC_OUT,),
    "scheduler": (HEARTBEATS,),
    "monitor": (HEARTBEATS,),
    "autoscaler": (METRICS,),
}
"""Which core subjects it may subscribe to."""

READS_STREAMS: dict[str, tuple[str, ...]] = {
    "monitor": ("LOGS", "TRACES", "METRICS", EVENTS_STREAM),
    "events": (AWS_EVENTS_STREAM,),
}
"""Streams that are not state, which it may read with consumers and direct gets of its own."""


CONSUMES: dict[str, dict[str, tuple[Kind[Any], ...]]] = {
    "scheduler": {"telling": (TASK, TASK_STATUS, SERVICE, NODE, CONTAINER_INSTANCE)},
    "registry": {"telling": (IMAGE_SCAN,)},
    "scanner": {"images": (IMAGE,)},
    "app_runner_gateway": {"images": (IMAGE_TAG,)},
}
"""Durable consumers on EVENTS: service -> the consumer's name -> the kinds whose changes it acts on."""


def reads(user: str) -> tuple[Kind[Any], ...]:
    """What a service may read of others. Who verifies signatures also judges sessions, by their roles and policies."""
    kinds = READS.get(user, ())
    return (*kinds, ROLE, POLICY) if ACCESS_KEY in kinds else kinds


def permissions(user: str) -> dict[str, Any]:
    """The `permissions` of a user in nats-server's configuration."""
    publish = [
        f"state.{user}.>",
        "traces.*",
        "_INBOX.>",
        "_R_.>",
        "$SRV.>",
        "$JS.FC.>",
        "$JS.API.STREAM.INFO.*",
        f"$JS.API.CONSUMER.CREATE.STATE_{user.upper()}.>",
        "$JS.API.CONSUMER.DELETE.*.*",
        f"$JS.API.DIRECT.GET.STATE_{user.upper()}.>",
        *(f"$JS.API.CONSUMER.CREATE.{kind.stream}.*.{kind.prefix}.>" for kind in reads(user)),
        *(f"$JS.API.DIRECT.GET.{kind.stream}.{kind.prefix}.>" for kind in reads(user)),
        *(command.subject for command in CALLS.get(user, ())),
        *PUBLISHES.get(user, ()),
    ]
    for name, kinds in CONSUMES.get(user, {}).items():
        consumer = f"{user}-{name}"
        publish += [
            f"$JS.API.CONSUMER.CREATE.EVENTS.{consumer}",
            *(f"$JS.API.CONSUMER.CREATE.EVENTS.{consumer}.events.{kind.service}.{kind.name}.>" for kind in kinds),
            f"$JS.API.CONSUMER.MSG.NEXT.EVENTS.{consumer}",
            f"$JS.ACK.EVENTS.{consumer}.>",
        ]
    for stream in READS_STREAMS.get(user, ()):
        publish += [
            f"$JS.API.CONSUMER.CREATE.{stream}.>",
            f"$JS.API.DIRECT.GET.{stream}.>",
            f"$JS.API.DIRECT.GET.{stream}",
            f"$JS.API.CONSUMER.MSG.NEXT.{stream}.*",
            f"$JS.ACK.{stream}.>",
        ]
    subscribe = [f"_INBOX.{user}.>", f"rpc.{user}.>", f"node.*.rpc.{user}.>", "$SRV.>", *HEARS.get(user, ())]
    return {"publish": {"allow": publish}, "subscribe": {"allow": subscribe}}


def node_permissions(node: str, account: str, region: str) -> dict[str, Any]:
    """The same of an external node: what an agent may do, for this node and this account's things alone. It asks
    services on a subject of its own, so that they know whom they answer. Who asks it something, of a session of
    ExecuteCommand, it may answer: `allow_responses` is how often, and within how many seconds."""
    name, place = escape(node), f"{escape(account)}.{escape(region)}"
    tasks, own = TASK.filter(node=node), (NODE.filter(node=node), TASK_STATUS.filter(node=node))
    publish = [
        NODE.subject((node,)),
        TASK_STATUS.filter(account=account, region=region, node=node),
        heartbeat(node),
        metrics("agent", node),
        exec_out(node, "*"),
        f"logs.{place}.>",
        "traces.*",
        "$JS.FC.>",
        f"$JS.API.STREAM.INFO.{NODE.stream}",
        f"$JS.API.STREAM.INFO.{TASK.stream}",
        f"$JS.API.CONSUMER.CREATE.{TASK.stream}.*.{tasks}",
        *(f"$JS.API.CONSUMER.CREATE.{NODE.stream}.*.{each}" for each in own),
        *(f"$JS.API.DIRECT.GET.{NODE.stream}.{each}" for each in own),
        f"$JS.API.DIRECT.GET.{TASK_DEFINITION.stream}.{TASK_DEFINITION.prefix}.{place}.>",
        *(node_command(node, command.subject) for command in CALLS["agent"]),
    ]
    subscribe = [f"_INBOX.{name}.>", exec_open(node), exec_attach(node, "*"), exec_in(node, "*")]
    return {
        "publish": {"allow": publish},
        "subscribe": {"allow": subscribe},
        "allow_responses": {"max": 1, "expires_s": 60},
    }
