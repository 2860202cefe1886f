"""Keys: names, states, rotation, and who may use them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from contracts.records.kms import KeyMaterial, KmsGrant, KmsKey
from services.identity.decisions.kms_access import granted, granted_to_service, judged
from services.identity.decisions.kms_keys import (
    MAX_ON_DEMAND,
    Reference,
    check_alias,
    default_policy,
    is_gone,
    managed_key_id,
    managed_policy,
    next_rotation,
    read_reference,
    require_enabled,
    rotated,
    state,
)
from services.shared.errors import AwsError
from services.shared.policies import ALLOW, EXPLICIT_DENY, IMPLICIT_DENY, RESOURCE, parse

ACCOUNT, REGION, KEY_ID = "000000000000", "us-east-1", "0d6d9d43-7f4e-4e4e-8a3f-5f0c6f4f4a11"
FIRST = KeyMaterial(material_id="aa" * 32, sealed="", created_at=0.0)
KEY = KmsKey(account=ACCOUNT, region=REGION, key_id=KEY_ID, created_at=0.0, policy="", materials=[FIRST])
VERDICTS = st.sampled_from([ALLOW, EXPLICIT_DENY, IMPLICIT_DENY])
OWN = st.tuples(VERDICTS, st.sampled_from(["identity-based", "session"]))
POLICY = st.tuples(VERDICTS, st.booleans())


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (KEY_ID, Reference(ACCOUNT, KEY_ID)),
        (f"arn:aws:kms:{REGION}:111111111111:key/{KEY_ID}", Reference("111111111111", KEY_ID)),
        ("alias/shop", Reference(ACCOUNT, "alias/shop")),
        (f"arn:aws:kms:{REGION}:111111111111:alias/a/b", Reference("111111111111", "alias/a/b")),
    ],
)
def test_a_key_has_four_sorts_of_names(text, meant):
    assert read_reference(text, ACCOUNT, REGION) == meant


@pytest.mark.parametrize(
    "text", ["", "nonsense", "alias/", f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/{KEY_ID}", "arn:aws:ecr:x", "../x"]
)
def test_other_names_are_none(text):
    with pytest.raises(AwsError):
        read_reference(text, ACCOUNT, REGION)


def test_an_alias_of_aws_can_not_be_made():
    for name in ("shop", "alias/", "alias/a b", "alias/aws/ecr"):
        with pytest.raises(AwsError):
            check_alias(name)
    check_alias("alias/shop/2")


def test_a_key_to_be_deleted_can_not_be_used_and_is_gone_when_that_is_due():
    doomed = replace(KEY, deletion_at=100.0)
    assert (state(KEY), state(replace(KEY, enabled=False)), state(doomed)) == ("Enabled", "Disabled", "PendingDeletion")
    assert [is_gone(doomed, now) for now in (99.9, 100.0)] == [False, True]
    with pytest.raises(AwsError, match="pending deletion"):
        require_enabled(doomed)
    with pytest.raises(AwsError, match="disabled"):
        require_enabled(replace(KEY, enabled=False))


def test_rotation_is_due_a_period_after_the_last_and_by_hand_changes_nothing_of_that():
    key = replace(KEY, rotation_days=90, rotation_from=1000.0)
    due = 1000.0 + 90 * 86_400
    assert next_rotation(key) == due
    by_hand = rotated(key, KeyMaterial(material_id="bb", sealed="", created_at=2000.0, rotation="ON_DEMAND"))
    assert next_rotation(by_hand) == due
    by_itself = rotated(by_hand, KeyMaterial(material_id="cc", sealed="", created_at=due, rotation="AUTOMATIC"))
    assert next_rotation(by_itself) == due + 90 * 86_400
    assert [m.material_id for m in by_itself.materials] == ["aa" * 32, "bb", "cc"]
    assert next_rotation(replace(key, enabled=False)) is None
    with pytest.raises(AwsError, match=str(MAX_ON_DEMAND)):
        worn = KEY
        for _ in range(MAX_ON_DEMAND + 1):
            worn = rotated(worn, KeyMaterial(material_id="dd", sealed="", created_at=0.0, rotation="ON_DEMAND"))


def test_the_key_of_a_service_is_one_for_each_account_and_region():
    ids = {managed_key_id(*where, "ecr") for where in ((ACCOUNT, REGION), (ACCOUNT, "eu-west-1"), ("1" * 12, REGION))}
    assert (len(ids), managed_key_id(ACCOUNT, REGION, "ecr") in ids) == (3, True)
    for text in (default_policy(ACCOUNT), managed_policy(ACCOUNT, REGION, "ecr")):
        parse(text, RESOURCE)


@given(st.booleans(), OWN, POLICY, st.booleans())
def test_who_may_use_a_key(own, identity, policy, granted):
    verdict, _ = judged(own, identity, policy, granted)
    if EXPLICIT_DENY in (identity[0], policy[0]):
        assert verdict == EXPLICIT_DENY
    elif verdict == ALLOW and not granted:
        assert policy[0] == ALLOW
        assert identity[0] == ALLOW or (own and policy[1] and identity[1] != "session")
    elif verdict == ALLOW and identity[0] != ALLOW:
        assert identity[1] != "session"


def grant(**members) -> KmsGrant:
    about = {"account": ACCOUNT, "region": REGION, "key_id": KEY_ID, "grant_id": "g", "token": "t", "issuer": "i"}
    return KmsGrant(**about, created_at=0.0, operations=["Decrypt"], **members)


def test_a_grant_is_for_its_grantee_operations_and_context():
    subset = grant(grantee="arn:r", context_subset={"a": "1"})
    assert granted([subset], "Decrypt", ("arn:s", "arn:r"), {"a": "1", "b": "2"}) is subset
    for action, who, context in (
        ("Encrypt", "arn:r", {"a": "1"}),
        ("Decrypt", "arn:x", {"a": "1"}),
        ("Decrypt", "arn:r", {"a": "2"}),
        ("Decrypt", "arn:r", None),
    ):
        assert granted([subset], action, (who,), context) is None
    equals = grant(grantee_service="ecr.amazonaws.com", context_equals={"a": "1"})
    assert granted_to_service([equals], "Decrypt", "ecr.amazonaws.com", {"a": "1"}) is equals
    assert granted_to_service([equals], "Decrypt", "ecr.amazonaws.com", {"a": "1", "b": "2"}) is None
    assert granted([equals], "Decrypt", ("", "ecr.amazonaws.com"), {"a": "1"}) is None
