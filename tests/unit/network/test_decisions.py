"""What EC2's permissions and filters mean, and the VPC told from the nodes."""

import pytest

from contracts.aws import ec2
from contracts.records.network import SecurityGroup, interface_subnet, subnet_id
from services.network.decisions import usage
from services.network.decisions.filters import page, selected, tag_facts
from services.network.decisions.permissions import Rule, cidr_of, ports_of, read_permissions, told
from services.network.decisions.places import blocks, covering
from services.shared.errors import AwsError
from tests.builders import ecs
from tests.builders.ecs import ACCOUNT, REGION

GROUP = SecurityGroup(account=ACCOUNT, region=REGION, id="sg-1", name="web", description="d")


def test_a_permission_is_a_rule_for_each_peer():
    permission = ec2.IpPermission(
        ip_protocol="17",
        from_port=53,
        to_port=53,
        ip_ranges=[ec2.IpRange(cidr_ip="10.1.2.3/8", description="us"), ec2.IpRange(cidr_ip="10.0.0.0/8")],
        user_id_group_pairs=[ec2.UserIdGroupPair(group_name="web")],
    )
    assert read_permissions([permission], True, lambda pair: GROUP) == [
        (Rule(True, "udp", 53, 53, "10.0.0.0/8", ""), "us"),
        (Rule(True, "udp", 53, 53, "", "sg-1"), ""),
    ]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Rule(False, "-1", -1, -1, "0.0.0.0/0", ""), "peer: 0.0.0.0/0, ALL, ALLOW"),
        (Rule(False, "tcp", 80, 81, "", "sg-1"), "peer: sg-1, TCP, from port: 80, to port: 81, ALLOW"),
        (Rule(False, "icmp", 8, -1, "10.0.0.0/8", ""), "peer: 10.0.0.0/8, ICMP, type: 8, code: ALL, ALLOW"),
        (Rule(False, "50", -1, -1, "10.0.0.0/8", ""), "peer: 10.0.0.0/8, protocol: 50, ALLOW"),
    ],
)
def test_a_rule_is_told_in_ec2s_words(rule, words):
    assert told(rule) == words


def test_ports_are_for_protocols_that_have_them():
    assert [ports_of("-1", 1, 2), ports_of("icmp", None, None), ports_of("50", 1, 1)] == [(-1, -1)] * 3
    for protocol, first, last in (("tcp", None, 80), ("udp", 2, 1), ("tcp", 0, 65536), ("icmp", -1, 3)):
        with pytest.raises(AwsError):
            ports_of(protocol, first, last)


@pytest.mark.parametrize("text", [None, "10.0.0.1", "10.0.0.0/33", "fd00::/8", "web"])
def test_what_is_no_ipv4_block_is_refused(text):
    with pytest.raises(AwsError):
        cidr_of(text)


def test_filters_know_wildcards_and_let_a_backslash_take_their_meaning():
    things = ["a*b", "acb", "b"]

    def passed(*values):
        filters = [ec2.Filter(name="name", values=list(values))]
        return selected(things, filters, ("name",), lambda thing: {"name": [thing]})

    assert (passed("a?b"), passed(r"a\*b"), passed("b", "*c*"), passed("A*")) == (
        ["a*b", "acb"],
        ["a*b"],
        ["acb", "b"],
        [],
    )
    assert tag_facts({"k": "v"}) == {"tag-key": ["k"], "tag:k": ["v"]}


def test_pages_follow_one_another_until_there_is_none():
    first, token = page(["c", "a", "b"], str, 2, None)
    assert (first, page(["c", "a", "b"], str, 2, token)) == (["a", "b"], (["c"], None))
    with pytest.raises(AwsError):
        page(["a"], str, 2, "§")


def test_the_vpc_has_the_blocks_that_its_nodes_have():
    inside, outside = ecs.node(subnet="10.64.3.0/24"), ecs.node("n2", subnet="172.18.0.0/16")
    assert blocks([]) == ["10.64.0.0/10"]
    assert blocks([inside, outside, outside]) == ["10.64.0.0/10", "172.18.0.0/16"]
    assert blocks([outside]) == ["172.18.0.0/16"]
    assert (covering(["10.64.0.0/24", "10.64.3.0/24"]), covering([])) == ("10.64.0.0/22", "")


def test_a_task_shows_the_subnet_of_its_zone_or_what_was_asked_for():
    own = subnet_id(ACCOUNT, REGION, "us-east-1a")
    for given, shown in ((["s", own], own), (["s", "t"], "s"), ([], own)):
        configuration = {"awsvpcConfiguration": {"subnets": given}}
        assert interface_subnet(configuration, ACCOUNT, REGION, "us-east-1a") == shown


def test_a_service_is_in_the_groups_of_its_next_tasks_and_of_its_deployments():
    def network(group):
        return {"awsvpcConfiguration": {"subnets": ["s"], "securityGroups": [group]}}

    deployments = [ecs.deployment(network_configuration=network(group)) for group in ("a", "b")]
    service = ecs.service(1, *deployments, request={"networkConfiguration": network("c")})
    assert usage.of_service(service) == {"a", "b", "c"}
    assert usage.of_service(ecs.service(1, *deployments, status="INACTIVE")) == set()


def test_a_task_lets_go_of_its_groups_when_it_is_over():
    wanted, unwanted = ecs.task(), ecs.task(desired_status="STOPPED")
    assert [usage.over(t, None) for t in (wanted, unwanted, ecs.task(lost_at=1.0))] == [False, True, True]
    assert [usage.over(unwanted, ecs.status(unwanted, s)) for s in ("RUNNING", "STOPPED")] == [False, True]
