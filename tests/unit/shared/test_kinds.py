"""Subjects, keys and filters."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.grants import USERS, permissions
from contracts.kinds import Kind, escape, unescape
from contracts.records import KINDS
from services.shared.views import matches


class Thing(msgspec.Struct):
    account: str
    name: str


THING = Kind("maker", "thing", Thing, ("account", "name"))


@given(st.text())
def test_any_text_comes_back_from_its_token(text):
    assert unescape(escape(text)) == text


@given(st.text())
def test_a_token_is_one_token_to_nats(text):
    assert not set(escape(text)) & set(" \t\r\n.*>\0") and escape(text)


@given(st.text(), st.text())
def test_two_keys_never_share_a_subject(one, other):
    same = THING.subject(("a", one)) == THING.subject(("a", other))
    assert same == (one == other)


@given(st.text(), st.text())
def test_the_key_is_read_from_the_subject(account, name):
    thing = Thing(account, name)
    assert THING.key_from(THING.subject(THING.key_of(thing))) == (account, name)


def test_a_filter_fixes_some_fields_and_leaves_the_others():
    assert THING.filter(account="1.2") == "state.maker.thing.1%2E2.*"


@pytest.mark.parametrize(
    ("pattern", "subject", "expected"),
    [
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        ("a.*", "a.b", True),
        ("a.*", "a.b.c", False),
        ("a.*.c", "a.b.c", True),
        ("a.*.c", "a.b.d", False),
        ("a.b", "a.b", True),
        ("a.b", "a", False),
    ],
)
def test_a_filter_matches_as_nats_does(pattern, subject, expected):
    assert matches(pattern, subject) is expected


def test_a_kind_names_only_fields_that_the_record_has():
    with pytest.raises(TypeError):
        Kind("maker", "thing", Thing, ("account", "nosuch"))


def test_no_two_kinds_share_a_prefix():
    assert len({kind.prefix for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("user", USERS)
def test_a_service_may_write_only_its_own_state(user):
    allowed = permissions(user)["publish"]["allow"]
    assert [subject for subject in allowed if subject.startswith("state.")] == [f"state.{user}.>"]
