"""Gateways: what is refused and filled in, which cluster is with which, the route of a service."""

import pytest
from msgspec.structs import replace

from contracts.records.app_runner_gateway import Ingress
from contracts.records.scheduler import Association, Cluster, Express, ExpressScaling, Gateway
from services.scheduler.decisions import gateways, rollback, rollouts, services
from services.shared.errors import AwsError
from tests.builders import ecs

INGRESS = Ingress(name="https", port=8443, domain="localhost", most_tasks=32)
PORTS = [{"containerPort": 8080, "name": "http"}, {"containerPort": 9000, "name": "other", "protocol": "udp"}]
DEFINITION = {"networkMode": "awsvpc", "containerDefinitions": [{"name": "web", "portMappings": PORTS}]}
GATEWAY = Gateway(
    account=ecs.ACCOUNT, region=ecs.REGION, name="front", created_at=1.0, updated_at=1.0, infrastructure_role="r"
)
MAIN = Cluster(account=ecs.ACCOUNT, region=ecs.REGION, name="main", status="ACTIVE", created_at=5.0)


def wanting(count=1, **connector):
    made = ecs.service(count, ecs.deployment("d1"))
    return replace(made, request={**made.request, "gatewayConnectors": [{"portName": "http", **connector}]})


BACK = replace(GATEWAY, name="back", created_at=2.0)


SCALING = ExpressScaling(min_tasks=1, max_tasks=5, metric="AVERAGE_CPU", target=60.0, wanted_at=1.0)


def around(*of, full=()):
    ids = iter(("r1", "r2", "r3"))
    return gateways.Around(of, INGRESS, lambda: next(ids), full)


def connected(service, *of, definition=DEFINITION):
    return gateways.connected(service, around(*(of or (GATEWAY,))), definition)


def updated(service, changes, deployment="d2", definition=DEFINITION, of=(GATEWAY,), now=2.0):
    """UpdateService, as the operation does it."""
    merged = gateways.check_change(service, changes)
    new = services.updated(service, merged, None, gateways.rolls(service, changes), deployment, now)
    return gateways.followed(new, around(*of), definition, asked=bool(changes.get("gatewayConnectors")))


def routes(service):
    return [(r.gateway, r.route) for r in service.connector.routes]


def refusal(call, *given):
    with pytest.raises(AwsError) as error:
        call(*given)
    return error.value.code, error.value.message


def test_a_configuration_is_filled_in_and_changed_member_by_member():
    first = gateways.configured({"hostSharedAlb": {"networkConfiguration": {"subnets": ["s"]}}})
    assert (first["scheme"], first["port"], first["protocol"]) == ("internet-facing", 443, "HTTPS")
    changed = {"hostSharedAlb": {"maxAlbCount": 2, "networkConfiguration": {"inboundSecurityGroup": "sg"}}}
    then = gateways.configured(changed, first)
    assert then == {**first, "maxAlbCount": 2, "networkConfiguration": {"subnets": ["s"], "inboundSecurityGroup": "sg"}}


@pytest.mark.parametrize(
    ("shared", "code", "named"),
    [
        ({"port": 80}, "InvalidParameterException", "port"),
        ({"protocol": "HTTP"}, "InvalidParameterException", "protocol"),
        ({"maxAlbCount": 0}, "InvalidParameterException", "maxAlbCount"),
        ({"scheme": "internal"}, "UnsupportedFeatureException", "scheme"),
        ({"webACLArn": "a"}, "UnsupportedFeatureException", "webACLArn"),
        ({"accessLogs": {}}, "UnsupportedFeatureException", "accessLogs"),
        ({"httpDesync": "monitor"}, "UnsupportedFeatureException", "httpDesync"),
        ({"testTrafficRules": {}}, "InvalidParameterException", "name"),
        ({"testTrafficRules": {"header": {"name": "x test", "values": ["1"]}}}, "InvalidParameterException", "name"),
        ({"testTrafficRules": {"header": {"name": "x", "values": []}}}, "InvalidParameterException", "values"),
        ({"testTrafficRules": {"header": {"name": "x", "values": ["a b"]}}}, "InvalidParameterException", "values"),
        ({"testTrafficRules": {"header": {"name": "x", "values": ["a*"]}}}, "InvalidParameterException", "values"),
    ],
)
def test_a_configuration_that_is_refused(shared, code, named):
    told = refusal(gateways.configured, {"hostSharedAlb": shared})
    assert told[0] == code and named in told[1]


@pytest.mark.parametrize(
    ("connector", "code", "named"),
    [
        ({"filters": {"accessTypes": ["PRIVATE"]}}, "InvalidParameterException", "PRIVATE"),
        ({"portName": "https"}, "InvalidParameterException", "https"),
        ({"portName": "other"}, "InvalidParameterException", "other"),
        ({"healthCheck": {"healthCheckPath": "ping"}}, "InvalidParameterException", "healthCheckPath"),
        ({"healthCheck": {"healthCheckPort": 0}}, "InvalidParameterException", "healthCheckPort"),
        ({"healthCheck": {"healthCheckIntervalSeconds": 4}}, "InvalidParameterException", "healthCheckIntervalSeconds"),
        ({"healthCheck": {"healthCheckTimeoutSeconds": 6}}, "InvalidParameterException", "healthCheckTimeoutSeconds"),
        ({"healthCheck": {"healthyThresholdCount": 1}}, "InvalidParameterException", "healthyThresholdCount"),
        ({"healthCheck": {"unhealthyThresholdCount": 11}}, "InvalidParameterException", "unhealthyThresholdCount"),
        ({"healthCheck": {"matcher": {"grpcCode": "0"}}}, "UnsupportedFeatureException", "grpcCode"),
        ({"healthCheck": {"matcher": {"httpCode": "200,"}}}, "InvalidParameterException", "httpCode"),
        ({"healthCheck": {"matcher": {"httpCode": "200,500-502"}}}, "InvalidParameterException", "httpCode"),
        ({"healthCheck": {"matcher": {"httpCode": "300-200"}}}, "InvalidParameterException", "httpCode"),
        ({"healthCheck": {"matcher": {"httpCode": "ok"}}}, "InvalidParameterException", "httpCode"),
    ],
)
def test_a_connector_that_is_refused(connector, code, named):
    told = refusal(connected, wanting(**connector))
    assert told[0] == code and named in told[1]


def test_daemons_and_task_sets_are_not_behind_a_gateway():
    for member in ({"schedulingStrategy": "DAEMON"}, {"deploymentController": {"type": "EXTERNAL"}}):
        told = refusal(gateways.connector_of, {**wanting().request, **member})
        assert told[0] == "UnsupportedFeatureException"


def test_a_service_without_a_gateway_for_its_cluster_or_with_another_network_is_refused():
    nowhere, bridged = around(), {**DEFINITION, "networkMode": "bridge"}
    assert "no gateway" in refusal(gateways.connected, wanting(), nowhere, DEFINITION)[1]
    assert "awsvpc" in refusal(gateways.connected, wanting(), around(GATEWAY), bridged)[1]
    assert "at most 32" in refusal(connected, wanting(33))[1]
    assert gateways.connected(ecs.service(1, ecs.deployment("d1")), nowhere, DEFINITION).connector is None


def test_a_service_has_a_route_at_each_gateway_that_has_room_for_it():
    new = connected(wanting(), GATEWAY, BACK)
    assert routes(new) == [("front", "r1"), ("back", "r2")]
    assert len({*new.connector.hosts}) == 2
    assert gateways.routed([new], "front") == gateways.routed([new], "back") == [new]
    told = refusal(gateways.connected, wanting(), around(GATEWAY, full=["front"]), DEFINITION)
    assert told[0] == "InvalidParameterException" and "maxAlbCount" in told[1]
    assert updated(new, {"desiredCount": 2}).connector == new.connector


def test_a_gateway_has_as_much_room_as_its_load_balancers_would_have():
    one = replace(GATEWAY, configuration={"maxAlbCount": 1})
    services = [connected(replace(wanting(), name=f"web{n}")) for n in range(100)]
    assert [gateways.is_full(one, services[:99]), gateways.is_full(one, services)] == [False, True]
    assert not gateways.is_full(GATEWAY, services)
    assert [gateways.alb_count(n) for n in (0, 1, 100, 101)] == [0, 1, 1, 2]


def test_the_route_of_a_service_is_its_own_and_as_its_connector_says():
    check = {
        "healthCheckPath": "/up",
        "healthCheckPort": 81,
        "healthCheckIntervalSeconds": 9,
        "matcher": {"httpCode": "200-299"},
    }
    given = {"healthCheck": check, "deregistrationDelay": {"timeoutSeconds": 0}}
    route = connected(wanting(**given)).connector
    assert (route.gateway, route.route, route.drain_s) == ("front", "r1", 0.0)
    assert route.host.startswith("web-") and route.host.endswith(f".ecs.{ecs.REGION}.localhost")
    (revision,) = route.revisions
    assert revision.port_name == "http"
    assert (revision.deployment, revision.port, revision.check_port, revision.health_check_path) == (
        "d1",
        8080,
        81,
        "/up",
    )
    assert (revision.interval_s, revision.good_from, revision.good_to) == (9.0, 200, 299)
    assert (revision.check_protocol, revision.also_good) == ("HTTP", [])
    several = {"healthCheckProtocol": "HTTPS", "matcher": {"httpCode": "200,204,300-301"}}
    (secured,) = connected(wanting(healthCheck=several)).connector.revisions
    assert (secured.check_protocol, secured.good_from, secured.good_to) == ("HTTPS", 200, 200)
    assert secured.also_good == [[204, 204], [300, 301]]
    plain = connected(wanting()).connector
    assert (plain.drain_s, plain.revisions[0].health_check_path) == (300.0, "/")
    other = connected(wanting(), BACK).connector
    assert len({route.host, other.host}) == 2 and plain.host == route.host


CONNECTOR = {"gatewayConnectors": [{"portName": "http"}]}
OTHER = {"gatewayConnectors": [{"portName": "http", "healthCheck": {"healthCheckPath": "/up"}}]}
NONE = {"gatewayConnectors": []}


def test_no_connectors_where_there_were_none_are_no_change():
    plain, behind = ecs.service(1, ecs.deployment("d1")), connected(wanting())
    assert gateways.check_change(plain, {**NONE, "desiredCount": 2}) == {"desiredCount": 2}
    assert not gateways.rolls(plain, NONE)
    express = Express(
        host="h", infrastructure_role="r", scaling=SCALING, updated_at=1.0, revisions=behind.connector.revisions
    )
    assert not gateways.rolls(replace(plain, express=express), NONE)
    refused = refusal(gateways.check_change, replace(plain, express=express), CONNECTOR)
    assert refused[0] == "UnsupportedFeatureException"
    assert gateways.check_change(behind, NONE) == NONE
    external = replace(plain, request={**plain.request, "deploymentController": {"type": "EXTERNAL"}})
    assert refusal(gateways.check_change, external, CONNECTOR)[0] == "UnsupportedFeatureException"


def test_a_service_comes_to_a_gateway_with_a_new_deployment_whose_tasks_alone_are_behind_it():
    new = updated(ecs.service(1, ecs.deployment("d1")), CONNECTOR)
    assert ([d.id for d in new.deployments], new.fronted, gateways.is_leaving(new)) == (["d2", "d1"], {"d2"}, False)
    assert routes(new) == [("front", "r1")]
    assert "no gateway" in refusal(updated, ecs.service(1), CONNECTOR, "d2", DEFINITION, ())[1]


def test_a_service_leaves_with_a_new_deployment_and_its_routes_go_with_the_last_task_behind_them():
    behind = connected(wanting())
    left = updated(behind, NONE)
    assert ([d.id for d in left.deployments], left.fronted, gateways.is_leaving(left)) == (["d2", "d1"], {"d1"}, True)
    here = {"front": GATEWAY}
    assert gateways.released(left, {"d1", "d2"}, here) is left
    alone = replace(left, deployments=left.deployments[:1])
    assert gateways.released(alone, {"d1", "d2"}, here) is alone, "the last task is drained through the gateway"
    assert gateways.released(alone, {"d2"}, here).connector is None
    draining = replace(alone, status="DRAINING")
    assert gateways.released(draining, set(), here) is draining


def test_a_service_keeps_no_route_at_a_gateway_that_is_gone_though_another_has_its_name():
    both = connected(wanting(), GATEWAY, BACK)
    assert routes(gateways.released(both, {"d1"}, {"back": BACK})) == [("back", "r2")]
    anew = replace(GATEWAY, created_at=9.0)
    assert routes(updated(both, CONNECTOR, of=(anew, BACK))) == [("back", "r2"), ("front", "r1")]
    assert routes(gateways.released(both, {"d1"}, {"front": anew, "back": BACK})) == [("back", "r2")]
    lost = gateways.released(both, {"d1"}, {})
    assert lost.connector is None
    forced = services.updated(lost, {}, None, True, "d2", 2.0)
    assert gateways.followed(forced, around(), DEFINITION, asked=False) is forced, "it can still be deployed"
    assert routes(gateways.followed(forced, around(BACK), DEFINITION, asked=False)) == [("back", "r1")]
    of_before = replace(both, connector=replace(both.connector, gateway_since=0.0))
    assert gateways.released(of_before, {"d1"}, {"front": GATEWAY, "back": BACK}) is of_before


def test_a_service_follows_the_gateways_of_its_cluster_with_its_next_deployment_or_when_it_is_asked_to():
    behind = connected(wanting())
    assert routes(updated(behind, CONNECTOR, of=(GATEWAY, BACK))) == [("front", "r1"), ("back", "r1")]
    assert updated(behind, {"desiredCount": 2}, of=(BACK,)).connector == behind.connector
    moved = updated(behind, OTHER, of=(BACK,))
    assert (routes(moved), moved.fronted) == ([("back", "r1")], {"d1", "d2"})
    forced = services.updated(behind, {}, None, True, "d2", 2.0)
    assert routes(gateways.followed(forced, around(BACK), DEFINITION, asked=False)) == [("back", "r1")]
    kept = gateways.followed(forced, around(), DEFINITION, asked=False)
    assert (routes(kept), kept.fronted) == ([("front", "r1")], {"d1", "d2"}), "it is not cut off by an update"


def test_a_changed_connector_is_a_new_deployment_with_its_own_checks():
    behind = connected(wanting())
    new = updated(behind, OTHER)
    assert [d.id for d in new.deployments] == ["d2", "d1"]
    assert [(r.deployment, r.health_check_path) for r in new.connector.revisions] == [("d2", "/up"), ("d1", "/")]
    assert new.connector.host == behind.connector.host
    assert gateways.followed(new, around(GATEWAY), DEFINITION, asked=False) is new


def back_from(service):
    first, second = service.deployments
    service = replace(service, deployments=[first, replace(second, rollout_state="COMPLETED")])
    back, _ = rollback.given_up(service, rollback.Failure("", "", ""), 3.0)
    return rollouts.recorded(replace(service, deployments=back), 3.0)


def test_after_a_roll_back_the_checks_are_those_of_before_whatever_else_is_changed():
    ports = [*PORTS, {"containerPort": 81, "name": "admin"}]
    definition = {**DEFINITION, "containerDefinitions": [{"name": "web", "portMappings": ports}]}
    changes = {"gatewayConnectors": [{"portName": "admin", "healthCheck": {"healthCheckPath": "/up"}}]}
    new = updated(connected(wanting()), changes, definition=definition)
    assert gateways.port_name(new) == "admin"
    back = updated(back_from(new), {"desiredCount": 2}, "d3", definition)
    assert gateways.port_name(back) == "http"
    assert {r.deployment: r.health_check_path for r in back.connector.revisions} == {"d1": "/", "d2": "/up"}


def test_what_is_rolled_back_comes_to_a_gateway_or_leaves_it_again():
    came = back_from(updated(ecs.service(1, ecs.deployment("d1")), CONNECTOR))
    assert gateways.is_leaving(came) and gateways.is_leaving(updated(came, {"desiredCount": 2}, "d3"))
    again = updated(came, CONNECTOR, "d3")
    assert (again.deployments[0].id, gateways.is_leaving(again)) == ("d3", False)
    stayed = back_from(updated(connected(wanting()), NONE))
    assert not gateways.is_leaving(stayed)
    assert gateways.is_leaving(updated(stayed, NONE, "d3"))


def test_an_association_that_ends_lasts_as_long_as_a_route_and_the_cluster_do():
    leaving = gateways.associated(GATEWAY, MAIN, gateways.DISASSOCIATING)
    route = connected(wanting())
    gone = [replace(route, status="INACTIVE"), replace(route, cluster="else")]
    here = {"main": MAIN}
    assert gateways.associations(leaving, here, [route]) == {"main": "DISASSOCIATING"}
    assert gateways.associations(leaving, here, [replace(route, status="DRAINING")]) == {"main": "DISASSOCIATING"}
    assert gateways.associations(leaving, here, gone) == {}
    active = gateways.associated(leaving, MAIN, gateways.ACTIVE)
    assert gateways.associations(active, here, []) == {"main": "ACTIVE"}
    assert gateways.associated(active, MAIN, gateways.ACTIVE) is active
    for other in (replace(MAIN, created_at=6.0), replace(MAIN, status="INACTIVE")):
        assert gateways.associations(active, {"main": other}, [route]) == {}
        assert gateways.of_cluster([active], other) == []
    assert gateways.of_cluster([leaving, active], MAIN) == [active]
    assert active.clusters == {"main": Association(status="ACTIVE", cluster_since=5.0)}
