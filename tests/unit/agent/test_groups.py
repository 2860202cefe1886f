"""Security groups as rules for packets, these as nft's commands, and who is in which group."""

from msgspec.structs import replace

from contracts.records.agent import NetworkInterface
from contracts.records.network import SecurityGroup, SecurityGroupRule, default_group, default_group_id
from contracts.rpc.scheduler import WORKLOADS_CLUSTER
from services.agent.decisions.groups import Membership, groups_of, packet_rules, peers
from services.agent.runtimes.packets import changed, whole
from services.agent.values import PacketRule, PacketRules
from tests.builders import ecs
from tests.builders.ecs import ACCOUNT, REGION

ALL = PacketRule("-1")
WEB, DB = "sg-0123456789abcdef0", "sg-00000000"


def group(*rules, name=WEB):
    return SecurityGroup(account=ACCOUNT, region=REGION, id=name, name=name, description="d", rules=[*rules])


def rule(protocol="-1", first=-1, last=-1, cidr="", peer="", egress=False):
    return SecurityGroupRule(
        id="sgr-1", egress=egress, protocol=protocol, from_port=first, to_port=last, cidr=cidr, group=peer
    )


OUT = rule(cidr="0.0.0.0/0", egress=True)


def test_a_task_may_what_any_of_its_groups_lets_it():
    ssh, http = rule("tcp", 22, 22, "10.0.0.0/8"), rule("tcp", 80, 80, peer=DB)
    found = packet_rules([group(ssh, OUT), group(http, ssh)], {DB: {"10.0.0.9", "10.0.0.2"}}.__getitem__)
    assert found == PacketRules(
        [PacketRule("tcp", 22, 22, "10.0.0.0/8"), PacketRule("tcp", 80, 80, "", DB)],
        [ALL],
        {DB: ["10.0.0.2", "10.0.0.9"]},
    )
    assert peers([group(ssh, http)]) == {DB}


def test_what_lets_everything_through_needs_no_rules_and_no_group_lets_nothing():
    assert packet_rules([default_group(ACCOUNT, REGION)], set) is None
    assert packet_rules([group(OUT), group(rule(cidr="0.0.0.0/0"))], set) is None
    assert packet_rules([group(OUT)], set, "10.0.0.1") == PacketRules([PacketRule("-1", cidr="10.0.0.1/32")], [ALL])
    assert packet_rules([], set) == PacketRules()


def test_a_task_without_groups_is_in_the_default_one_and_app_runners_are_in_none():
    network = {"awsvpcConfiguration": {"subnets": ["s"]}}
    assert groups_of(ecs.task(network_configuration=network)) == [default_group_id(ACCOUNT, REGION)]
    named = {"awsvpcConfiguration": {"subnets": ["s"], "securityGroups": [WEB, DB]}}
    assert groups_of(ecs.task(network_configuration=named)) == [WEB, DB]
    assert groups_of(ecs.task()) == []
    assert groups_of(ecs.task(network_configuration=network, cluster=WORKLOADS_CLUSTER)) == []


def test_a_task_is_a_member_from_when_its_address_is_known_until_it_has_stopped():
    members = Membership()
    pending = ecs.status(ecs.task(), "PENDING", network=NetworkInterface(private_ipv4="10.0.0.2", groups=[WEB, DB]))
    running, stopped = replace(pending, last_status="RUNNING"), replace(pending, last_status="STOPPED")
    assert members.apply(("k",), None, replace(pending, network=None)) == set()
    assert members.apply(("k",), None, pending) == {WEB, DB}
    assert members.apply(("k",), pending, running) == set()
    assert (members.addresses(WEB), members.addresses("sg-x")) == ({"10.0.0.2"}, set())
    assert members.apply(("k",), running, stopped) == {WEB, DB}
    assert members.addresses(WEB) == set()


def lines(rules, resolvers=()):
    return [line.strip() for line in whole(rules, resolvers).splitlines()]


def test_rules_become_a_table_that_drops_all_else():
    rules = PacketRules(
        [PacketRule("tcp", 80, 443, "10.0.0.0/8"), PacketRule("udp", 53, 53, "", WEB)], [ALL], {WEB: ["10.0.0.2"]}
    )
    assert lines(rules, ["10.64.0.1"]) == [
        "table inet roadstead_groups",
        "delete table inet roadstead_groups",
        "table inet roadstead_groups {",
        "set sg_0123456789abcdef0 { type ipv4_addr; elements = { 10.0.0.2 }; }",
        "chain input {",
        "type filter hook input priority filter; policy drop;",
        'iifname "lo" accept',
        "ct state established,related accept",
        "ip saddr 10.0.0.0/8 tcp dport 80-443 accept",
        "ip saddr @sg_0123456789abcdef0 udp dport 53 accept",
        "}",
        "chain output {",
        "type filter hook output priority filter; policy drop;",
        'oifname "lo" accept',
        "ct state established,related accept",
        "ip daddr 10.64.0.1 meta l4proto { tcp, udp } th dport 53 accept",
        "meta nfproto ipv4 accept",
        "}",
        "}",
    ]


def test_every_protocol_has_its_words():
    given = [
        (PacketRule("tcp", 0, 65535), "meta l4proto tcp"),
        (PacketRule("icmp"), "meta l4proto icmp"),
        (PacketRule("icmp", 8), "icmp type 8"),
        (PacketRule("icmp", 3, 4), "icmp type 3 icmp code 4"),
        (PacketRule("50"), "meta l4proto 50"),
    ]
    for each, words in given:
        assert f"meta nfproto ipv4 {words} accept" in lines(PacketRules([each], []))


def test_another_member_changes_the_set_and_another_rule_the_table():
    rule_of_web = PacketRule("tcp", 80, 80, "", WEB)
    before = PacketRules([rule_of_web], [], {WEB: ["10.0.0.2", "10.0.0.3"]})
    after = PacketRules([rule_of_web], [], {WEB: ["10.0.0.3", "10.0.0.4"]})
    assert changed(before, after) == (
        "delete element inet roadstead_groups sg_0123456789abcdef0 { 10.0.0.2 }\n"
        "add element inet roadstead_groups sg_0123456789abcdef0 { 10.0.0.4 }\n"
    )
    assert changed(before, before) == ""
    assert changed(before, PacketRules([rule_of_web], [ALL], before.members)) is None
