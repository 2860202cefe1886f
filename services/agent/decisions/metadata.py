"""What the task metadata endpoint (version 4) and the credentials endpoint answer.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v4-response.html
"""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime
from typing import Any

from contracts.records.scheduler import Task
from contracts.rpc.identity import APP_RUNNER_TASKS, ECS_TASKS, Session
from contracts.rpc.scheduler import WORKLOADS_CLUSTER
from services.agent.decisions.plan import ContainerPlan, TaskPlan, bindings, cluster_arn, container_labels, task_arn
from services.agent.decisions.status import Run
from services.agent.values import Sandbox, Stats


def stamp(seconds: float) -> str:
    """A time in RFC 3339, as Go writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def container_arn(plan: TaskPlan, container: ContainerPlan) -> str:
    """The ARN of a container of a task."""
    own = uuid.uuid5(uuid.NAMESPACE_OID, container.id)
    return task_arn(plan.task).replace(":task/", ":container/") + f"/{own}"


def _network(plan: TaskPlan, sandbox: Sandbox) -> dict[str, Any]:
    addresses = [sandbox.ip_address] if sandbox.ip_address else []
    network: dict[str, Any] = {"NetworkMode": plan.network_mode, "IPv4Addresses": addresses}
    if plan.network_mode == "awsvpc":
        network |= {
            "AttachmentIndex": 0,
            "MACAddress": sandbox.mac_address,
            "IPv4SubnetCIDRBlock": sandbox.subnet_cidr,
            "SubnetGatewayIpv4Address": f"{sandbox.gateway}/{sandbox.subnet_cidr.rpartition('/')[2]}",
            "PrivateDNSName": f"ip-{sandbox.ip_address.replace('.', '-')}.ec2.internal",
        }
    return network


def container_metadata(
    plan: TaskPlan, container: ContainerPlan, run: Run, sandbox: Sandbox, desired: str
) -> dict[str, Any]:
    """One container."""
    limits = {"CPU": container.cpu_units, **({"Memory": container.memory_mib} if container.memory_mib else {})}
    shown: dict[str, Any] = {
        "DockerId": container.id,
        "Name": container.name,
        "DockerName": f"ecs-{plan.family}-{plan.revision}-{container.name}-{plan.task.id[:20]}",
        "Image": container.image,
        "ImageID": run.image_digest,
        "Labels": {k: v for k, v in container_labels(plan, container).items() if not k.startswith("roadstead.")},
        "DesiredStatus": desired,
        "KnownStatus": run.state,
        "Limits": limits,
        "Type": "NORMAL",
        "ContainerARN": container_arn(plan, container),
        "Networks": [_network(plan, sandbox)],
    }
    shown["Ports"] = [
        {"ContainerPort": p.container_port, "Protocol": p.protocol, "HostPort": p.host_port}
        for p in bindings(container, sandbox)
    ]
    if not shown["Ports"]:
        del shown["Ports"]
    if container.logging.driver != "none":
        shown |= {"LogDriver": container.logging.driver, "LogOptions": container.logging.options}
    if run.started_at:
        shown |= {"CreatedAt": stamp(run.started_at), "StartedAt": stamp(run.started_at)}
    if run.stopped_at:
        shown["FinishedAt"] = stamp(run.stopped_at)
    if run.exit_code is not None:
        shown["ExitCode"] = run.exit_code
    if container.health_check is not None:
        shown["Health"] = {"status": run.health}
    return shown


def task_metadata(
    plan: TaskPlan,
    containers: list[tuple[ContainerPlan, Run]],
    sandbox: Sandbox,
    desired: str,
    known: str,
    pulled: tuple[float | None, float | None],
) -> dict[str, Any]:
    """The task with all its containers."""
    shown: dict[str, Any] = {
        "Cluster": cluster_arn(plan.task),
        "TaskARN": task_arn(plan.task),
        "Family": plan.family,
        "Revision": plan.revision,
        "DesiredStatus": desired,
        "KnownStatus": known,
        "AvailabilityZone": plan.task.zone,
        "LaunchType": plan.task.launch_type,
        "Containers": [container_metadata(plan, c, run, sandbox, desired) for c, run in containers],
    }
    if plan.task.service:
        shown["ServiceName"] = plan.task.service
    limits = {"CPU": plan.cpu_units / 1024} if plan.cpu_units else {}
    if plan.memory_mib:
        limits["Memory"] = plan.memory_mib
    if limits:
        shown["Limits"] = limits
    for name, at in zip(("PullStartedAt", "PullStoppedAt"), pulled, strict=True):
        if at is not None:
            shown[name] = stamp(at)
    return shown


def docker_stats(container: ContainerPlan, stats: Stats) -> dict[str, Any]:
    """What a container uses, in the shape of Docker's stats."""
    usage = {"cpu_usage": {"total_usage": stats.cpu_ns}, "online_cpus": os.cpu_count() or 1}
    return {
        "id": container.id,
        "name": container.name,
        "read": stamp(stats.time),
        "cpu_stats": usage,
        "memory_stats": {"usage": stats.memory_bytes, "limit": stats.memory_limit_bytes},
        "networks": {"eth0": {"rx_bytes": stats.network_rx_bytes, "tx_bytes": stats.network_tx_bytes}},
    }


def principal(task: Task) -> str:
    """The service that a task's roles must trust. Users have no tasks of their own in the workloads' cluster."""
    return APP_RUNNER_TASKS if task.cluster == WORKLOADS_CLUSTER else ECS_TASKS


def credentials(session: Session) -> dict[str, str]:
    """A role's temporary credentials, as the SDKs' container provider reads them."""
    return {
        "RoleArn": session.role_arn,
        "AccessKeyId": session.access_key_id,
        "SecretAccessKey": session.secret,
        "Token": session.session_token,
        "Expiration": datetime.fromtimestamp(session.expires_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
