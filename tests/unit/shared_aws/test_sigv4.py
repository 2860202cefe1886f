"""Signatures, with botocore's signer as the oracle."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock
from urllib.parse import quote

import botocore.auth
import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import assume, example, given
from hypothesis import strategies as st
from msgspec.structs import replace
from multidict import CIMultiDict

from services.shared.aws.http import AwsHttpRequest
from services.shared.aws.ports import AccessKey
from services.shared.aws.sigv4 import SigV4Authenticator
from services.shared.errors import AuthenticationFailure
from tests.unit.shared_aws.door import KEY, SESSION_KEY, Keys

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
HOST = "ecs.eu-west-1.amazonaws.com"
TARGET = "AmazonEC2ContainerServiceV20141113.CreateCluster"


def signed(
    method: str = "POST",
    target: str = "/",
    body: bytes = b'{"clusterName":"c"}',
    *,
    headers: dict[str, str] | None = None,
    key: AccessKey = KEY,
    at: datetime = NOW,
    presign: int | None = None,
) -> AwsHttpRequest:
    """A request as botocore signs it, in its headers or (`presign` seconds long) in its query string."""
    request = AWSRequest(method, f"https://{HOST}{target}", headers={"Host": HOST, **(headers or {})}, data=body)
    credentials = Credentials(key.access_key_id, key.secret, key.session_token)
    with mock.patch.object(botocore.auth, "get_current_datetime", lambda *args, **kwargs: at.replace(tzinfo=None)):
        if presign is None:
            SigV4Auth(credentials, "ecs", "eu-west-1").add_auth(request)
        else:
            SigV4QueryAuth(credentials, "ecs", "eu-west-1", expires=presign).add_auth(request)
    path, _, query = request.url.removeprefix(f"https://{HOST}").partition("?")
    return AwsHttpRequest(method, path, query, CIMultiDict(request.headers.items()), body)


def door(at: datetime = NOW, **options: Any) -> SigV4Authenticator:
    return SigV4Authenticator(Keys(KEY, SESSION_KEY), at.timestamp, **options)


def refused(request: AwsHttpRequest, at: datetime = NOW, **options: Any) -> str:
    """The kind of the refusal, or `accepted`."""
    try:
        door(at, **options).authenticate(request)
    except AuthenticationFailure as failure:
        return failure.kind
    return "accepted"


def without(request: AwsHttpRequest, *names: str, **added: str) -> AwsHttpRequest:
    headers = CIMultiDict(request.headers)
    for name in names:
        del headers[name]
    headers.update({name.replace("_", "-"): value for name, value in added.items()})
    return replace(request, headers=headers)


def test_a_signed_request_tells_who_signed_it() -> None:
    identity = door().authenticate(signed())
    assert (identity.principal_arn, identity.account, identity.user_id) == (KEY.principal_arn, KEY.account, "AIDA1")
    assert (identity.region, identity.service, identity.session) == ("eu-west-1", "ecs", False)
    assert door().authenticate(signed(key=SESSION_KEY)).session


TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)
SEGMENT = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8)


@given(
    body=st.binary(max_size=64),
    segments=st.lists(SEGMENT, max_size=4),
    query=st.lists(st.tuples(SEGMENT, TEXT), max_size=4, unique_by=lambda pair: pair[0]),
    header=st.text("abc  xyz,;=", max_size=20),
    presign=st.sampled_from([None, 60]),
)
@example(b"", ["arn:aws:eks:eu-west-1:1:cluster/x"], [("tagKeys", "a b+c"), ("A", "")], " two  spaces ", None)
@example(b"", [".", "..", "a"], [], "", None)
def test_what_botocore_signs_is_accepted(
    body: bytes, segments: list[str], query: list[tuple[str, str]], header: str, presign: int | None
) -> None:
    assume(not any(name.startswith("X-Amz-") for name, _ in query))
    path = "/" + "/".join(quote(segment, safe="") for segment in segments)
    text = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in query)
    target = f"{path}?{text}" if text else path
    request = signed("POST", target, b"" if presign else body, headers={"X-Extra": header}, presign=presign)
    assert refused(request) == "accepted"


Change = Callable[[AwsHttpRequest, int, int], AwsHttpRequest]


def in_body(request: AwsHttpRequest, place: int, bit: int) -> AwsHttpRequest:
    body = bytearray(request.body)
    body[place % len(body)] ^= 1 << bit
    return replace(request, body=bytes(body))


def in_query(request: AwsHttpRequest, place: int, bit: int) -> AwsHttpRequest:
    letters = list(request.query)
    at = place % len(letters)
    letters[at] = "x" if letters[at] != "x" else "y"
    return replace(request, query="".join(letters))


def in_path(request: AwsHttpRequest, place: int, bit: int) -> AwsHttpRequest:
    at = 1 + place % (len(request.path) - 1)
    return replace(request, path=request.path[:at] + ("x" if request.path[at] != "x" else "y") + request.path[at + 1 :])


def in_header(request: AwsHttpRequest, place: int, bit: int) -> AwsHttpRequest:
    names = ["Host", "X-Amz-Target", "X-Amz-Date", "Authorization", "X-Amz-Security-Token"]
    name = names[place % len(names)]
    value = request.headers[name]
    at = (place // len(names)) % len(value)
    return without(request, name, **{name: value[:at] + ("7" if value[at] != "7" else "8") + value[at + 1 :]})


def in_method(request: AwsHttpRequest, place: int, bit: int) -> AwsHttpRequest:
    return replace(request, method="PUT")


@given(
    change=st.sampled_from([in_body, in_query, in_path, in_header, in_method]),
    place=st.integers(0, 10_000),
    bit=st.integers(0, 7),
)
def test_any_change_to_what_was_signed_is_refused(change: Change, place: int, bit: int) -> None:
    request = signed(target="/clusters/abc?first=1&second=two", headers={"X-Amz-Target": TARGET}, key=SESSION_KEY)
    assert refused(request) == "accepted"
    assert refused(change(request, place, bit)) != "accepted"


@given(place=st.integers(0, 10_000))
@example(257).via("a letter before X-Amz-Signature")
def test_any_change_to_a_presigned_query_is_refused(place: int) -> None:
    request = signed("GET", "/?Action=GetCallerIdentity&Version=2011-06-15", b"", key=SESSION_KEY, presign=60)
    assert refused(in_query(request, place, 0)) != "accepted"


def test_the_parts_of_a_signature_must_all_be_there() -> None:
    request = signed(headers={"X-Amz-Target": TARGET})
    authorization = request.headers["Authorization"]
    assert refused(without(request, "Authorization")) == "missing"
    assert refused(without(request, Authorization="Bearer x")) == "incomplete"
    for old, new in (("host;", ""), ("x-amz-target", "x-other"), ("aws4_request", "aws5_request"), ("SHA256", "SHA1")):
        assert refused(without(request, Authorization=authorization.replace(old, new))) == "incomplete"
    presigned = signed("GET", "/", b"", presign=60)
    assert refused(replace(presigned, query=presigned.query.replace("X-Amz-Expires=60", ""))) == "incomplete"
    assert refused(replace(presigned, query=presigned.query.replace("Expires=60", "Expires=9999999"))) == "incomplete"


def test_a_header_that_was_signed_must_be_there() -> None:
    assert refused(without(signed(headers={"X-Extra": "1"}), "X-Extra")) == "mismatch"


def test_a_header_that_comes_twice_is_one_value() -> None:
    request = signed(headers={"X-Extra": "a,b"})
    headers = CIMultiDict(request.headers)
    del headers["X-Extra"]
    headers.extend([("X-Extra", "a"), ("X-Extra", " b ")])
    assert refused(replace(request, headers=headers)) == "accepted"


def test_a_key_must_be_known_and_its_token_right() -> None:
    assert refused(signed(key=replace(KEY, access_key_id="AKIAUNKNOWN"))) == "unknown-key"
    assert refused(signed(key=replace(KEY, secret="wrong"))) == "mismatch"
    assert refused(signed(key=replace(SESSION_KEY, session_token=None))) == "bad-token"
    assert refused(signed(key=replace(SESSION_KEY, session_token="other"))) == "bad-token"
    assert refused(signed(key=replace(KEY, session_token="none is due"))) == "bad-token"


def test_temporary_keys_expire() -> None:
    keys = Keys(replace(SESSION_KEY, expires_at=NOW.timestamp()))
    with pytest.raises(AuthenticationFailure) as caught:
        SigV4Authenticator(keys, NOW.timestamp).authenticate(signed(key=SESSION_KEY))
    assert caught.value.kind == "expired-token"


@pytest.mark.parametrize(
    ("minutes", "expected"), [(0, "accepted"), (5, "accepted"), (-5, "accepted"), (5.1, "expired"), (-5.1, "expired")]
)
def test_a_signature_is_good_for_five_minutes_around_its_date(minutes: float, expected: str) -> None:
    assert refused(signed(), at=NOW + timedelta(minutes=minutes)) == expected


def test_an_expired_signature_says_by_how_much() -> None:
    with pytest.raises(AuthenticationFailure) as caught:
        door(NOW + timedelta(minutes=6)).authenticate(signed())
    expected = "Signature expired: 20261123T120000Z is now earlier than 20261123T120100Z (20261123T120600Z - 5 min.)"
    assert caught.value.message == expected


def test_a_presigned_request_is_good_as_long_as_it_says() -> None:
    request = signed("GET", "/", b"", presign=900)
    assert refused(request, at=NOW + timedelta(minutes=14)) == "accepted"
    assert refused(request, at=NOW + timedelta(minutes=16)) == "expired-request"


def test_an_unsigned_payload_is_only_taken_where_it_is_allowed() -> None:
    request = signed(headers={"X-Amz-Content-Sha256": "UNSIGNED-PAYLOAD"})
    assert refused(request) == "mismatch"
    assert refused(request, allow_unsigned_payload=True) == "accepted"
    lying = signed(headers={"X-Amz-Content-Sha256": "0" * 64})
    assert refused(lying, allow_unsigned_payload=True) == "mismatch"


def test_the_scope_must_be_of_the_day_of_the_signature() -> None:
    request = signed()
    authorization = request.headers["Authorization"].replace("/20261123/", "/20261122/")
    assert refused(without(request, Authorization=authorization)) == "mismatch"


@pytest.mark.parametrize("region", ["a.b*>", "..", "us east", "é", "-", "x" * 200])
def test_a_region_that_could_be_none_is_refused(region: str) -> None:
    """It becomes a part of ARNs and of where things are stored."""
    request = signed()
    authorization = request.headers["Authorization"].replace("/eu-west-1/", f"/{region}/")
    request.headers["Authorization"] = authorization
    assert refused(request) in ("wrong-scope", "incomplete")


@pytest.mark.parametrize(
    "date", ["Mon, 01 Jan 2020 00:00:00 +99999999999999", "Mon, 01 Jan 99999 00:00:00 GMT", "\x00", "9" * 5000]
)
def test_a_date_that_is_none_is_refused_and_no_fault(date: str) -> None:
    request = signed()
    del request.headers["X-Amz-Date"]
    request.headers["Authorization"] = request.headers["Authorization"].replace(";x-amz-date", "")
    request.headers["Date"] = date
    assert refused(request) == "incomplete"


@pytest.mark.parametrize("expires", ["9" * 5000, "0", "-1", "604801", "१", "1e3"])
def test_a_life_that_no_presigned_request_may_have_is_refused(expires: str) -> None:
    request = signed("GET", "/", b"", presign=60)
    query = request.query.replace("X-Amz-Expires=60", f"X-Amz-Expires={quote(expires)}")
    assert refused(replace(request, query=query)) == "incomplete"
