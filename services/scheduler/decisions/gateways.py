"""Gateways: what is refused and filled in, which cluster is with which, and the route that a service has.

https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_CreateGateway.html
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/gateway-connect-service.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from contracts.records.app_runner_gateway import Ingress
from contracts.records.scheduler import Association, Cluster, Connector, ExpressRevision, Gateway, Route, Service
from services.scheduler.decisions.express import followed_by, host
from services.scheduler.decisions.requests import invalid
from services.scheduler.decisions.task_sets import is_external
from services.shared.errors import AwsError

ACTIVE, DISASSOCIATING = "ACTIVE", "DISASSOCIATING"
DRAIN_S, HEALTH_PATH = 300.0, "/"
_SCHEME, _PORT, _PROTOCOL = "internet-facing", 443, "HTTPS"
MOST_GATEWAYS = 5
"""With which one cluster can be associated (API_AssociateGatewayWithCluster)."""
DEFAULT_ALBS, ROUTES_AN_ALB = 10, 100
"""A load balancer has 100 rules (ELB's quotas); the routes of a gateway are counted as if they were on some."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}\Z")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]{1,576}\Z")
_PATH = re.compile(r"/[!-~]{0,1023}\Z")
_CODES = re.compile(r"(\d{3})(?:-(\d{3}))?\Z")
_HEADER = re.compile(r"[A-Za-z0-9_-]{1,40}\Z")
_VALUE = re.compile(r"[!-)+->@-~]{1,128}\Z")
_WITHOUT = {
    "webACLArn": "web ACLs",
    "accessLogs": "access logs of gateways",
    "httpDesync": "desync mitigation modes",
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
    if shared.get("testTrafficRules") is not None:
        _check_test(shared["testTrafficRules"].get("header") or {})
    old = before or {"scheme": _SCHEME, "port": _PORT, "protocol": _PROTOCOL}
    network = {**old.get("networkConfiguration", {}), **(shared.get("networkConfiguration") or {})}
    return {**old, **shared, **({"networkConfiguration": network} if network else {})}


def _check_test(header: Mapping[str, Any]) -> None:
    if not _HEADER.match(header.get("name") or ""):
        raise invalid("testTrafficRules: header needs a name of up to 40 letters, numbers, underscores and hyphens.")
    values = header.get("values") or ()
    if not values or not all(_VALUE.match(value) for value in values):
        raise invalid("testTrafficRules: header needs values, without blanks and wildcards (* and ?).")


def is_full(gateway: Gateway, services: Iterable[Service]) -> bool:
    """Whether it has as many routes as maxAlbCount load balancers would have."""
    most = gateway.configuration.get("maxAlbCount", DEFAULT_ALBS) * ROUTES_AN_ALB
    return len(routed(services, gateway.name)) >= most


def alb_count(routes: int) -> int:
    """How many load balancers so many routes would take."""
    return -(-routes // ROUTES_AN_ALB)


def routed(services: Iterable[Service], gateway: str, cluster: str | None = None) -> list[Service]:
    """The services of an account and region that have a route at a gateway, in a cluster or in any; those that drain
    too."""
    return [
        s
        for s in services
        if s.connector is not None
        and any(route.gateway == gateway for route in s.connector.routes)
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


def of_cluster(gateways: Iterable[Gateway], cluster: Cluster) -> list[Gateway]:
    """The gateways that services of a cluster come to, the oldest first."""
    found = (g for g in gateways if (one := g.clusters.get(cluster.name)) and one.status == ACTIVE)
    here = (g for g in found if _same(g.clusters[cluster.name], cluster))
    return sorted(here, key=lambda g: (g.created_at, g.name))


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
    for member, (low, high) in _BOUNDS.items():
        if check.get(member) is not None and not low <= check[member] <= high:
            raise invalid(f"{member} must be between {low} and {high}.")
    if check.get("healthCheckPath") is not None and not _PATH.match(check["healthCheckPath"]):
        raise invalid("healthCheckPath must start with a forward slash and have no blanks.")
    if check.get("healthCheckTimeoutSeconds", 2) > check.get("healthCheckIntervalSeconds", 5):
        raise invalid("healthCheckTimeoutSeconds must not be greater than healthCheckIntervalSeconds.")
    matcher = check.get("matcher") or {}
    if matcher.get("grpcCode") is not None:
        raise _unsupported("gRPC behind a gateway, which speaks HTTP/1.1 with tasks (grpcCode): use httpCode")
    _codes(matcher)


def _codes(matcher: Mapping[str, Any]) -> list[tuple[int, int]]:
    """The good codes, each from and to."""
    found = [_CODES.match(each.strip()) for each in (matcher.get("httpCode") or "200").split(",")]
    codes = [(int(each[1]), int(each[2] or each[1])) for each in found if each is not None]
    if len(codes) < len(found) or not all(200 <= low <= high <= 499 for low, high in codes):
        raise invalid("httpCode: give codes between 200 and 499, from and to with a hyphen, with commas between them.")
    return codes


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
    (low, high), *others = _codes(check.get("matcher") or {})
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
        check_protocol=check.get("healthCheckProtocol") or "HTTP",
        also_good=[list(each) for each in others],
    )


def check_count(service: Service, most_tasks: int) -> None:
    """Refuse more tasks than can be behind a gateway, while a deployment has twice as many too. Raises
    InvalidParameterException."""
    percent = (service.request.get("deploymentConfiguration") or {}).get("maximumPercent") or 200
    if service.connector is not None and service.desired_count * max(200, percent) > 200 * most_tasks:
        raise invalid(f"desiredCount: behind a gateway can be at most {most_tasks} tasks of a service here.")


class Around(msgspec.Struct, frozen=True):
    """What a service is connected with: the gateways of its cluster (`full`: the names of those that have no room for
    another route), and where they answer. `new_id` makes the id of a route."""

    gateways: Sequence[Gateway]
    ingress: Ingress
    new_id: Callable[[], str]
    full: Collection[str] = ()


def connected(service: Service, around: Around, definition: Mapping[str, Any]) -> Service:
    """A new service with the routes that it asks for, one at each gateway of its cluster. Raises AwsError."""
    wanted = connector_of(service.request)
    if wanted is None:
        return service
    primary = service.deployments[0]
    revision = revision_of(wanted, definition, primary.id, primary.created_at)
    new = replace(service, connector=_with_routes(service, around, [revision], _drain(wanted), asked=True))
    check_count(new, around.ingress.most_tasks)
    return new


def _with_routes(
    service: Service, around: Around, revisions: list[ExpressRevision], drain_s: float, *, asked: bool
) -> Connector:
    """The routes that a service has are kept at the gateways that still are its cluster's, and it gets those that it
    lacks. Where there is no gateway any more it keeps what it has, unless it is just being `asked` for one."""
    names = {g.name: g for g in around.gateways}
    before = service.connector.routes if service.connector is not None else []
    kept = [r for r in before if r.gateway in names and _made(names[r.gateway], r)]
    known = {r.gateway for r in kept}
    routes = [*kept, *(_route(service, g, around) for g in around.gateways if g.name not in known)]
    if not routes and (asked or not before):
        raise invalid("gatewayConnectors: no gateway is associated with the cluster.")
    return _connector(routes or before, revisions, drain_s)


def _route(service: Service, gateway: Gateway, around: Around) -> Route:
    if gateway.name in around.full:
        raise invalid(f"The gateway {gateway.name} has no room for another route: raise its maxAlbCount.")
    scope = f"{gateway.name}/{service.cluster}"
    name = host(service.account, service.region, scope, service.name, around.ingress.domain)
    return Route(gateway=gateway.name, route=around.new_id(), host=name, gateway_since=gateway.created_at)


def _connector(routes: Sequence[Route], revisions: list[ExpressRevision], drain_s: float) -> Connector:
    first, *others = routes
    return Connector(
        gateway=first.gateway,
        route=first.route,
        host=first.host,
        gateway_since=first.gateway_since,
        others=others,
        revisions=revisions,
        drain_s=drain_s,
    )


def _drain(connector: Mapping[str, Any]) -> float:
    given = (connector.get("deregistrationDelay") or {}).get("timeoutSeconds")
    return DRAIN_S if given is None else float(given)


def check_change(service: Service, changes: Mapping[str, Any]) -> dict[str, Any]:
    """What an update (wire form) changes in the end: no connectors where there were none are no change. Raises AwsError
    for connectors that can't be."""
    given = changes.get("gatewayConnectors")
    if not given and not service.request.get("gatewayConnectors"):
        return {k: v for k, v in changes.items() if k != "gatewayConnectors"}
    if given and service.express is not None:
        raise _unsupported("Express services behind a gateway (gatewayConnectors): they have a URL of their own")
    if given and is_external(service):
        raise _unsupported("task sets behind a gateway (gatewayConnectors)")
    connector_of({**service.request, **changes})
    return dict(changes)


def rolls(service: Service, changes: Mapping[str, Any]) -> bool:
    """Whether connectors in an update take a new deployment although they are what was asked for last: that deployment
    was rolled back."""
    given = changes.get("gatewayConnectors")
    if given is None or service.express is not None or not service.deployments:
        return False
    return bool(given) == is_leaving(service)


def is_leaving(service: Service) -> bool:
    """Whether the service's next tasks are behind no gateway; the routes of the old ones stay until these are gone."""
    return not service.deployments or service.deployments[0].id not in service.fronted


def followed(service: Service, around: Around, definition: Mapping[str, Any], *, asked: bool) -> Service:
    """A service that asks for a connector, changed already, with a revision for its primary deployment, and the routes
    of its cluster's gateways. One that has its revision keeps it: after a roll-back, `request` asks for what was given
    up. `asked`: the change names connectors. Raises InvalidParameterException."""
    wanted, connector = connector_of(service.request), service.connector
    if wanted is None or is_external(service) or not service.deployments:
        return service
    primary = service.deployments[0]
    revisions, drain_s = (connector.revisions, connector.drain_s) if connector is not None else ([], 0.0)
    fresh = not any(revision.deployment == primary.id for revision in revisions)
    came_back = primary.id in {rollout.rolled_back_to for rollout in service.rollouts}
    if not asked and fresh and (came_back or (connector is None and not around.gateways)):
        return service
    if fresh:
        revision = revision_of(wanted, definition, primary.id, primary.created_at)
        revisions, drain_s = followed_by(service, revisions, revision), _drain(wanted)
    if fresh or asked:
        service = replace(service, connector=_with_routes(service, around, revisions, drain_s, asked=asked))
    check_count(service, around.ingress.most_tasks)
    return service


def released(service: Service, living: Collection[str], gateways: Mapping[str, Gateway]) -> Service:
    """The service without its routes, once no deployment and no task (`living`: their deployments) is behind them any
    more; and without those of gateways that are gone (`gateways`: by name, of its account and region): it was made, or
    came to them, at the very moment when they were deleted."""
    connector = service.connector
    if connector is None:
        return service
    behind = service.fronted & ({d.id for d in service.deployments} | {*living})
    there = [r for r in connector.routes if r.gateway in gateways and _made(gateways[r.gateway], r)]
    if not there or (not behind and service.status == "ACTIVE"):
        return replace(service, connector=None)
    if len(there) == len(connector.routes):
        return service
    return replace(service, connector=_connector(there, connector.revisions, connector.drain_s))


def _made(gateway: Gateway, route: Route) -> bool:
    return route.gateway_since in (0.0, gateway.created_at)


def port_name(service: Service) -> str:
    """The name of the port that the routes of a service lead to, as its primary deployment has it."""
    assert service.connector is not None
    primary = service.deployments[0].id if service.deployments else ""
    revisions = service.connector.revisions
    return next((r for r in revisions if r.deployment == primary), revisions[0]).port_name
