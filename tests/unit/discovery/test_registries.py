"""Which tasks are instances, and with which attributes."""

import random
from collections import Counter

import pytest
from msgspec.structs import replace

from contracts.records.agent import NetworkInterface
from contracts.records.discovery import DiscoveryService, DnsRecord, Instance
from services.discovery.decisions import registries
from services.discovery.decisions.instances import check, discovered, drawn
from services.discovery.decisions.registries import Member, Registration
from services.shared.errors import AwsError
from tests.builders import ecs

ARN = "arn:aws:servicediscovery:us-east-1:000000000000:service/srv-1"
NETWORK = NetworkInterface(private_ipv4="10.0.0.5")
ATTRIBUTES = {
    "AWS_INSTANCE_IPV4": "10.0.0.5",
    "AWS_INSTANCE_PORT": "8080",
    "ECS_CLUSTER_NAME": "main",
    "ECS_SERVICE_NAME": "web",
    "ECS_TASK_DEFINITION_FAMILY": "web",
    "AVAILABILITY_ZONE": "us-east-1a",
    "REGION": "us-east-1",
}


def registered(**registry) -> object:
    return ecs.service(1, request={"serviceRegistries": [{"registryArn": ARN, **registry}]})


def member(last_status: str = "RUNNING", *, checked: bool = False, health: str = "UNKNOWN", **task) -> Member:
    placed = ecs.task("t1", service="web", zone="us-east-1a", **task)
    status = ecs.status(placed, last_status, network=NETWORK, health_status=health)
    return Member(placed, status, checked, {"web": [8080, 9090]})


def test_a_running_task_is_an_instance_with_its_address_and_whereabouts():
    assert registries.wanted(registered(), [member()]) == {("srv-1", "t1"): Registration(ATTRIBUTES)}


@pytest.mark.parametrize(
    "out",
    [
        pytest.param(member("PENDING"), id="not running yet"),
        pytest.param(member("STOPPED"), id="stopped"),
        pytest.param(member(desired_status="STOPPED"), id="about to stop"),
        pytest.param(member(lost_at=5.0), id="lost with its node"),
        pytest.param(member(health="UNHEALTHY"), id="unhealthy"),
        pytest.param(member(checked=True), id="not healthy yet"),
        pytest.param(member()._replace(status=None), id="without a status"),
    ],
)
def test_a_task_that_does_not_serve_is_no_instance(out):
    assert registries.wanted(registered(), [out]) == {}


def test_a_task_with_a_health_check_is_an_instance_once_it_is_healthy():
    assert registries.wanted(registered(), [member(checked=True, health="HEALTHY")]) == {
        ("srv-1", "t1"): Registration(ATTRIBUTES)
    }


def test_a_service_without_a_registry_or_that_is_gone_has_no_instances():
    assert registries.wanted(ecs.service(1), [member()]) == {}
    assert registries.wanted(None, [member()]) == {}
    assert registries.wanted(replace(registered(), status="INACTIVE"), [member()]) == {}


@pytest.mark.parametrize(
    ("blue", "green", "found"),
    [
        (None, None, {"t1": ("", None), "t2": ("", None)}),
        (100.0, 0.0, {"t1": ("", None)}),
        (95.0, 5.0, {"t1": ("blue", 95.0), "t2": ("green", 5.0)}),
        (0.0, 100.0, {"t2": ("", None)}),
        (None, 0.0, {"t1": ("", None)}),
        (95.0, None, {"t1": ("", None), "t2": ("", None)}),
    ],
)
def test_tasks_of_a_deployment_without_traffic_are_no_instances_and_the_others_share_it(blue, green, found):
    of = registered()
    deployments = [ecs.deployment("green", weight=green), ecs.deployment("blue", weight=blue, status="ACTIVE")]
    one, two = member(deployment="blue"), member(deployment="green")
    two = two._replace(task=replace(two.task, id="t2"))
    wanted = registries.wanted(replace(of, deployments=deployments), [one, two])
    assert {task: (r.group, r.weight) for (_, task), r in wanted.items()} == found


def test_tasks_of_a_task_set_are_found_where_the_set_says_and_by_its_external_id():
    sets = [ecs.task_set("s1", external_id="v1", service_registries=[{"registryArn": ARN}]), ecs.task_set("s2")]
    of = replace(ecs.service(1), deployments=[], task_sets=sets)
    one, two = member(deployment="s1"), member(deployment="s2")
    found = registries.wanted(of, [one, two._replace(task=replace(two.task, id="t2"))])
    assert found == {("srv-1", "t1"): Registration({**ATTRIBUTES, "ECS_TASK_SET_EXTERNAL_ID": "v1"})}


@pytest.mark.parametrize(
    ("registry", "port"),
    [({"port": 7000}, "7000"), ({"containerName": "web", "containerPort": 9090}, "9090"), ({}, "8080")],
)
def test_the_port_is_the_registry_s_or_the_first_of_the_task(registry, port):
    ((attributes, *_),) = registries.wanted(registered(**registry), [member()]).values()
    assert attributes["AWS_INSTANCE_PORT"] == port


def instance(name: str, health: str = "HEALTHY", **attributes: str) -> Instance:
    return Instance(
        account="a", region="r", service_id="s", id=name, attributes=attributes, registered_at=1.0, health=health
    )


MIXED = [instance("a", stage="beta"), instance("b", "UNHEALTHY", stage="beta"), instance("c", stage="prod", zone="z1")]


@pytest.mark.parametrize(
    ("required", "optional", "health", "found"),
    [
        ({}, {}, None, "ac"),
        ({}, {}, "ALL", "abc"),
        ({}, {}, "UNHEALTHY", "b"),
        ({"stage": "beta"}, {}, "HEALTHY", "a"),
        ({}, {"zone": "z1"}, "ALL", "c"),
        ({}, {"zone": "nowhere"}, "ALL", "abc"),
        ({"stage": "gone"}, {}, None, ""),
    ],
)
def test_discovered_instances_match_what_is_required_and_if_possible_what_is_liked(required, optional, health, found):
    assert "".join(i.id for i in discovered(MIXED, required, optional, health)) == found


@pytest.mark.parametrize(
    "attributes",
    [{}, {"AWS_INSTANCE_IPV4": "10.0.0.300"}, {"AWS_INSTANCE_IPV4": "10.0.0.3", "AWS_INSTANCE_PORT": "0"}],
)
def test_attributes_that_make_no_record_are_refused(attributes):
    service = DiscoveryService(
        account="a",
        region="r",
        id="s",
        name="n",
        namespace="ns",
        type="DNS_HTTP",
        created_at=1.0,
        dns_records=[DnsRecord(type="A", ttl=1)],
    )
    with pytest.raises(AwsError) as refused:
        check(service, attributes)
    assert refused.value.code == "InvalidInput"


def test_the_first_of_the_discovered_instances_is_of_a_group_as_often_as_its_share_says():
    def of(name: str, group: str, weight: float) -> Instance:
        return replace(instance(name), owner="ecs/main/web", group=group, weight=weight)

    found = [of("b1", "blue", 75.0), of("b2", "blue", 75.0), of("b3", "blue", 75.0), of("g1", "green", 25.0)]
    chance = random.Random(1)
    firsts = Counter(drawn(found, chance)[0].group for _ in range(4000))
    assert firsts["green"] == pytest.approx(1000, abs=100)
    assert sorted(i.id for i in drawn(found, chance)) == ["b1", "b2", "b3", "g1"]
