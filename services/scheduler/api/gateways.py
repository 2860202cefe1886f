"""Gateways: ways in for services of several clusters. What leads there is the services' own: see decisions/gateways.

https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_CreateGateway.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from contracts.aws import ecs
from contracts.records.app_runner_gateway import Ingress
from contracts.records.scheduler import GATEWAY, Cluster, Gateway, Route, Service
from services.scheduler.api.base import EcsBase, wire
from services.scheduler.decisions import gateways as rules
from services.scheduler.decisions import names, tags
from services.scheduler.decisions.express import endpoint
from services.scheduler.decisions.pages import page
from services.scheduler.decisions.requests import invalid
from services.shared.aws.context import RequestContext
from services.shared.bus import Conflict
from services.shared.errors import AwsError

MOST_NAMES, RESOURCES, DEFAULT_RESOURCES = 10, 20, 10
_NOT_ASSOCIATED = ("ResourceNotFoundException", "The gateway is not associated with the cluster.")
Item = TypeVar("Item")


class Gateways(EcsBase):
    """CreateGateway and its like."""

    async def create_gateway(
        self, context: RequestContext, request: ecs.CreateGatewayRequest
    ) -> ecs.CreateGatewayResponse:
        """Make a gateway; the one that the client's token has made already is told of again."""
        self.world.require_connection()
        rules.check(request.name, request.infrastructure_role_arn)
        now = self.world.clock()
        fresh = Gateway(
            account=context.account,
            region=context.region,
            name=request.name,
            created_at=now,
            updated_at=now,
            infrastructure_role=request.infrastructure_role_arn,
            configuration=rules.configured(wire(request.configuration)),
            deletion_protection=request.deletion_protection is not False,
            propagate_tags=request.propagate_tags or "GATEWAY",
            client_token=request.client_token or "",
            tags=tags.read(request.tags),
        )

        def change(old: Gateway | None) -> Gateway:
            if old is None:
                return fresh
            if old.client_token and old.client_token == request.client_token:
                return old
            raise invalid(f"A gateway named {request.name} exists already.")

        made = await self.world.store.update(GATEWAY, GATEWAY.key_of(fresh), change, "gateway.created.v1") or fresh
        return ecs.CreateGatewayResponse(gateway_arn=_arn(made), name=made.name, status=made.status)  # type: ignore[arg-type]

    async def update_gateway(
        self, context: RequestContext, request: ecs.UpdateGatewayRequest
    ) -> ecs.UpdateGatewayResponse:
        """Change what is given. There is nothing that has to follow, so it is complete at once."""
        rules.check(None, request.infrastructure_role_arn)
        given = wire(request.configuration) if request.configuration is not None else None

        def change(old: Gateway) -> Gateway:
            new = replace(
                old,
                infrastructure_role=request.infrastructure_role_arn or old.infrastructure_role,
                configuration=rules.configured(given, old.configuration) if given else old.configuration,
                propagate_tags=request.propagate_tags or old.propagate_tags,
                updated_at=self.world.clock(),
                status="UPDATE_COMPLETE",
            )
            protected = request.deletion_protection
            return new if protected is None else replace(new, deletion_protection=protected)

        new = await self._change_gateway(context, request.gateway, change, "gateway.updated.v1")
        return ecs.UpdateGatewayResponse(gateway_arn=_arn(new), name=new.name, status=new.status)  # type: ignore[arg-type]

    async def describe_gateway(
        self, context: RequestContext, request: ecs.DescribeGatewayRequest
    ) -> ecs.DescribeGatewayResponse:
        """The gateway with its tags."""
        gateway = self._gateway(context, request.gateway)
        routes = rules.routed(self._services(context), gateway.name)
        shared = msgspec.convert(gateway.configuration, ecs.DescribeGatewayAlbConfiguration)
        shared.current_alb_count = rules.alb_count(len(routes))
        shape = ecs.Gateway(
            gateway_arn=_arn(gateway),
            name=gateway.name,
            status=gateway.status,  # type: ignore[arg-type]
            infrastructure_role_arn=gateway.infrastructure_role,
            deletion_protection=gateway.deletion_protection,
            configuration=ecs.DescribeGatewayConfiguration(host_shared_alb=shared),
            access_type="PUBLIC",
            propagate_tags=gateway.propagate_tags,  # type: ignore[arg-type]
            tags=tags.write(gateway.tags),
            created_at=gateway.created_at,
            updated_at=gateway.updated_at,
        )
        return ecs.DescribeGatewayResponse(gateway=shape)

    async def list_gateways(
        self, context: RequestContext, request: ecs.ListGatewaysRequest
    ) -> ecs.ListGatewaysResponse:
        """The gateways by name."""
        self.world.require_connection()
        if len(request.names or ()) > MOST_NAMES:
            raise invalid(f"names can have at most {MOST_NAMES} items.")
        found = {
            g.name: g
            for g in self.world.gateways.records(context.account, context.region)
            if (not request.names or g.name in request.names) and (not request.status or g.status in request.status)
        }
        shown, token = page(sorted(found), request.next_token, request.max_results)
        gateways = [
            ecs.GatewaySummary(gateway_arn=_arn(g), name=g.name, status=g.status, created_at=g.created_at)  # type: ignore[arg-type]
            for g in (found[name] for name in shown)
        ]
        return ecs.ListGatewaysResponse(gateways=gateways, next_token=token)

    async def delete_gateway(
        self, context: RequestContext, request: ecs.DeleteGatewayRequest
    ) -> ecs.DeleteGatewayResponse:
        """Delete it, unless it is protected or a cluster is with it."""
        while True:
            gateway = self._gateway(context, request.gateway)
            if gateway.deletion_protection:
                raise invalid("The gateway is protected from deletion: disable deletionProtection first.")
            held = self._associations(context, gateway)
            if held:
                raise invalid(f"The gateway is associated with clusters: disassociate them first ({', '.join(held)}).")
            key = GATEWAY.key_of(gateway)
            entry = self.world.store.table(GATEWAY).get(*key)
            assert entry is not None
            try:
                await self.world.store.delete(GATEWAY, key, "gateway.deleted.v1", expect=entry.sequence)
            except Conflict:
                await self.world.store.refresh(GATEWAY, key)
                continue
            return ecs.DeleteGatewayResponse(gateway_arn=_arn(gateway), name=gateway.name, status="DELETED")

    async def associate_gateway_with_cluster(
        self, context: RequestContext, request: ecs.AssociateGatewayWithClusterRequest
    ) -> ecs.AssociateGatewayWithClusterResponse:
        """Let services of a cluster be behind the gateway: those that are made or updated from now on."""
        gateway = self._gateway(context, request.gateway)
        cluster = self._own_cluster(context, request.cluster)
        known = self.world.gateways.records(context.account, context.region)
        others = [g for g in known if g.name != gateway.name and cluster.name in self._associations(context, g)]
        if len(others) >= rules.MOST_GATEWAYS:
            raise invalid(f"A cluster can be associated with at most {rules.MOST_GATEWAYS} gateways.")
        await self._change_gateway(
            context, gateway.name, lambda old: rules.associated(old, cluster, rules.ACTIVE), "gateway.associated.v1"
        )
        return ecs.AssociateGatewayWithClusterResponse(
            gateway_arn=_arn(gateway), cluster_arn=_cluster_arn(cluster), status="ACTIVE"
        )

    async def disassociate_gateway_from_cluster(
        self, context: RequestContext, request: ecs.DisassociateGatewayFromClusterRequest
    ) -> ecs.DisassociateGatewayFromClusterResponse:
        """Let no service of a cluster come to the gateway; it is over when the last one there has left or is gone."""
        gateway = self._gateway(context, request.gateway)
        cluster = self._own_cluster(context, request.cluster)

        def change(old: Gateway) -> Gateway:
            if cluster.name not in self._associations(context, old):
                raise AwsError(*_NOT_ASSOCIATED)
            return rules.associated(old, cluster, rules.DISASSOCIATING)

        await self._change_gateway(context, gateway.name, change, "gateway.disassociating.v1")
        return ecs.DisassociateGatewayFromClusterResponse(
            gateway_arn=_arn(gateway), cluster_arn=_cluster_arn(cluster), status="DISASSOCIATING"
        )

    async def list_gateway_cluster_associations(
        self, context: RequestContext, request: ecs.ListGatewayClusterAssociationsRequest
    ) -> ecs.ListGatewayClusterAssociationsResponse:
        """Which clusters are with which gateways."""
        self.world.require_connection()
        where = (context.account, context.region)
        wanted = names.last_part(request.gateway) if request.gateway else None
        cluster = names.last_part(request.cluster) if request.cluster else None
        found = [
            ecs.GatewayClusterAssociationSummary(
                gateway_arn=_arn(gateway),
                cluster_arn=names.arn(*where, "cluster", name),
                status=status,  # type: ignore[arg-type]
            )
            for gateway in self.world.gateways.records(*where)
            if wanted in (None, gateway.name)
            for name, status in self._associations(context, gateway).items()
            if cluster in (None, name) and (not request.status or status in request.status)
        ]
        shown, token = _paged(
            found, lambda a: f"{a.gateway_arn} {a.cluster_arn}", request.next_token, request.max_results
        )
        return ecs.ListGatewayClusterAssociationsResponse(gateway_cluster_associations=shown, next_token=token)

    async def describe_gateway_resources(
        self, context: RequestContext, request: ecs.DescribeGatewayResourcesRequest
    ) -> ecs.DescribeGatewayResourcesResponse:
        """The routes of a gateway, a page of them. What leads there is no resource of an account, and has no ARN."""
        gateway = self._gateway(context, request.gateway)
        arns = sorted(
            _route_arn(s, route)
            for s in rules.routed(self._services(context), gateway.name)
            for route in s.connector.routes  # type: ignore[union-attr]
            if route.gateway == gateway.name
        )
        size = DEFAULT_RESOURCES if request.max_results is None else request.max_results
        shown, token = page(arns, request.next_token, size, largest=RESOURCES)
        groups = [ecs.ElbGatewayResources(gateway_route_arns=shown)] if shown else []
        resources = ecs.GatewayInfrastructureResources(host_shared_alb=groups)
        shape = ecs.GatewayResources(gateway_arn=_arn(gateway), resources=resources)
        return ecs.DescribeGatewayResourcesResponse(gateway_resources=shape, next_token=token)

    async def list_gateway_routes(
        self, context: RequestContext, request: ecs.ListGatewayRoutesRequest
    ) -> ecs.ListGatewayRoutesResponse:
        """The routes of services, all or those that are asked for."""
        self.world.require_connection()
        wanted = self._gateway(context, request.gateway).name if request.gateway else None
        cluster = names.last_part(request.cluster) if request.cluster else None
        name = names.service_name(request.service) if request.service else None
        found = [
            _summary(s, route)
            for s, route in self._routes(context)
            if wanted in (None, route.gateway)
            and cluster in (None, s.cluster)
            and name in (None, s.name)
            and request.service_container_port_name in (None, rules.port_name(s))
            and (not request.status or route_status(s) in request.status)
        ]
        shown, token = _paged(found, lambda r: r.gateway_route_arn or "", request.next_token, request.max_results)
        return ecs.ListGatewayRoutesResponse(gateway_routes=shown, next_token=token)

    async def describe_gateway_route(
        self, context: RequestContext, request: ecs.DescribeGatewayRouteRequest
    ) -> ecs.DescribeGatewayRouteResponse:
        """One route, with its URL."""
        self.world.require_connection()
        arn = request.gateway_route_arn
        found = next((each for each in self._routes(context) if _route_arn(*each) == arn), None)
        if found is None:
            raise AwsError("ResourceNotFoundException", f"Gateway route not found: {arn}")
        service, route = found
        shape = ecs.GatewayRoute(
            gateway_route_arn=arn,
            service_arn=names.arn(service.account, service.region, "service", service.cluster, service.name),
            service_container_port_name=rules.port_name(service),
            status=route_status(service),
            service_url=f"https://{endpoint(route, self.world.ingress)}",
        )
        return ecs.DescribeGatewayRouteResponse(gateway_route=shape)

    def _routes(self, context: RequestContext) -> list[tuple[Service, Route]]:
        """All routes that there are."""
        found = (s for s in self._services(context) if s.connector is not None and s.status != "INACTIVE")
        return [(service, route) for service in found for route in service.connector.routes]  # type: ignore[union-attr]

    def _services(self, context: RequestContext) -> list[Service]:
        return list(self.world.services.records(context.account, context.region))

    def _gateway(self, context: RequestContext, reference: str) -> Gateway:
        self.world.require_connection()
        gateway = self.world.gateways.record(context.account, context.region, names.last_part(reference))
        if gateway is None:
            raise rules.not_found(reference)
        return gateway

    def _associations(self, context: RequestContext, gateway: Gateway) -> dict[str, str]:
        clusters = {c.name: c for c in self.world.clusters.records(context.account, context.region)}
        return rules.associations(gateway, clusters, self._services(context))

    async def _change_gateway(
        self, context: RequestContext, reference: str, change: Callable[[Gateway], Gateway], event: str
    ) -> Gateway:
        self.world.require_connection()

        def changed(old: Gateway | None) -> Gateway:
            if old is None:
                raise rules.not_found(reference)
            return change(old)

        key = (context.account, context.region, names.last_part(reference))
        new = await self.world.store.update(GATEWAY, key, changed, event)
        assert new is not None
        return new


def connection(service: Service, route: Route, ingress: Ingress | None) -> ecs.GatewayConnection:
    """A route of a service behind gateways, as a service revision tells of it."""
    where = (service.account, service.region)
    return ecs.GatewayConnection(
        gateway_arn=names.arn(*where, "gateway", route.gateway),
        gateway_route_arn=_route_arn(service, route),
        port_name=rules.port_name(service),
        service_url=f"https://{endpoint(route, ingress)}",
        access_type="PUBLIC",
        status=route_status(service),
    )


def route_status(service: Service) -> ecs.GatewayRouteStatus:
    """That of the service's routes."""
    leaves = service.status != "ACTIVE" or rules.is_leaving(service)
    return "DELETE_IN_PROGRESS" if leaves else "ACTIVE"


def _summary(service: Service, route: Route) -> ecs.GatewayRouteSummary:
    where = (service.account, service.region)
    return ecs.GatewayRouteSummary(
        gateway_route_arn=_route_arn(service, route),
        gateway_arn=names.arn(*where, "gateway", route.gateway),
        cluster_arn=names.arn(*where, "cluster", service.cluster),
        service_arn=names.arn(*where, "service", service.cluster, service.name),
        service_container_port_name=rules.port_name(service),
        status=route_status(service),
    )


def _paged(
    items: Sequence[Item], key: Callable[[Item], str], token: str | None, size: int | None
) -> tuple[list[Item], str | None]:
    known = {key(item): item for item in items}
    shown, following = page(sorted(known), token, size)
    return [known[one] for one in shown], following


def _arn(gateway: Gateway) -> str:
    return names.arn(gateway.account, gateway.region, "gateway", gateway.name)


def _cluster_arn(cluster: Cluster) -> str:
    return names.arn(cluster.account, cluster.region, "cluster", cluster.name)


def _route_arn(service: Service, route: Route) -> str:
    return names.arn(service.account, service.region, "gateway-route", route.gateway, route.route)
