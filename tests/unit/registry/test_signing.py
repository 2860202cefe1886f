"""Which profiles sign what, and what a signature is."""

from __future__ import annotations

import base64
import json
from hashlib import sha256

import pytest

from contracts.records.registry import Descriptor, Image
from services.registry.adapters.signing import SealedKeys
from services.registry.decisions.signing import Profile, parse_profile, profiles_for, signed_with, unsigned
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


def test_a_signature_is_known_by_the_certificate_that_it_names():
    thumb = "io.cncf.notary.x509chain.thumbprint#S256"
    told = {thumb: json.dumps([sha256(b"cert").hexdigest()])}
    config = Descriptor(digest="sha256:" + "b" * 64, size=2, media_type="application/vnd.cncf.notary.signature")
    assert signed_with([image(config=config, annotations=told)], b"cert") == image().digest
    assert signed_with([image(config=config, annotations=told)], b"other") == ""
    assert signed_with([image(annotations=told)], b"cert") == ""


def test_a_key_signs_for_its_profile_alone_and_is_in_nothing_that_is_stored():
    keys = SealedKeys(Vault(b"k" * 32))
    sealed, _ = keys.make(ARN + "one", 1_800_000_000.0)
    assert len(keys.sign(ARN + "one", sealed, b"data")) == 96
    for other, arn in ((keys, ARN + "two"), (SealedKeys(Vault(b"x" * 32)), ARN + "one")):
        with pytest.raises(CannotSign):
            other.sign(arn, sealed, b"data")
