"""Gateways: what is refused and filled in, which cluster is with which, and the route that a service has.

https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_CreateGateway.html
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/gateway-connect-service.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec.structs import replace

from contracts.records.app_runner_gateway import Ingress
from contracts.records.scheduler import Association, Cluster, Connector, ExpressRevision, Gateway, Service
from services.scheduler.decisions.express import followed_by, host
from services.scheduler.decisions.requests import invalid
from services.scheduler.decisions.task_sets import is_external
from services.shared.errors import AwsError

ACTIVE, DISASSOCIATING = "ACTIVE", "DISASSOCIATING"
DRAIN_S, HEALTH_PATH = 300.0, "/"
_SCHEME, _PORT, _PROTOCOL = "internet-facing", 443, "HTTPS"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}\Z")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]{1,576}\Z")
_PATH = re.compile(r"/[!-~]{0,1023}\Z")
_CODES = re.compile(r"(\d{3})(?:-(\d{3}))?\Z")
_WITHOUT = {
    "webACLArn": "web ACLs",
    "accessLogs": "access logs of gateways",
    "httpDesync": "desync mitigation modes",
    "testTrafficRules": "rules for test traffic",
}
_BOUNDS = {
    "healthCheckPort": (1, 65535),
    "healthCheckIntervalSeconds": (5, 300),
    "healthCheckTimeoutSeconds": (2, 120),
    "healthyThresholdCount": (2, 10),
    "unhealthyThresholdCount": (2, 10),
}
"""Those of the target groups of a load balancer."""


def not_found(reference: str) -> AwsError:
    """GatewayNotFoundException."""
    return AwsError("GatewayNotFoundException", f"The gateway was not found: {reference}")


def _unsupported(noun: str) -> AwsError:
    return AwsError("UnsupportedFeatureException", f"Roadstead does not support {noun} yet.")


def check(name: str | None, role: str | None) -> None:
    """Refuse a name or a role that is none; None is not looked at. Raises InvalidParameterException."""
    if name is not None and not _NAME.match(name):
        raise invalid("name must have 1 to 255 letters, numbers, underscores and hyphens.")
    if role is not None and not _ROLE.match(role):
        raise invalid(f"infrastructureRoleArn is not the ARN of an IAM role: {role}")


def configured(given: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """hostSharedAlb out of a configuration (wire form), with what is not given as it was, else as by default.

    Raises InvalidParameterException, UnsupportedFeatureException.
    """
    shared = given["hostSharedAlb"]
    for member, noun in _WITHOUT.items():
        if shared.get(member) is not None:
            raise _unsupported(f"{noun} ({member})")
    if shared.get("scheme") == "internal":
        raise _unsupported("private gateways (scheme internal)")
    if shared.get("port", _PORT) != _PORT or shared.get("protocol", _PROTOCOL) != _PROTOCOL:
        raise invalid(f"port and protocol: a gateway supports only {_PROTOCOL} at port {_PORT}.")
    if shared.get("maxAlbCount") is not None and shared["maxAlbCount"] < 1:
        raise invalid("maxAlbCount must be at least 1.")
    old = before or {"scheme": _SCHEME, "port": _PORT, "protocol": _PROTOCOL}
    network = {**old.get("networkConfiguration", {}), **(shared.get("networkConfiguration") or {})}
    return {**old, **shared, **({"networkConfiguration": network} if network else {})}


def routed(services: Iterable[Service], gateway: str, cluster: str | None = None) -> list[Service]:
    """The services of an account and region that have a route at a gateway, in a cluster or in any; those that drain
    too."""
    return [
        s
        for s in services
        if s.connector is not None
        and s.connector.gateway == gateway
        and s.status != "INACTIVE"
        and cluster in (None, s.cluster)
    ]


def associations(gateway: Gateway, clusters: Mapping[str, Cluster], services: Iterable[Service]) -> dict[str, str]:
    """Status by the name of the cluster: of those that are still there, and have a route if they are to leave.
    `services`, `clusters`: of the gateway's account and region."""
    used = {s.cluster for s in routed(services, gateway.name)}
    return {
        name: each.status
        for name, each in sorted(gateway.clusters.items())
        if (each.status == ACTIVE or name in used) and _same(each, clusters.get(name))
    }


def _same(association: Association, cluster: Cluster | None) -> bool:
    return cluster is not None and cluster.status == "ACTIVE" and cluster.created_at == association.cluster_since


def associated(gateway: Gateway, cluster: Cluster, status: str) -> Gateway:
    """With the cluster as it is to be; the gateway itself when it is so."""
    made = Association(status=status, cluster_since=cluster.created_at)
    if gateway.clusters.get(cluster.name) == made:
        return gateway
    return replace(gateway, clusters={**gateway.clusters, cluster.name: made})


def of_cluster(gateways: Iterable[Gateway], cluster: Cluster) -> Gateway | None:
    """The gateway that new services of a cluster have."""
    found = (g for g in gateways if (one := g.clusters.get(cluster.name)) and one.status == ACTIVE)
    return min((g for g in found if _same(g.clusters[cluster.name], cluster)), key=lambda g: g.created_at, default=None)


def connector_of(request: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The connector that a service (wire form) asks for. Raises InvalidParameterException,
    UnsupportedFeatureException."""
    given = request.get("gatewayConnectors")
    if not given:
        return None
    connector: Mapping[str, Any] = given[0]
    kinds = (connector.get("filters") or {}).get("accessTypes")
    if kinds and "PUBLIC" not in kinds:
        raise invalid("gatewayConnectors: no gateway of the cluster has the access type PRIVATE.")
    if request.get("schedulingStrategy") == "DAEMON":
        raise _unsupported("DAEMON services behind a gateway (gatewayConnectors)")
    if (request.get("deploymentController") or {}).get("type") == "EXTERNAL":
        raise _unsupported("task sets behind a gateway (gatewayConnectors)")
    _check_health(connector.get("healthCheck") or {})
    return connector


def _check_health(check: Mapping[str, Any]) -> None:
    if check.get("healthCheckProtocol") == "HTTPS":
        raise _unsupported("health checks over HTTPS (healthCheckProtocol)")
    for member, (low, high) in _BOUNDS.items():
        if check.get(member) is not None and not low <= check[member] <= high:
            raise invalid(f"{member} must be between {low} and {high}.")
    if check.get("healthCheckPath") is not None and not _PATH.match(check["healthCheckPath"]):
        raise invalid("healthCheckPath must start with a forward slash and have no blanks.")
    if check.get("healthCheckTimeoutSeconds", 2) > check.get("healthCheckIntervalSeconds", 5):
        raise invalid("healthCheckTimeoutSeconds must not be greater than healthCheckIntervalSeconds.")
    matcher = check.get("matcher") or {}
    if matcher.get("grpcCode") is not None:
        raise _unsupported("health checks by gRPC (grpcCode)")
    _codes(matcher)


def _codes(matcher: Mapping[str, Any]) -> tuple[int, int]:
    wanted = matcher.get("httpCode") or "200"
    if re.fullmatch(r"\d{3}(-\d{3})?(,\d{3}(-\d{3})?)+", wanted):
        raise _unsupported("lists of good HTTP codes (httpCode): give one code, or from and to")
    found = _CODES.match(wanted)
    if found is None or not 200 <= int(found[1]) <= int(found[2] or found[1]) <= 499:
        raise invalid("httpCode must be a code between 200 and 499, or two of them with a hyphen.")
    return int(found[1]), int(found[2] or found[1])


def port_of(definition: Mapping[str, Any], port_name: str) -> int:
    """The container port of that name in a task definition (wire form). Raises InvalidParameterException."""
    if definition.get("networkMode") != "awsvpc":
        raise invalid("gatewayConnectors needs a task definition with the network mode awsvpc.")
    ports = (p for c in definition.get("containerDefinitions", ()) for p in c.get("portMappings") or ())
    found = next((p for p in ports if p.get("name") == port_name and p.get("containerPort")), None)
    if found is None or found.get("protocol", "tcp") != "tcp":
        raise invalid(f"gatewayConnectors: the task definition has no TCP port mapping that is named {port_name}.")
    return int(found["containerPort"])


def revision_of(
    connector: Mapping[str, Any], definition: Mapping[str, Any], deployment: str, created_at: float
) -> ExpressRevision:
    """How the tasks of a deployment are reached and checked. Raises InvalidParameterException."""
    check = connector.get("healthCheck") or {}
    low, high = _codes(check.get("matcher") or {})
    return ExpressRevision(
        deployment=deployment,
        port=port_of(definition, connector["portName"]),
        health_check_path=check.get("healthCheckPath") or HEALTH_PATH,
        created_at=created_at,
        check_port=check.get("healthCheckPort") or 0,
        interval_s=float(check.get("healthCheckIntervalSeconds") or 5),
        timeout_s=float(check.get("healthCheckTimeoutSeconds") or 2),
        healthy=check.get("healthyThresholdCount") or 1,
        unhealthy=check.get("unhealthyThresholdCount") or 3,
        good_from=low,
        good_to=high,
        port_name=connector["portName"],
    )


def check_count(service: Service, most_tasks: int) -> None:
    """Refuse more tasks than can be behind a gateway, while a deployment has twice as many too. Raises
    InvalidParameterException."""
    percent = (service.request.get("deploymentConfiguration") or {}).get("maximumPercent") or 200
    if service.connector is not None and service.desired_count * max(200, percent) > 200 * most_tasks:
        raise invalid(f"desiredCount: behind a gateway can be at most {most_tasks} tasks of a service here.")


def connected(
    service: Service, gateway: Gateway | None, ingress: Ingress, definition: Mapping[str, Any], route: str
) -> Service:
    """A new service with the route that it asks for; `route` is the id of one. Raises AwsError."""
    wanted = connector_of(service.request)
    if wanted is None:
        return service
    if gateway is None:
        raise invalid("gatewayConnectors: no gateway is associated with the cluster.")
    primary = service.deployments[0]
    made = Connector(
        gateway=gateway.name,
        route=route,
        host=host(service.account, service.region, f"{gateway.name}/{service.cluster}", service.name, ingress.domain),
        revisions=[revision_of(wanted, definition, primary.id, primary.created_at)],
        drain_s=_drain(wanted),
    )
    new = replace(service, connector=made)
    check_count(new, ingress.most_tasks)
    return new


def _drain(connector: Mapping[str, Any]) -> float:
    given = (connector.get("deregistrationDelay") or {}).get("timeoutSeconds")
    return DRAIN_S if given is None else float(given)


def check_change(service: Service, changes: Mapping[str, Any]) -> dict[str, Any]:
    """What an update (wire form) changes in the end: no connectors are none. Raises UnsupportedFeatureException where
    a service would come to a gateway, or leave it."""
    given = changes.get("gatewayConnectors")
    if given is None or (not given and service.connector is None):
        return {k: v for k, v in changes.items() if k != "gatewayConnectors"}
    if bool(given) != (service.connector is not None) or is_external(service):
        raise _unsupported("that a service comes to a gateway, or leaves it, by an update (gatewayConnectors)")
    connector_of({**service.request, **changes})
    return dict(changes)


def followed(service: Service, definition: Mapping[str, Any], most_tasks: int) -> Service:
    """A service behind a gateway, changed already, with a revision for its primary deployment. One that has its
    revision keeps it: after a roll-back, `request` asks for what was given up. Raises InvalidParameterException."""
    wanted, connector = connector_of(service.request), service.connector
    if wanted is None or connector is None:
        return service
    check_count(service, most_tasks)
    primary = service.deployments[0]
    if any(revision.deployment == primary.id for revision in connector.revisions):
        return service
    fresh = revision_of(wanted, definition, primary.id, primary.created_at)
    revisions = followed_by(service, connector.revisions, fresh)
    return replace(service, connector=replace(connector, revisions=revisions, drain_s=_drain(wanted)))


def port_name(service: Service) -> str:
    """The name of the port that the route of a service leads to, as its primary deployment has it."""
    assert service.connector is not None
    primary = service.deployments[0].id if service.deployments else ""
    revisions = service.connector.revisions
    return next((r for r in revisions if r.deployment == primary), revisions[0]).port_name
