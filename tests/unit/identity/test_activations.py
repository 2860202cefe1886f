"""Activations: whom one lets in."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from contracts.records.identity import Activation
from contracts.rpc.identity import RegisterNode
from services.identity.decisions.activations import DAY_S, LONGEST_S, admit, check, expiry, node_name
from services.shared.errors import AwsError

NOW = 1000.0
CODE = "abcdefghijklmnopqrst"
ACTIVATION = Activation(
    account="000000000000",
    region="us-east-1",
    activation="a-1",
    code_digest=hashlib.sha256(CODE.encode()).hexdigest(),
    iam_role="ecsAnywhereRole",
    limit=2,
    created_at=1.0,
    expires_at=2000.0,
)


def machine(number: int = 1, **members) -> RegisterNode:
    given = {"activation_id": "a-1", "activation_code": CODE, "region": "us-east-1", "cluster": "main", **members}
    return RegisterNode(secret_digest=hashlib.sha256(str(number).encode()).hexdigest(), **given)


def refused(call) -> str:
    with pytest.raises(AwsError) as error:
        call()
    return error.value.message


def test_an_activation_ends_a_day_from_now_unless_said_otherwise_and_within_30_days():
    assert expiry(None, NOW) == NOW + DAY_S
    assert expiry(NOW + LONGEST_S, NOW) == NOW + LONGEST_S
    for wrong in (NOW, NOW - 1, NOW + LONGEST_S + 1):
        assert "within 30 days" in refused(lambda wrong=wrong: expiry(wrong, NOW))


def test_a_machine_gets_the_next_slot_and_the_name_of_its_secret():
    node = admit(ACTIVATION, [], machine(), NOW)
    assert (node.slot, node.node, node.cluster, node.status) == (
        1,
        node_name("a-1", machine().secret_digest),
        "main",
        "ACTIVE",
    )
    assert node.node.startswith("mi-") and len(node.node) == 20
    assert admit(ACTIVATION, [node], machine(2), NOW).slot == 2


def test_the_same_machine_is_the_same_node_however_often_it_asks_and_when_it_is_late():
    first, second = admit(ACTIVATION, [], machine(), NOW), admit(ACTIVATION, [], machine(2), NOW)
    taken = [first, replace(second, slot=2)]
    assert admit(ACTIVATION, taken, machine(), NOW) == first
    assert admit(ACTIVATION, taken, machine(), 9999.0) == first


def test_who_is_wrong_late_or_too_many_is_refused():
    taken = [admit(ACTIVATION, [], machine(), NOW), replace(admit(ACTIVATION, [], machine(2), NOW), slot=2)]
    assert "not valid" in refused(lambda: admit(None, [], machine(), NOW))
    assert "not valid" in refused(lambda: admit(ACTIVATION, [], machine(activation_code="x" * 20), NOW))
    assert "expired" in refused(lambda: admit(ACTIVATION, [], machine(), 2000.0))
    assert "2 machines" in refused(lambda: admit(ACTIVATION, taken, machine(3), NOW))


def test_a_slot_of_a_node_that_was_taken_out_stays_taken():
    out = replace(admit(ACTIVATION, [], machine(), NOW), status="INACTIVE")
    assert admit(ACTIVATION, [out], machine(2), NOW).slot == 2
    assert "1 machines" in refused(lambda: admit(replace(ACTIVATION, limit=1), [out], machine(2), NOW))


@given(st.lists(st.integers(1, 9), max_size=12), st.integers(1, 5))
def test_never_more_machines_than_the_limit_and_no_slot_twice(asking, limit):
    activation, taken = replace(ACTIVATION, limit=limit), []
    for number in asking:
        try:
            node = admit(activation, taken, machine(number), NOW)
        except AwsError:
            continue
        taken += [node] if node not in taken else []
    assert len(taken) == min(limit, len(set(asking)))
    assert sorted(node.slot for node in taken) == list(range(1, len(taken) + 1))


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"cluster": "a/b"}, "cluster"),
        ({"secret_digest": "ab"}, "secret_digest"),
        ({"hostname": "x" * 256}, "hostname"),
    ],
)
def test_what_can_t_be_a_registration_is_told_by_its_member(members, named):
    assert refused(lambda: check(replace(machine(), **members))).startswith(named)
