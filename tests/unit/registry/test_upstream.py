"""Which rule holds for a repository, and what it is called upstream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.registry.decisions.upstream import (
    Login,
    Source,
    base_url,
    longest_prefix,
    may_have_login,
    read_login,
    upstream_name,
    valid_host,
)

NAMES = st.lists(st.from_regex(r"[a-z0-9]{1,5}", fullmatch=True), min_size=2, max_size=5).map("/".join)


@pytest.mark.parametrize(
    ("name", "prefixes", "found"),
    [
        ("hub/app", ["hub", "ROOT"], "hub"),
        ("hub/app", ["hub/", "hu"], "hub/"),
        ("hubs/app", ["hub"], None),
        ("hub", ["hub"], None),
        ("hub/a/b", ["hub", "hub/a", "ROOT"], "hub/a"),
        ("other", ["hub", "ROOT"], "ROOT"),
        ("other", [], None),
    ],
)
def test_the_longest_prefix_holds(name, prefixes, found):
    assert longest_prefix(name, prefixes) == found


@pytest.mark.parametrize(
    ("name", "prefix", "upstream_prefix", "upstream"),
    [
        ("hub/library/app", "hub", "ROOT", "library/app"),
        ("hub/app", "hub/", "library", "library/app"),
        ("app", "ROOT", "ROOT", "app"),
        ("app", "ROOT", "team/", "team/app"),
    ],
)
def test_what_it_is_called_upstream(name, prefix, upstream_prefix, upstream):
    assert upstream_name(name, prefix, upstream_prefix) == upstream


@given(NAMES)
def test_a_prefix_and_what_follows_make_the_name(name):
    prefix, _, rest = name.partition("/")
    assert longest_prefix(name, [prefix]) == prefix
    assert upstream_name(name, prefix, "ROOT") == rest
    assert upstream_name(name, prefix, prefix) == name


@pytest.mark.parametrize("host", ["quay.io", "registry-1.docker.io", "127.0.0.1:5000", "a-b.c:443"])
def test_hosts(host):
    assert valid_host(host)


@pytest.mark.parametrize("host", ["", "http://a", "a/b", "a b", "user@a", "a:", "-a", "a..b", "a\n"])
def test_what_is_no_host(host):
    assert not valid_host(host)


def test_only_this_machine_is_asked_without_tls():
    assert base_url("127.0.0.1:5000") == "http://127.0.0.1:5000"
    assert base_url("localhost.example.com") == "https://localhost.example.com"


@pytest.mark.parametrize(
    ("secret", "login"),
    [
        (b'{"username": "u", "accessToken": "t", "more": 1}', Login("u", "t")),
        (b'{"username": "u", "accessToken": ""}', None),
        (b'{"username": "u:v", "accessToken": "t"}', None),
        (b'{"username": 1, "accessToken": "t"}', None),
        (b'{"user": "u", "accessToken": "t"}', None),
        (b"u:t", None),
        (b"\xff", None),
    ],
)
def test_what_is_a_login(secret, login):
    assert read_login(secret) == login


def test_a_login_is_sent_as_it_is_written_and_shown_to_nobody():
    login = Login("me", "tök:en")
    assert login.basic == "Basic bWU6dMO2azplbg=="
    assert "tök" not in repr(login)


@pytest.mark.parametrize(
    ("host", "realm", "may"),
    [
        ("quay.io", "https://auth.quay.io/token", True),
        ("quay.io", "http://auth.quay.io/token", False),
        ("quay.io", "http://127.0.0.1/token", False),
        ("127.0.0.1:5000", "http://127.0.0.1:5000/token", True),
    ],
)
def test_a_login_goes_nowhere_in_clear(host, realm, may):
    assert may_have_login(Source(host, "arn"), realm) == may
