"""Other installations: what may be said of one, and what is left to send to it."""

from __future__ import annotations

import pytest

from contracts.records.registry import Descriptor, Image, ImageReplication, Peer, Place
from services.registry.decisions import peers
from services.registry.decisions.names import RepositoryId, account_of
from services.registry.decisions.peers import BadPeer, NewPeer
from services.registry.decisions.replication import deletes, held_since, targets_since

FAR = Place("000000000000", "eu-west-1")


def known(name: str, *places: Place) -> Peer:
    return Peer(name=name, url="https://x", destinations=list(places), sealed_key="", added_at=0.0)


def wanted(*destinations: str) -> NewPeer:
    return NewPeer(url="https://there:5443", key="here:secret", destinations=list(destinations))


def image(name: str = "shop", digest: str = "sha256:1", *layers: str, pushed_at: float = 5.0) -> Image:
    return Image(
        account="000000000000",
        region="us-east-1",
        repository=name,
        digest=digest,
        media_type="",
        manifest_size=1,
        pushed_at=pushed_at,
        layers=[Descriptor(digest=layer, size=1) for layer in layers],
    )


def told(tags: dict[str, float], pushed_at: float = 5.0) -> ImageReplication:
    return ImageReplication(
        account="000000000000",
        region="us-east-1",
        repository="shop",
        digest="sha256:1",
        to_account=FAR.account,
        to_region=FAR.region,
        status="COMPLETE",
        pushed_at=pushed_at,
        ended_at=9.0,
        tags=tags,
    )


def test_a_registry_is_at_one_installation_alone():
    others = [known("first", FAR)]
    assert peers.check_peer("first", wanted("000000000000/eu-west-1"), others) == [FAR]
    with pytest.raises(BadPeer, match="a destination at first already"):
        peers.check_peer("second", wanted("000000000000/eu-west-1"), others)
    assert peers.peer_at(others, *("000000000000", "eu-west-1")) == others[0]
    assert peers.peer_at(others, *("000000000000", "us-east-1")) is None


@pytest.mark.parametrize("name", ["", "-a", "A", "a/b", "a" * 65, "a:b"])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(BadPeer):
        peers.check_name(name)


@pytest.mark.parametrize(
    ("tags", "ended", "left"),
    [
        ({}, None, True),
        ({}, told({}), False),
        ({"1": 6.0}, told({}), True),
        ({"1": 6.0}, told({"1": 6.0}), False),
        ({"1": 8.0}, told({"1": 6.0}), True),
        ({}, told({}, pushed_at=4.0), True),
    ],
    ids=["new", "done", "new tag", "tag done", "tag that came back", "pushed again"],
)
def test_what_is_left_is_the_image_or_a_tag_that_names_it_since_later(tags, ended, left):
    assert peers.is_left(image(), tags, ended) is left


def test_a_blob_is_taken_from_where_it_is_there_already():
    images = [image("base", "sha256:1", "a", "b"), image("other", "sha256:2", "b", "c")]
    assert peers.mountable(images, {"a", "b", "x"}, {("base", "sha256:1")}) == {"a": "base", "b": "base"}
    assert peers.mountable(images, {"c"}, {("base", "sha256:1")}) == {}


def test_who_fails_is_left_alone_for_longer_each_time():
    assert [peers.wait_s(n) for n in (1, 2, 3, 7, 100)] == [1.0, 2.0, 4.0, 60.0, 60.0]


@pytest.mark.parametrize(("shown", "offset"), [("0-0", 0), ("0-9", 10), ("", 0), ("nonsense", 0)])
def test_the_offset_of_an_upload(shown, offset):
    assert peers.offset_of(shown) == offset


@pytest.mark.parametrize(
    ("status", "lasting"),
    [(400, True), (403, True), (404, True), (401, False), (429, False), (503, False), (507, False)],
)
def test_what_an_operator_or_time_mends_is_tried_again(status, lasting):
    assert peers.is_lasting(status) is lasting


def test_an_error_is_told_by_its_code_and_message_as_far_as_it_has_them():
    assert peers.read_problem(b'{"errors":[{"code":"DENIED"}]}') == ("DENIED", "")
    assert peers.read_problem(b'{"message":"the key is none"}') == ("", "the key is none")
    assert peers.read_problem(b"<html>") == ("", "")


def test_each_installation_has_an_upload_of_its_own_for_a_blob():
    shop, other = (RepositoryId("000000000000", "us-east-1", name) for name in ("shop", "other"))
    ids = [peers.upload_of(*each) for each in (("a", shop, "d"), ("b", shop, "d"), ("a", other, "d"), ("a", shop, "e"))]
    assert len(set(ids)) == 4 and peers.upload_of("a", shop, "d") == ids[0]


@pytest.mark.parametrize(
    ("arn", "account"),
    [
        ("arn:aws:iam::000000000000:root", "000000000000"),
        ("arn:aws:iam::000000000000:role/path/x", "000000000000"),
        ("arn:aws:sts::000000000000:assumed-role/x/y", None),
        ("root", None),
    ],
)
def test_the_account_of_a_principal(arn, account):
    assert account_of(arn) == account


def rule(prefix: str = "", *, delete: bool = False, region: str = "eu-west-1") -> dict:
    found: dict = {"destinations": [{"registryId": FAR.account, "region": region}]}
    if prefix:
        found["repositoryFilters"] = [{"filter": prefix, "filterType": "PREFIX_MATCH"}]
    return {**found, "deleteReplication": {"enabled": delete}}


def test_what_rules_said_before_holds_since_then_and_what_is_new_from_now_on():
    shop, there = (RepositoryId("000000000000", region, "shop") for region in ("us-east-1", "eu-west-1"))
    first = held_since([rule("shop")], [], {}, 0.0, 10.0)
    changed = [rule("shop"), rule("other"), rule(region="ap-south-1")]
    second = held_since(changed, [rule("shop")], first, 10.0, 20.0)
    assert sorted(second.values()) == [10.0, 20.0, 20.0]
    assert targets_since(changed, shop, second, 20.0, 15.0) == [there]
    assert len(targets_since(changed, shop, second, 20.0, 25.0)) == 2
    assert targets_since(changed, shop, second, 20.0, 5.0) == []
    # As it was before it was known since when each part holds: since the rules were set.
    assert held_since([rule("shop")], [rule("shop")], {}, 7.0, 20.0) == {"000000000000/eu-west-1/shop": 7.0}


def test_deletions_go_where_a_rule_with_this_prefix_says_so():
    shop, there = (RepositoryId("000000000000", region, "shop") for region in ("us-east-1", "eu-west-1"))
    assert deletes([rule("sh", delete=True)], shop, there)
    assert not deletes([rule("other", delete=True), rule("sh")], shop, there)
    assert not deletes([{"destinations": []}], shop, there)
