"""Questions and answers as they lie on the wire, and what nobody should have sent."""

import random
import struct

import pytest
from msgspec.structs import replace

from contracts.records.discovery import DiscoveryService, DnsRecord, Instance, Namespace
from services.discovery.decisions import wire
from services.discovery.decisions.answers import Answers
from services.discovery.decisions.zones import Zones, names_of
from tests.builders.dns import parsed, question

WHERE = {"account": "000000000000", "region": "us-east-1"}
LOCAL = Namespace(**WHERE, id="ns-1", name="Shop.local", type="DNS_PRIVATE", created_at=1.0)


def service(*types: str, name: str = "backend", routing: str = "MULTIVALUE") -> DiscoveryService:
    return DiscoveryService(
        **WHERE,
        id=f"srv-{name}",
        name=name,
        namespace="ns-1",
        type="DNS_HTTP",
        created_at=1.0,
        routing_policy=routing,
        dns_records=[DnsRecord(type=t, ttl=5) for t in types],
    )


def instance(number: int, health: str = "HEALTHY", **attributes: str) -> Instance:
    given = {"AWS_INSTANCE_IPV4": f"10.0.{number // 250}.{number % 250 + 1}", **attributes}
    return Instance(**WHERE, service_id="srv", id=f"t{number}", attributes=given, registered_at=1.0, health=health)


def answers(*pairs: tuple[DiscoveryService, list[Instance]]) -> Answers:
    zones = Zones()
    zones.set_namespaces([LOCAL])
    for each, instances in pairs:
        zones.set_service(("a", "r", each.id), names_of(LOCAL, each, instances))
    return Answers(zones, random.Random(1))


def asked(of: Answers, name: str, kind: str = "A", edns: int | None = None):
    return parsed(of.udp(question(name, kind, edns=edns)))


def test_all_instances_of_a_service_are_answered_with_their_ttl_and_authority():
    answer = asked(answers((service("A"), [instance(0), instance(1)])), "backend.shop.local")
    assert sorted(answer.records) == [
        ("backend.shop.local", "A", 5, "10.0.0.1"),
        ("backend.shop.local", "A", 5, "10.0.0.2"),
    ]
    assert (answer.code, answer.flags) == (0, {"qr", "aa", "rd", "ra"})


def test_names_are_the_same_in_any_case_and_the_question_comes_back_as_it_was_asked():
    answer = asked(answers((service("A"), [instance(0)])), "BackEnd.SHOP.local")
    assert answer.records == [("BackEnd.SHOP.local", "A", 5, "10.0.0.1")]


def test_answers_go_round_so_that_every_instance_comes_first():
    of = answers((service("A"), [instance(n) for n in range(4)]))
    firsts = {asked(of, "backend.shop.local").data()[0] for _ in range(8)}
    assert len(firsts) == 4


def test_eight_of_many_are_answered_and_all_of_them_come_up():
    of = answers((service("A"), [instance(n) for n in range(20)]))
    found = [asked(of, "backend.shop.local").data() for _ in range(64)]
    assert {len(set(each)) for each in found} == {8}
    assert len({address for each in found for address in each}) > 16


def test_a_weighted_service_answers_with_one_of_its_instances_at_a_time():
    of = answers((service("A", routing="WEIGHTED"), [instance(0), instance(1)]))
    found = [asked(of, "backend.shop.local").data() for _ in range(6)]
    assert {len(each) for each in found} == {1}
    assert {each[0] for each in found} == {"10.0.0.1", "10.0.0.2"}


@pytest.mark.parametrize("routing", ["MULTIVALUE", "WEIGHTED"])
def test_answers_are_of_one_group_each_as_often_as_its_share_of_the_traffic_says(routing):
    blue = [replace(instance(n), owner="ecs/main/web", group="blue", weight=95.0) for n in range(3)]
    green = [replace(instance(9), owner="ecs/main/web", group="green", weight=5.0)]
    of = answers((service("A", routing=routing), [*blue, *green]))
    found = [tuple(sorted(asked(of, "backend.shop.local").data())) for _ in range(400)]
    assert found.count(("10.0.0.10",)) == 20
    others = [one for one in found if one != ("10.0.0.10",)]
    each = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    if routing == "MULTIVALUE":
        assert set(others) == {tuple(each)}
    else:
        assert sorted(others.count((one,)) for one in each) == [126, 126, 128]


def test_instances_of_one_group_alone_are_answered_as_any():
    of = answers((service("A"), [replace(instance(n), group="blue", weight=95.0) for n in range(2)]))
    assert sorted(asked(of, "backend.shop.local").data()) == ["10.0.0.1", "10.0.0.2"]


def test_unhealthy_instances_are_left_out_unless_all_are():
    some = answers((service("A"), [instance(0), instance(1, "UNHEALTHY")]))
    none = answers((service("A"), [instance(0, "UNHEALTHY"), instance(1, "UNHEALTHY")]))
    assert asked(some, "backend.shop.local").data() == ["10.0.0.1"]
    assert len(asked(none, "backend.shop.local").data()) == 2


def test_srv_records_point_to_names_that_have_an_address():
    of = answers((service("SRV"), [instance(0, AWS_INSTANCE_PORT="8080")]))
    assert asked(of, "backend.shop.local", "SRV").data("SRV") == ["1 1 8080 t0.backend.shop.local"]
    assert asked(of, "t0.backend.shop.local").data() == ["10.0.0.1"]


def test_a_cname_is_followed_inside_the_zone():
    alias = service("CNAME", name="alias", routing="WEIGHTED")
    of = answers((service("A"), [instance(0)]), (alias, [instance(1, AWS_INSTANCE_CNAME="backend.shop.local")]))
    assert asked(of, "alias.shop.local").records == [
        ("alias.shop.local", "CNAME", 5, "backend.shop.local"),
        ("backend.shop.local", "A", 5, "10.0.0.1"),
    ]


def test_no_such_name_and_no_such_record_are_told_apart_with_the_soa():
    of = answers((service("A"), [instance(0)]))
    missing, empty = asked(of, "nobody.shop.local"), asked(of, "backend.shop.local", "AAAA")
    assert (missing.code, missing.records, missing.authority[0][:3]) == (3, [], ("shop.local", "SOA", 15))
    assert (empty.code, empty.records, empty.authority[0][:3]) == (0, [], ("shop.local", "SOA", 15))


def test_a_name_between_the_zone_and_a_service_exists_without_records():
    of = answers((service("A", name="web.eu"), [instance(0)]))
    assert asked(of, "eu.shop.local").code == 0
    assert asked(of, "us.shop.local").code == 3


def test_the_zone_itself_has_soa_and_ns():
    of = answers()
    assert asked(of, "shop.local", "SOA").records[0][:3] == ("shop.local", "SOA", 15)
    assert asked(of, "shop.local", "NS").data("NS") == ["ns.shop.local"]


def test_an_answer_that_is_too_long_for_udp_is_cut_and_whole_over_tcp():
    many = [instance(n, AWS_INSTANCE_PORT="80") for n in range(8)]
    long = service("SRV", name="a-service-with-a-name-that-is-rather-long-for-a-name")
    of = answers((long, many))
    name = f"{long.name}.shop.local"
    assert asked(of, name, "SRV").flags >= {"tc"} and not asked(of, name, "SRV").records
    assert len(asked(of, name, "SRV", edns=4096).data("SRV")) == 8
    assert len(parsed(of.tcp(question(name, "SRV"))).data("SRV")) == 8


def test_names_of_others_are_to_be_asked_elsewhere():
    found = answers().udp(question("example.org"))
    assert isinstance(found, wire.Query) and found.name == b"\x07example\x03org\x00"


def test_what_was_deleted_is_not_answered_from_memory():
    zones = Zones()
    zones.set_namespaces([LOCAL])
    zones.set_service(("a", "r", "s"), names_of(LOCAL, service("A"), [instance(0)]))
    of = Answers(zones, random.Random(1))
    assert asked(of, "backend.shop.local").code == 0
    zones.set_service(("a", "r", "s"), {})
    of.forget()
    assert asked(of, "backend.shop.local").code == 3


@pytest.mark.parametrize(
    ("message", "code"),
    [
        pytest.param(b"", None, id="nothing"),
        pytest.param(b"\0" * 11, None, id="half a header"),
        pytest.param(struct.pack("!HHHHHH", 1, 0x8000, 1, 0, 0, 0), None, id="an answer"),
        pytest.param(struct.pack("!HHHHHH", 1, 0x2800, 1, 0, 0, 0), 4, id="an update"),
        pytest.param(struct.pack("!HHHHHH", 1, 0, 2, 0, 0, 0), 1, id="two questions"),
        pytest.param(struct.pack("!HHHHHH", 1, 0, 1, 0, 0, 0), 1, id="no question"),
        pytest.param(struct.pack("!HHHHHH", 1, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1", 1, id="a name that is itself"),
        pytest.param(struct.pack("!HHHHHH", 1, 0, 1, 0, 0, 0) + b"\x3fshort", 1, id="a label that is cut"),
        pytest.param(struct.pack("!HHHHHH", 1, 0, 1, 0, 0, 0) + b"\x01a" * 200 + b"\0\0\1\0\1", 1, id="a long name"),
        pytest.param(question("backend.shop.local", "AXFR"), 5, id="a transfer"),
    ],
)
def test_hostile_messages_get_an_error_or_nothing(message, code):
    answer = answers((service("A"), [instance(0)])).udp(message)
    assert (None if answer is None else parsed(answer + b"").code if len(answer) > 12 else answer[3] & 15) == code


def test_no_message_makes_it_fail():
    of = answers((service("A", "SRV"), [instance(0, AWS_INSTANCE_PORT="1")]))
    chance = random.Random(7)
    good = question("backend.shop.local", edns=1232)
    for _ in range(20_000):
        message = bytearray(good[: chance.randrange(len(good) + 1)])
        for _ in range(chance.randrange(6)):
            if message:
                message[chance.randrange(len(message))] = chance.randrange(256)
        of.udp(bytes(message))
        of.tcp(bytes(message) + chance.randbytes(chance.randrange(8)))


def test_edns_of_a_version_to_come_is_told_so():
    message = bytearray(question("backend.shop.local", edns=1232))
    message[-5] = 1
    answer = answers((service("A"), [instance(0)])).udp(bytes(message))
    assert answer[3] & 15 == 0 and answer[-6] == 1
