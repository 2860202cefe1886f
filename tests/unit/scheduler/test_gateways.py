"""Gateways: what is refused and filled in, which cluster is with which, the route of a service."""

import pytest
from msgspec.structs import replace

from contracts.records.app_runner_gateway import Ingress
from contracts.records.scheduler import Association, Cluster, Gateway
from services.scheduler.decisions import gateways, rollback, services
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


def connected(service, gateway=GATEWAY, definition=DEFINITION):
    return gateways.connected(service, gateway, INGRESS, definition, "r1")


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
        ({"testTrafficRules": {}}, "UnsupportedFeatureException", "testTrafficRules"),
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
        ({"healthCheck": {"healthCheckProtocol": "HTTPS"}}, "UnsupportedFeatureException", "healthCheckProtocol"),
        ({"healthCheck": {"matcher": {"grpcCode": "0"}}}, "UnsupportedFeatureException", "grpcCode"),
        ({"healthCheck": {"matcher": {"httpCode": "200,204"}}}, "UnsupportedFeatureException", "httpCode"),
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
    assert "no gateway" in refusal(connected, wanting(), None)[1]
    assert "awsvpc" in refusal(connected, wanting(), GATEWAY, {**DEFINITION, "networkMode": "bridge"})[1]
    assert "at most 32" in refusal(connected, wanting(33))[1]
    assert connected(ecs.service(1, ecs.deployment("d1")), None).connector is None


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
    plain = connected(wanting()).connector
    assert (plain.drain_s, plain.revisions[0].health_check_path) == (300.0, "/")
    other = connected(wanting(), replace(GATEWAY, name="back")).connector
    assert len({route.host, other.host}) == 2 and plain.host == route.host


def test_an_update_may_change_a_connector_and_not_add_or_remove_one():
    plain, behind = ecs.service(1, ecs.deployment("d1")), connected(wanting())
    assert gateways.check_change(plain, {"gatewayConnectors": [], "desiredCount": 2}) == {"desiredCount": 2}
    assert gateways.check_change(behind, {"desiredCount": 2}) == {"desiredCount": 2}
    for service, given in ((plain, [{"portName": "http"}]), (behind, [])):
        told = refusal(gateways.check_change, service, {"gatewayConnectors": given})
        assert told[0] == "UnsupportedFeatureException"
    changes = {"gatewayConnectors": [{"portName": "http", "healthCheck": {"healthCheckPath": "/up"}}]}
    assert gateways.check_change(behind, changes) == changes


def test_a_changed_connector_is_a_new_deployment_with_its_own_checks():
    behind = connected(wanting())
    changes = {"gatewayConnectors": [{"portName": "http", "healthCheck": {"healthCheckPath": "/up"}}]}
    new = services.updated(behind, changes, None, False, "d2", 2.0)
    new = gateways.followed(new, DEFINITION, 32)
    assert [d.id for d in new.deployments] == ["d2", "d1"]
    assert [(r.deployment, r.health_check_path) for r in new.connector.revisions] == [("d2", "/up"), ("d1", "/")]
    assert new.connector.host == behind.connector.host
    assert gateways.followed(new, DEFINITION, 32) is new


def test_after_a_roll_back_the_checks_are_those_of_before_whatever_else_is_changed():
    behind = connected(wanting())
    ports = [*PORTS, {"containerPort": 81, "name": "admin"}]
    definition = {**DEFINITION, "containerDefinitions": [{"name": "web", "portMappings": ports}]}
    changes = {"gatewayConnectors": [{"portName": "admin", "healthCheck": {"healthCheckPath": "/up"}}]}
    new = gateways.followed(services.updated(behind, changes, None, False, "d2", 2.0), definition, 32)
    assert gateways.port_name(new) == "admin"
    back = rollback.rolled_back(new, new.deployments[0], new.deployments[1], "", 3.0)
    back = services.updated(replace(new, deployments=back), {"desiredCount": 2}, None, False, "d3", 4.0)
    back = gateways.followed(back, definition, 32)
    assert gateways.port_name(back) == "http"
    assert {r.deployment: r.health_check_path for r in back.connector.revisions} == {"d1": "/", "d2": "/up"}


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
        assert gateways.of_cluster([active], other) is None
    assert gateways.of_cluster([leaving, active], MAIN) is active
    assert active.clusters == {"main": Association(status="ACTIVE", cluster_since=5.0)}
