"""Express services: what is refused and filled in, the task definition that is made of it, what a change comes to.

https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_CreateExpressGatewayService.html
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/express-service-overview.html
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec.structs import replace

from contracts.records.agent import Node
from contracts.records.app_runner_gateway import Ingress
from contracts.records.scheduler import (
    Connector,
    Express,
    ExpressRevision,
    ExpressScaling,
    Route,
    Service,
    TaskDefinition,
)
from services.scheduler.decisions import services
from services.scheduler.decisions.requests import invalid
from services.shared.errors import AwsError

CONTAINER = "Main"
CPU, MEMORY, PORT, HEALTH_PATH, STREAM_PREFIX = "256", "512", 80, "/ping", "ecs"
METRIC, TARGET, MIN_TASKS, MAX_TASKS = "AVERAGE_CPU", 60, 1, 20
NETWORK = {"awsvpcConfiguration": {"subnets": ["subnet-local"], "assignPublicIp": "ENABLED"}}
CANARY_PERCENT = 5.0
PASSED_ON = ("command", "environment", "secrets", "repositoryCredentials")
"""Members of a primaryContainer that are those of a container definition."""
ARCHITECTURE = "ecs.cpu-architecture"

_MADE_OF = ("primaryContainer", "executionRoleArn", "taskRoleArn", "cpu", "memory", "cpuArchitecture")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]{1,576}\Z")
_PATH = re.compile(r"/[!-~]{0,1023}\Z")
_NAME = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::\d+)?/)?{_NAME}(?:/{_NAME})*(?::\w[\w.-]{{0,127}})?(?:@[a-z0-9]+:[0-9a-f]{{32,}})?\Z",
    re.ASCII,
)


def check(request: Mapping[str, Any], *, creates: bool) -> None:
    """Refuse what makes no sense, and what Roadstead can't do (wire form of the create or update request). Raises
    InvalidParameterException, ClientException, UnsupportedFeatureException."""
    own = request.get("taskDefinitionArn")
    both = [member for member in _MADE_OF if request.get(member) is not None]
    if own and both:
        raise invalid(f"taskDefinitionArn can not be specified together with {', '.join(both)}.")
    if creates and not own:
        for member in ("executionRoleArn", "primaryContainer"):
            if request.get(member) is None:
                raise invalid(f"{member} is required unless taskDefinitionArn is specified.")
    for member in ("executionRoleArn", "infrastructureRoleArn", "taskRoleArn"):
        role = request.get(member)
        if role is not None and not _ROLE.match(role):
            raise invalid(f"{member} is not the ARN of an IAM role: {role}")
    path = request.get("healthCheckPath")
    if path is not None and not _PATH.match(path):
        raise invalid("healthCheckPath must start with a forward slash and have no blanks.")
    if (container := request.get("primaryContainer")) is not None:
        _check_container(container)


def _check_container(container: Mapping[str, Any]) -> None:
    image = container.get("image")
    if not image:
        raise AwsError("ClientException", "Container.image should not be null or empty.")
    if not _IMAGE.match(image):
        raise AwsError("ClientException", "Container.image contains invalid characters.")
    port = container.get("containerPort")
    if port is not None and not 1 <= port <= 65535:
        raise invalid(f"containerPort must be between 1 and 65535, not {port}.")
    credentials = container.get("repositoryCredentials")
    if credentials is not None and not credentials.get("credentialsParameter"):
        raise invalid("repositoryCredentials needs credentialsParameter.")
    logs = container.get("awsLogsConfiguration")
    if logs is not None and not (logs.get("logGroup") and logs.get("logStreamPrefix")):
        raise invalid("awsLogsConfiguration needs logGroup and logStreamPrefix.")


def check_architecture(asked: str | None, nodes: Iterable[Node]) -> None:
    """Refuse a processor (cpuArchitecture) that none of the nodes has; one that does not say which it has may have any.
    Raises UnsupportedFeatureException."""
    there = {node.attributes.get(ARCHITECTURE, "").upper() for node in nodes}
    if asked is not None and asked not in there and "" not in there:
        names = ", ".join(sorted(there)) or "none at all"
        raise AwsError(
            "UnsupportedFeatureException",
            f"The cluster has no node with a processor of the architecture {asked} (cpuArchitecture), but {names}.",
        )


def deployments(bake_minutes: int, alarm: str) -> dict[str, Any]:
    """How an Express service is deployed (wire form of a deployment configuration): a small part of the requests goes
    to the new version first, which is watched then, and once more with all of them. One that never answers is taken
    back, and one with which the alarm of that name, on the service's errors, goes off.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/express-service-update-full.html
    """
    return {
        "strategy": "CANARY",
        "canaryConfiguration": {"canaryPercent": CANARY_PERCENT, "canaryBakeTimeInMinutes": bake_minutes},
        "bakeTimeInMinutes": bake_minutes,
        "deploymentCircuitBreaker": {"enable": True, "rollback": True},
        "alarms": {"alarmNames": [alarm], "enable": True, "rollback": True},
    }


def ordinary(network: Mapping[str, Any], count: int, bake_minutes: int, alarm: str) -> dict[str, Any]:
    """CreateService's request (wire form, but for the names) of the ordinary service that an Express one is."""
    return {
        "launchType": "FARGATE",
        "networkConfiguration": dict(network),
        "desiredCount": count,
        "deploymentConfiguration": services.completed(deployments(bake_minutes, alarm)),
    }


def scaling(
    given: Mapping[str, Any] | None, before: ExpressScaling | None, most_tasks: int, now: float
) -> ExpressScaling:
    """The scaling after a request (wire form of scalingTarget): what is not given stays as it was, else is the default;
    the same object when nothing is new. Raises InvalidParameterException."""
    if before is not None and not given:
        return before
    asked = given or {}
    low = asked.get("minTaskCount")
    high = asked.get("maxTaskCount")
    old_low, old_high = (before.min_tasks, before.max_tasks) if before else (MIN_TASKS, MAX_TASKS)
    low = low if low is not None else min(old_low, high) if high else old_low
    high = high if high is not None else max(old_high, low)
    if not 1 <= low <= high:
        raise invalid("scalingTarget: minTaskCount must be at least 1, and maxTaskCount not less than minTaskCount.")
    if high > most_tasks:
        raise invalid(f"scalingTarget: maxTaskCount can be at most {most_tasks} here.")
    metric = asked.get("autoScalingMetric") or (before.metric if before else METRIC)
    value = asked.get("autoScalingTargetValue")
    value = value if value is not None else (before.target if before else TARGET)
    if value <= 0:
        raise invalid("scalingTarget: autoScalingTargetValue must be greater than 0.")
    fresh = ExpressScaling(min_tasks=low, max_tasks=high, metric=metric, target=float(value), wanted_at=now)
    return before if before is not None and replace(fresh, wanted_at=before.wanted_at) == before else fresh


def new_name(digits: str) -> str:
    """The name of a service that was given none. `digits`: some that are random."""
    return f"express-{digits[:8]}"


def host(account: str, region: str, cluster: str, name: str, domain: str) -> str:
    """Where a service is reached: always the same for the same service. A DNS label has 63 characters at most, and
    knows neither capitals nor underscores."""
    told = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-") or "service"
    return f"{told}-{_digest(account, region, cluster, name, digits=8)}.ecs.{region}.{domain}"


def endpoint(front: Express | Connector | Route, ingress: Ingress | None) -> str:
    """Where requests are answered: the host, with the port unless that is HTTPS' own."""
    port = ingress.port if ingress is not None else 443
    return front.host if port == 443 else f"{front.host}:{port}"


def log_group(cluster: str, name: str, account: str, region: str) -> str:
    """The log group of a service that was given none: its cluster, its name and four digits."""
    return f"/aws/ecs/{cluster}/{name}-{_digest(account, region, cluster, name, digits=4)}"


def alarm_name(cluster: str, name: str, account: str, region: str) -> str:
    """The name of the alarm on a service's errors. Alarms are an account's and region's, so the cluster counts too."""
    return f"ecs-express-{name[:200]}-{_digest(account, region, cluster, name, digits=8)}"


def _digest(*parts: str, digits: int) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:digits]


def definition(request: Mapping[str, Any], group: str, region: str, base: Mapping[str, Any] | None) -> dict[str, Any]:
    """RegisterTaskDefinition's wire JSON but for the family: `base` (None: the defaults) with what a request changes.

    `group` is the log group that a service has unless it is given another.
    """
    made: dict[str, Any] = {
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": CPU,
        "memory": MEMORY,
        "runtimePlatform": {"cpuArchitecture": "X86_64", "operatingSystemFamily": "LINUX"},
        "containerDefinitions": [],
        **{k: v for k, v in (base or {}).items() if k not in ("family", "tags")},
    }
    made |= {k: request[k] for k in ("cpu", "memory", "executionRoleArn", "taskRoleArn") if request.get(k) is not None}
    if (architecture := request.get("cpuArchitecture")) is not None:
        made["runtimePlatform"] = {**made["runtimePlatform"], "cpuArchitecture": architecture}
    given = request.get("primaryContainer")
    if given is not None:
        main = _container(given, group, region)
        others = [c for c in made["containerDefinitions"] if c["name"] != CONTAINER]
        made["containerDefinitions"] = [main, *others]
    return made


def _container(given: Mapping[str, Any], group: str, region: str) -> dict[str, Any]:
    own = given.get("awsLogsConfiguration")
    options = {
        "awslogs-group": own["logGroup"] if own else group,
        "awslogs-region": region,
        "awslogs-stream-prefix": own["logStreamPrefix"] if own else STREAM_PREFIX,
    }
    if not own:
        options["awslogs-create-group"] = "true"
    port = given.get("containerPort") or PORT
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": given["image"],
        "essential": True,
        "portMappings": [{"name": f"{CONTAINER.lower()}-{port}-tcp", "containerPort": port, "protocol": "tcp"}],
        "logConfiguration": {"logDriver": "awslogs", "options": options},
    }
    return container | {k: given[k] for k in PASSED_ON if given.get(k)}


def port_of(definition: Mapping[str, Any]) -> int:
    """The port that a definition's container Main answers on. Raises InvalidParameterException unless it is one that an
    Express service can have: a single named TCP port of a container of that name, and FARGATE."""
    main = next((c for c in definition.get("containerDefinitions", ()) if c.get("name") == CONTAINER), None)
    if main is None:
        raise invalid(f"The task definition must have a container named {CONTAINER}.")
    ports = [p for p in main.get("portMappings") or () if p.get("protocol", "tcp") == "tcp"]
    if len(ports) != 1 or not ports[0].get("containerPort") or not ports[0].get("name"):
        raise invalid(
            f"The container {CONTAINER} must have a single TCP port mapping, with a containerPort and a name."
        )
    if "FARGATE" not in (definition.get("requiresCompatibilities") or ()):
        raise invalid("The task definition must be compatible with FARGATE.")
    return int(ports[0]["containerPort"])


def network(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """A service's networkConfiguration (wire form) out of an Express one: its subnets, or those that are here."""
    if not given or not (given.get("subnets") or given.get("securityGroups")):
        return dict(NETWORK)
    chosen = {k: given[k] for k in ("subnets", "securityGroups") if given.get(k)}
    return {"awsvpcConfiguration": {**NETWORK["awsvpcConfiguration"], **chosen}}


def revision_of(express: Express, deployment: str) -> ExpressRevision:
    """What an Express service is in one of its deployments; the newest one for a deployment that nobody told of."""
    return next((r for r in express.revisions if r.deployment == deployment), express.revisions[0])


def updated(
    service: Service, given: Mapping[str, Any], definition: TaskDefinition, network: dict[str, Any] | None,
    most_tasks: int, deployment_id: str, now: float, *, alarmed: bool = False,
) -> Service:  # fmt: skip
    """An Express service after an update (wire form): a new deployment when its definition, its network or its check is
    another. `alarmed`: one of its alarms is on. Raises InvalidParameterException."""
    express = service.express
    assert express is not None
    before = revision_of(express, service.deployments[0].id)
    path = given.get("healthCheckPath") or before.health_check_path
    changes = {"networkConfiguration": network} if network else {}
    reference = f"{definition.family}:{definition.revision}"
    forced = path != before.health_check_path
    new = services.updated(service, changes, reference, forced, deployment_id, now, alarmed=alarmed)
    wish = scaling(given.get("scalingTarget"), express.scaling, most_tasks, now)
    if wish is not express.scaling:
        new = replace(new, express=replace(express, scaling=wish, updated_at=now))
    return followed(new, port_of(definition.definition), path, now)


def followed(service: Service, port: int | None, health_path: str | None, now: float) -> Service:
    """An Express service, changed already, with a revision for its primary deployment; the service itself when it has
    one that says the same. None: as in the newest before. Revisions that nobody can ask for any more are let go."""
    express = service.express
    if express is None or not service.deployments:
        return service
    primary = service.deployments[0].id
    before = revision_of(express, primary)
    fresh = ExpressRevision(
        deployment=primary,
        port=port if port is not None else before.port,
        health_check_path=health_path if health_path is not None else before.health_check_path,
        created_at=service.deployments[0].created_at,
    )
    if fresh == before:
        return service
    revisions = followed_by(service, express.revisions, fresh)
    return replace(service, express=replace(express, revisions=revisions, updated_at=now))


def followed_by(service: Service, revisions: list[ExpressRevision], fresh: ExpressRevision) -> list[ExpressRevision]:
    """The revisions with a fresh one of the primary deployment, without those that nobody can ask for any more."""
    known = {d.id for d in service.deployments} | {r.id for r in service.rollouts}
    return [fresh, *(r for r in revisions if r.deployment in known and r.deployment != fresh.deployment)]
