"""ECS requests and records for tests, with whatever the test is about changed."""

from __future__ import annotations

from typing import Any

import msgspec

from contracts.aws import ecs
from contracts.records.agent import ContainerStatus, Node, TaskStatus
from contracts.records.scheduler import Deployment, Service, Task, TaskSet
from services.shared.aws.context import RequestContext

ACCOUNT, REGION = "000000000000", "us-east-1"
AWSVPC = {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}


def context(operation: str = "", account: str = ACCOUNT) -> RequestContext:
    """A caller."""
    return RequestContext(
        account, REGION, f"arn:aws:iam::{account}:root", account, "AKIA", False, "r-1", "", "ecs", operation, ""
    )


def container(name: str = "web", **members: Any) -> dict[str, Any]:
    """A container definition in wire form."""
    return {"name": name, "image": "busybox", "memory": 64, **members}


def register(family: str = "web", *containers: dict[str, Any], **members: Any) -> ecs.RegisterTaskDefinitionRequest:
    """RegisterTaskDefinition, of one container if none is given."""
    given = {"family": family, "containerDefinitions": list(containers) or [container()], **members}
    return msgspec.convert(given, ecs.RegisterTaskDefinitionRequest)


def node(name: str = "n1", zone: str = "us-east-1a", **members: Any) -> Node:
    """A node of 4 cores and 8 GiB."""
    given = {"cpu_units": 4096, "memory_mib": 8192, "registered_at": 1.0, "session": "s1", **members}
    return Node(node=name, zone=zone, **given)


def task(task_id: str = "t1", **members: Any) -> Task:
    """A task that is wanted to run."""
    given = {
        "account": ACCOUNT,
        "region": REGION,
        "cluster": "main",
        "node": "n1",
        "task_definition": "web:1",
        "desired_status": "RUNNING",
        "created_at": 100.0,
        **members,
    }
    return Task(id=task_id, **given)


def status(of: Task, last_status: str = "RUNNING", *, exit_code: int | None = None, **members: Any) -> TaskStatus:
    """What the agent says of a task of one container."""
    given = {"containers": [ContainerStatus(name="web", exit_code=exit_code, last_status=last_status)], **members}
    return TaskStatus(
        account=of.account,
        region=of.region,
        cluster=of.cluster,
        node=of.node,
        task=of.id,
        last_status=last_status,
        **given,
    )


def deployment(deployment_id: str = "d1", **members: Any) -> Deployment:
    """A deployment, the first one unless told otherwise."""
    given = {
        "status": "PRIMARY",
        "task_definition": "web:1",
        "desired_count": 0,
        "created_at": 1.0,
        "updated_at": 1.0,
        **members,
    }
    return Deployment(id=deployment_id, **given)


def task_set(set_id: str = "s1", **members: Any) -> TaskSet:
    """A task set of all that is wanted."""
    given = {"status": "ACTIVE", "task_definition": "web:1", "scale": 100.0, "created_at": 1.0, "updated_at": 1.0}
    return TaskSet(id=set_id, **{**given, **members})


def service(desired: int, *deployments: Deployment, minimum: int = 100, maximum: int = 200, **members: Any) -> Service:
    """A service named web with these limits. `request` adds members in wire form."""
    configuration = {"minimumHealthyPercent": minimum, "maximumPercent": maximum, **members.pop("configuration", {})}
    return Service(
        account=ACCOUNT,
        region=REGION,
        cluster="main",
        name="web",
        status=members.pop("status", "ACTIVE"),
        created_at=1.0,
        desired_count=desired,
        deployments=list(deployments) or [deployment()],
        request={"deploymentConfiguration": configuration, **members.pop("request", {})},
        **members,
    )
