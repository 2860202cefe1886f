"""Which service owns which API."""

from __future__ import annotations

from contracts.aws.model import ApiIndex

#: API (module name in contracts.aws) → service. An API that is not here is owned by nobody yet.
OWNERS = {
    "apprunner": "app_runner_gateway",
    "application_autoscaling": "autoscaler",
    "cloudwatch": "monitor",
    "ec2": "network",
    "ecr": "registry",
    "ecs": "scheduler",
    "eks": "kubernetes",
    "iam": "identity",
    "kms": "identity",
    "logs": "monitor",
    "secretsmanager": "identity",
    "servicediscovery": "discovery",
    "ssm": "identity",
    "sts": "identity",
}


def served(index: dict[str, ApiIndex], upstreams: set[str]) -> dict[str, bool]:
    """Every API by name, and whether a service that owns it is there."""
    return {name: OWNERS.get(name) in upstreams for name in sorted(index)}
