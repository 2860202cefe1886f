"""A task's reported state, out of what its containers are."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable

import msgspec

from contracts.records.agent import ContainerStatus, NetworkBinding, NetworkInterface, TaskStatus
from contracts.records.scheduler import Task
from services.agent.decisions.groups import groups_of
from services.agent.decisions.health import task_health
from services.agent.decisions.plan import ContainerPlan, bindings
from services.agent.values import Exit, Sandbox

OUT_OF_MEMORY = "OutOfMemoryError: Container killed due to memory usage"
ESSENTIAL_EXITED = "Essential container in task exited"
GONE = "ContainerRuntimeError: the container did not outlive its node's restart; its exit code is not known"


class Cause(msgspec.Struct, frozen=True):
    """Why a task stops. A stop that was asked for has no code: the scheduler's record has it."""

    code: str | None = None
    reason: str | None = None


class Run(msgspec.Struct, frozen=True):
    """What is known of one container's run: what a ContainerStatus is made of."""

    state: str = "PENDING"
    image_digest: str = ""
    started_at: float | None = None
    stopped_at: float | None = None
    exit_code: int | None = None
    reason: str | None = None
    health: str = "UNKNOWN"
    restarts: int = 0


def ended(run: Run, exit: Exit) -> Run:
    """The run of a container that ended."""
    return msgspec.structs.replace(
        run,
        state="STOPPED",
        started_at=run.started_at or exit.started_at or None,
        stopped_at=exit.finished_at,
        exit_code=exit.code,
        reason=OUT_OF_MEMORY if exit.oom_killed else run.reason,
    )


def failed(run: Run, reason: str, now: float) -> Run:
    """The run of a container that never started, or of which nothing is known any more."""
    return msgspec.structs.replace(run, state="STOPPED", stopped_at=now, reason=run.reason or reason)


def exit_of(status: ContainerStatus) -> Exit | None:
    """How a container ended, as it was reported; None when it was not. It may have been removed since."""
    if status.exit_code is None:
        return None
    killed = status.reason == OUT_OF_MEMORY
    return Exit(status.exit_code, killed, status.stopped_at or 0.0, status.started_at or 0.0)


def run_of(status: ContainerStatus | None) -> Run:
    """What an agent before this one told of a container's run."""
    if status is None:
        return Run()
    return Run(
        image_digest=status.image_digest,
        started_at=status.started_at,
        health=status.health_status,
        restarts=status.restart_count,
    )


def container_status(plan: ContainerPlan, run: Run, sandbox: Sandbox | None) -> ContainerStatus:
    """A container as it is reported."""
    ports = bindings(plan, sandbox) if sandbox is not None else []
    return ContainerStatus(
        name=plan.name,
        last_status=run.state,
        runtime_id=plan.id if run.started_at else "",
        image=plan.image,
        image_digest=run.image_digest,
        exit_code=run.exit_code,
        reason=run.reason,
        health_status=run.health,
        network_bindings=[
            NetworkBinding(container_port=p.container_port, host_port=p.host_port, protocol=p.protocol) for p in ports
        ],
        started_at=run.started_at,
        stopped_at=run.stopped_at,
        essential=plan.essential,
        restart_count=run.restarts,
    )


def health_of(containers: Iterable[tuple[ContainerPlan, Run]]) -> str:
    """The task's health."""
    return task_health((plan.essential, plan.health_check is not None, run.health) for plan, run in containers)


def interface(task: Task, sandbox: Sandbox | None) -> NetworkInterface | None:
    """The task's own address. The ids have AWS' form and are always the same for one task."""
    if sandbox is None or not sandbox.ip_address:
        return None
    return NetworkInterface(
        private_ipv4=sandbox.ip_address,
        mac_address=sandbox.mac_address,
        subnet_cidr=sandbox.subnet_cidr,
        attachment_id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"attachment/{task.id}")),
        groups=groups_of(task),
        eni_id=f"eni-{hashlib.sha256(task.id.encode()).hexdigest()[:17]}",
    )


def lost(task: Task, status: TaskStatus, now: float) -> TaskStatus:
    """The end of a task that ran and of which nothing is left on the node."""
    containers = [
        c
        if c.last_status == "STOPPED"
        else msgspec.structs.replace(c, last_status="STOPPED", stopped_at=now, reason=c.reason or GONE)
        for c in status.containers
    ]
    asked = task.desired_status == "STOPPED"
    return msgspec.structs.replace(
        status,
        last_status="STOPPED",
        health_status="UNKNOWN",
        containers=containers,
        stopping_at=status.stopping_at or now,
        execution_stopped_at=status.execution_stopped_at or now,
        stopped_at=now,
        stop_code=status.stop_code or (None if asked else "EssentialContainerExited"),
        stopped_reason=status.stopped_reason or (None if asked else ESSENTIAL_EXITED),
    )
