"""Which profiles sign what, and what a signature is."""

from __future__ import annotations

import base64
import json
from hashlib import sha256

import pytest
from msgspec.structs import replace

from contracts.records.registry import Descriptor, Image
from services.registry.adapters.signing import SealedKeys
from services.registry.decisions.signing import (
    Profile,
    candidates,
    envelope,
    parse_profile,
    profiles_for,
    read_envelope,
    unsigned,
)
from services.registry.ports import CannotSign
from services.shared.sealing import Vault

ARN = "arn:aws:signer:us-east-1:000000000000:/signing-profiles/"


def rule(name: str, *filters: str) -> dict:
    told = {"repositoryFilters": [{"filter": each, "filterType": "WILDCARD_MATCH"} for each in filters]}
    return {"signingProfileArn": ARN + name, **(told if filters else {})}


def image(**members) -> Image:
    return Image(
        account="0",
        region="r",
        repository="shop",
        digest="sha256:" + "a" * 64,
        media_type="m/t",
        manifest_size=7,
        pushed_at=0.0,
        **members,
    )


@pytest.mark.parametrize(
    ("repository", "names"),
    [
        ("shop", ["every"]),
        ("team/shop", ["every", "team"]),
        ("team/a/production", ["every", "team", "prod"]),
        ("steam/shop", ["every"]),
        ("production", ["every"]),
        ("a.production", ["every"]),
    ],
)
def test_the_rules_of_which_a_filter_matches_sign_each_profile_once(repository, names):
    rules = [rule("every"), rule("team", "team/*", "none"), rule("prod", "*/production"), rule("every", "*shop*")]
    assert profiles_for(rules, repository) == [ARN + name for name in names]


@pytest.mark.parametrize("text", ["", ARN, ARN + "a", ARN + "a-b", "arn:aws:iam::000000000000:role/a", ARN + "ab\n"])
def test_what_is_no_profile(text):
    assert parse_profile(text) is None


def test_a_profile_is_named_in_its_account_and_region():
    assert parse_profile(ARN + "ci_1") == Profile("000000000000", "us-east-1", "ci_1")


def test_what_is_signed_is_the_image_and_when():
    parts = unsigned(image(), 1_800_000_000.9)
    assert parts.signed == f"{parts.protected}.{parts.payload}".encode()
    headers, payload = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in parts)
    assert payload == {"targetArtifact": {"mediaType": "m/t", "digest": "sha256:" + "a" * 64, "size": 7}}
    assert headers == {
        "alg": "ES384",
        "cty": "application/vnd.cncf.notary.payload.v1+json",
        "crit": ["io.cncf.notary.signingScheme"],
        "io.cncf.notary.signingScheme": "notary.x509",
        "io.cncf.notary.signingTime": "2027-01-15T08:00:00Z",
    }


def test_what_says_it_is_a_signature_with_a_certificate_is_looked_at():
    told = {"io.cncf.notary.x509chain.thumbprint#S256": json.dumps([sha256(b"cert").hexdigest()])}
    config = Descriptor(digest="sha256:" + "b" * 64, size=2, media_type="application/vnd.cncf.notary.signature")
    layer = Descriptor(digest="sha256:" + "c" * 64, size=2000)
    one = image(config=config, annotations=told, layers=[layer])
    large = image(config=config, annotations=told, layers=[replace(layer, size=10**9)])
    others = [image(annotations=told, layers=[layer]), image(config=config, annotations=told), large]
    assert candidates([one, *others], b"cert") == [one]
    assert candidates([one], b"other") == []


def test_an_envelope_is_read_that_is_about_the_image_and_no_other():
    parts = unsigned(image(), 1_800_000_000.0)
    data = envelope(parts, b"signature", b"cert")
    assert read_envelope(data, image()) == (parts.signed, b"signature")
    assert read_envelope(data, replace(image(), digest="sha256:" + "d" * 64)) is None
    for text in (b"", b"{}", b"\xff", data.replace(parts.payload.encode(), b"!"), data.replace(b'"payload"', b'"p"')):
        assert read_envelope(text, image()) is None


def test_a_key_signs_for_its_profile_alone_and_is_in_nothing_that_is_stored():
    keys = SealedKeys(Vault(b"k" * 32))
    sealed, certificate = keys.make(ARN + "one", 1_800_000_000.0)
    signature = keys.sign(ARN + "one", sealed, b"data")
    assert keys.made(certificate, b"data", signature)
    assert not keys.made(certificate, b"other", signature)
    assert not keys.made(certificate, b"data", signature[:-1] + bytes([signature[-1] ^ 1]))
    assert not keys.made(certificate, b"data", b"short")
    for other, arn in ((keys, ARN + "two"), (SealedKeys(Vault(b"x" * 32)), ARN + "one")):
        with pytest.raises(CannotSign):
            other.sign(arn, sealed, b"data")
