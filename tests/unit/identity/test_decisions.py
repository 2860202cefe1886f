"""What identity decides."""

import pytest

from contracts.records.identity import Role
from services.identity.decisions import expired, parse_role_arn, root_key, session_key
from services.shared.errors import AwsError


def choose(alphabet: str, length: int) -> str:
    return (alphabet * 20)[:length]


def session(duration_s: int = 3600):
    role = Role(
        account="111111111111",
        role_name="shop",
        role_id="AROA1",
        path="/team/",
        arn="arn:aws:iam::111111111111:role/team/shop",
        trust="{}",
        created_at=0.0,
    )
    return session_key(role, "a task", duration_s, 1000.0, choose)


def test_a_session_speaks_for_the_assumed_role():
    key = session()
    assert (key.account, key.principal_arn, key.expires_at, len(key.access_key_id)) == (
        "111111111111",
        "arn:aws:sts::111111111111:assumed-role/shop/a-task",
        4600.0,
        20,
    )


@pytest.mark.parametrize(("asked", "given"), [(1, 900), (3600, 3600), (10**6, 43200)])
def test_a_session_lasts_between_fifteen_minutes_and_twelve_hours(asked, given):
    assert session(asked).expires_at == 1000.0 + given


@pytest.mark.parametrize("arn", ["", "role/x", "arn:aws:iam::1:role/x", "arn:aws:iam::111111111111:user/x"])
def test_what_is_no_role_is_refused(arn):
    with pytest.raises(AwsError):
        parse_role_arn(arn)


def test_keys_that_are_over_are_named_with_the_next_end():
    keys = [root_key("AKIA", "s", 0.0), session(900), session(3600)]
    assert expired(keys, 2000.0) == ([keys[1]], 4600.0)
