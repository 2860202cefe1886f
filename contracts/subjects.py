"""The subjects that are not an entity's own (those are `contracts.kinds`)."""

import re

from contracts.kinds import escape

EVENTS_STREAM = "EVENTS"
LOGS_STREAM = "LOGS"
TRACES_STREAM = "TRACES"
METRICS_STREAM = "METRICS"
AWS_EVENTS_STREAM = "AWS_EVENTS"

HEARTBEATS = "heartbeat.agent.*"

METRICS = "metrics.*.*"
"""Every batch of measurements, as it comes: for who only wants to know that something came."""


def heartbeat(node: str) -> str:
    """Where an agent says, every few seconds, that its node is alive. Core NATS: nothing is stored."""
    return f"heartbeat.agent.{escape(node)}"


def event(service: str, kind: str = "*") -> str:
    """A filter on EVENTS: what changed in one service's entities. Each message has the header `Event`."""
    return f"events.{service}.{kind}.>"


def aws_event(account: str = "*", region: str = "*", source: str = "*", detail_type: str = "*") -> str:
    """Where an event in EventBridge's form is told (contracts.records.events.AwsEvent), or a filter on such.

    Readable rather than exact: `aws.events.000000000000.us-east-1.aws_ecs.ECS_Task_State_Change`; the message has the
    true words.
    """
    tokens = (account, region, source, detail_type)
    return ".".join(("aws.events", *(t if t == "*" else re.sub(r"[^A-Za-z0-9_-]+", "_", t) for t in tokens)))


def log_stream(account: str, region: str, group: str, stream: str) -> str:
    """The subject that holds a CloudWatch Logs stream: one message a batch (contracts.records.logs.LogBatch)."""
    return f"logs.{escape(account)}.{escape(region)}.{escape(group)}.{escape(stream)}"


def trace(trace_id: str) -> str:
    """The subject that holds the finished spans of one trace (contracts.records.traces.SpanBatch)."""
    return f"traces.{trace_id}"


def metrics(source: str, instance: str) -> str:
    """Where an instance of a service says what it measured: a UsageBatch from agents, else a MetricBatch."""
    return f"metrics.{source}.{escape(instance)}"


NODE_LOGINS = "$SYS.REQ.USER.AUTH"
NODE_LOGIN_REPLIES = "$SYS._INBOX.>"
"""Where nats-server asks whether a user that is not in its configuration may connect: an external node."""


def node_command(node: str, subject: str) -> str:
    """Where an external node asks for a command (`Command.subject`)."""
    return f"node.{escape(node)}.{subject}"


EXEC_OPEN = "exec.open.*"
EXEC_ATTACH = "exec.attach.*.*"
EXEC_IN = "exec.in.*.*"
EXEC_OUT = "exec.out.*.*"
"""Sessions of ExecuteCommand, core NATS (contracts.records.exec). The node is in each, so that an external one has its
own alone; `*` for a session is all of its node."""


def exec_open(node: str) -> str:
    """Where a node's agent is asked to expect a session (ExecOpen -> ExecAnswer)."""
    return f"exec.open.{escape(node)}"


def exec_attach(node: str, session: str) -> str:
    """Where the agent that expects a session hears of its client (ExecAttach -> ExecAnswer)."""
    return f"exec.attach.{_of_node(node, session)}"


def exec_in(node: str, session: str) -> str:
    """What a session's client sends: messages of the data channel."""
    return f"exec.in.{_of_node(node, session)}"


def exec_out(node: str, session: str) -> str:
    """What is sent to a session's client: messages of the data channel."""
    return f"exec.out.{_of_node(node, session)}"


def _of_node(node: str, session: str) -> str:
    return f"{escape(node)}.{session if session == '*' else escape(session)}"
