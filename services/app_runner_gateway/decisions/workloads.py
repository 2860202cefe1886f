"""The task definition of a revision's instances."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any

from contracts.records.app_runner_gateway import AppService, Revision
from contracts.records.scheduler import Service
from services.app_runner_gateway.decisions.names import log_group, service_arn
from services.app_runner_gateway.decisions.plan import Plan, Put

CONTAINER = "instance"
STOP_S = 5
"""An instance is drained before it is stopped: it has nothing left to end but itself."""


def registries(service: AppService) -> list[dict[str, Any]]:
    """Where instances are found by name: `serviceRegistries` of the workloads."""
    return [{"registryArn": service.registry_arn}] if service.registry_arn else []


def to_name(service: AppService, workloads: Iterable[tuple[int, Service]], plan: Plan) -> tuple[Put, ...]:
    """The workloads that were made before the service had its name, to be put again as they are but for that: no task
    of theirs is replaced. `workloads` with the number of their revision."""
    wanted = registries(service)
    if not wanted or service.status in ("DELETED", "CREATE_FAILED"):
        return ()
    left = {*plan.deletes, *(put.revision for put in plan.puts)}
    return tuple(
        Put(number, record.desired_count, tuple(record.request.get("stopFirst") or ()))
        for number, record in workloads
        if record.status == "ACTIVE" and number not in left and record.request.get("serviceRegistries") != wanted
    )


def definition(service: AppService, revision: Revision) -> dict[str, Any]:
    """RegisterTaskDefinition's wire JSON, without the family."""
    image = revision.source["ImageRepository"]["ImageConfiguration"]
    variables = {
        "PORT": image["Port"],
        "AWS_REGION": service.region,
        "AWSAPPRUNNER_SERVICE_ARN": service_arn(service),
        **image.get("RuntimeEnvironmentVariables", {}),
    }
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": revision.image,
        "essential": True,
        "stopTimeout": STOP_S,
        "portMappings": [{"containerPort": int(image["Port"]), "protocol": "tcp"}],
        "environment": [{"name": k, "value": v} for k, v in sorted(variables.items())],
        "logConfiguration": {
            "logDriver": "awslogs",
            "options": {
                "awslogs-group": log_group(service, "application"),
                "awslogs-region": service.region,
                "awslogs-stream-prefix": "instance",
                "awslogs-create-group": "true",
            },
        },
    }
    if command := image.get("StartCommand"):
        container["command"] = shlex.split(command)
    if secrets := image.get("RuntimeEnvironmentSecrets"):
        container["secrets"] = [{"name": k, "valueFrom": v} for k, v in sorted(secrets.items())]
    role = revision.instance.get("InstanceRoleArn")
    # App Runner reads secrets as the instance role; ECS has the execution role for that.
    roles = {"taskRoleArn": role, "executionRoleArn": role} if role else {}
    return {
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": revision.instance["Cpu"],
        "memory": revision.instance["Memory"],
        "containerDefinitions": [container],
        **roles,
    }
