"""Tokens and signed URLs."""

import base64

import pytest

from services.registry.decisions.names import RepositoryId
from services.registry.decisions.tokens import (
    Token,
    basic_password,
    layer_signature_holds,
    seal,
    sign_layer,
    unseal,
)

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
SHOP, BANK = (RepositoryId("000000000000", "us-east-1", name) for name in ("shop", "bank"))
TOKEN = Token(account="000000000000", principal="arn", expires_at=100.0)


def test_a_token_is_what_it_was_until_it_is_over():
    text = seal(TOKEN, KEY)
    assert unseal(text, KEY, 99.0) == TOKEN
    assert unseal(text, KEY, 100.0) is None
    assert unseal(text, OTHER_KEY, 99.0) is None


@pytest.mark.parametrize("change", [lambda t: t[:-1], lambda t: "A" + t, lambda t: t.replace(".", ""), lambda t: "é.é"])
def test_a_token_that_was_changed_is_none(change):
    assert unseal(change(seal(TOKEN, KEY)), KEY, 99.0) is None


def test_a_payload_can_t_be_exchanged():
    payload, _, _ = seal(Token(account="1", principal="x", expires_at=1e12), OTHER_KEY).partition(".")
    _, _, mac = seal(TOKEN, KEY).partition(".")
    assert unseal(f"{payload}.{mac}", KEY, 99.0) is None


def test_what_a_token_opens():
    assert TOKEN.may_reach(SHOP, write=True)
    assert TOKEN.may_reach(RepositoryId("111111111111", "us-east-1", "shop"), write=False)
    bounded = Token(account="000000000000", principal="arn", expires_at=1.0, only=SHOP.arn)
    assert [bounded.may_reach(*ask) for ask in ((SHOP, False), (SHOP, True), (BANK, False))] == [True, False, False]


def test_the_password_of_basic_authentication():
    def header(text: str) -> str:
        return "Basic " + base64.b64encode(text.encode()).decode()

    assert basic_password(header("AWS:a:b")) == "a:b"
    wrong = [header("root:a"), header("AWS"), "Basic !", "Basic", "Bearer x", "", "Basic /w=="]
    assert [basic_password(each) for each in wrong] == [None] * len(wrong)


def test_a_layer_s_url_holds_for_that_layer_until_then():
    signature = sign_layer(SHOP, "sha256:a", 100, KEY)
    asks = [
        (SHOP, "sha256:a", "100", signature, 99.0),
        (SHOP, "sha256:a", "100", signature, 100.0),
        (SHOP, "sha256:a", "101", signature, 99.0),
        (BANK, "sha256:a", "100", signature, 99.0),
        (SHOP, "sha256:b", "100", signature, 99.0),
        (SHOP, "sha256:a", "100", "é", 99.0),
        (SHOP, "sha256:a", "-1", signature, 99.0),
        (SHOP, "sha256:a", "²", signature, 99.0),
    ]
    held = [layer_signature_holds(*ask[:4], KEY, ask[4]) for ask in asks]
    assert held == [True, False, False, False, False, False, False, False]
