"""Signing requests to others, with botocore's signers of S3 as the oracle."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from unittest import mock
from urllib.parse import quote

import botocore.auth
import pytest
from botocore import credentials as botocore_credentials
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from hypothesis import given
from hypothesis import strategies as st

from services.shared.aws.signer import Credentials, canonical, presigned_query, signed_headers

NOW = datetime(2026, 11, 27, 9, 30, 0, tzinfo=UTC)
KEYS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
SESSION = Credentials("ASIDEXAMPLE", "another/secret", "session+token==")
HOST = "127.0.0.1:8333"
TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12)


def botocore_signed(auth: type, keys: Credentials, request: AWSRequest, **options: int) -> AWSRequest:
    """The request, signed by botocore at the same moment."""
    theirs = botocore_credentials.Credentials(keys.access_key_id, keys.secret, keys.session_token or None)
    with mock.patch.object(botocore.auth, "get_current_datetime", lambda *args, **kwargs: NOW.replace(tzinfo=None)):
        auth(theirs, "s3", "eu-west-1", **options).add_auth(request)
    return request


@given(key=TEXT, query=st.dictionaries(TEXT.filter(bool), TEXT, max_size=3), value=st.text("ab ", max_size=6))
def test_a_signature_is_what_botocore_makes_of_the_same_request(key, query, value):
    for keys in (KEYS, SESSION):
        path = f"/bucket/{quote(key, safe='/-_.~')}"
        text = canonical(query)
        payload = sha256(key.encode()).hexdigest()
        headers = {"Host": HOST, "X-Amz-Content-Sha256": payload, "X-Amz-Meta-Name": value}
        ours = signed_headers(keys, "s3", "eu-west-1", NOW.timestamp(), "PUT", path, text, headers, payload)
        request = AWSRequest("PUT", f"https://{HOST}{path}?{text}", headers=headers, data=key.encode())
        theirs = botocore_signed(S3SigV4Auth, keys, request)
        assert ours["Authorization"] == theirs.headers["Authorization"]


@pytest.mark.parametrize("keys", [KEYS, SESSION])
def test_a_presigned_url_is_what_botocore_makes(keys):
    path = "/bucket/a%20key/%C3%A4"
    query = presigned_query(keys, "s3", "eu-west-1", NOW.timestamp(), "GET", HOST, path, {}, 600)
    theirs = botocore_signed(S3SigV4QueryAuth, keys, AWSRequest("GET", f"http://{HOST}{path}"), expires=600)
    assert sorted(query.split("&")) == sorted(theirs.url.partition("?")[2].split("&"))


def test_keys_show_nothing_of_their_secret():
    assert repr(SESSION) == "Credentials('ASIDEXAMPLE')"
