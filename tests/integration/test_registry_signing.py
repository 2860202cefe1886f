"""Managed signing: what is pushed is signed, and the signature holds when it is verified without us."""

from __future__ import annotations

import base64
import json
import os

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID
from msgspec.structs import replace

from contracts.records.identity import ACCESS_KEY, ROLE
from contracts.records.registry import IMAGE, SIGNING_PROFILE
from services.registry.decisions.names import RepositoryId
from services.shared.state import Store
from tests.builders.ecr import Boto, put
from tests.builders.registry import ACCOUNT, REGION, descriptor, registry_at, small_image
from tests.builders.sessions import TOKEN, a_session
from tests.builders.waiting import until

PROFILE = f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/"
SHOP = RepositoryId(ACCOUNT, REGION, "shop")
SIGNATURE = "application/vnd.cncf.notary.signature"
INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture
async def registry(nats_platform, tmp_path):
    async with registry_at(nats_platform, tmp_path / "data") as running:
        await running.aws("CreateRepository", repositoryName="shop")
        yield running


async def configure(registry, *rules: tuple[str, list[str]]) -> None:
    told = []
    for name, filters in rules:
        named = [{"filter": each, "filterType": "WILDCARD_MATCH"} for each in filters]
        told.append({"signingProfileArn": PROFILE + name, **({"repositoryFilters": named} if named else {})})
    await registry.aws("PutSigningConfiguration", signingConfiguration={"rules": told})


async def statuses(registry, digest: str) -> dict[str, str]:
    told = await registry.aws("DescribeImageSigningStatus", repositoryName="shop", imageId={"imageDigest": digest})
    return {each.signing_profile_arn.removeprefix(PROFILE): each.status for each in told.signing_statuses}


async def complete(registry, digest: str) -> None:
    async def all_done() -> bool:
        found = await statuses(registry, digest)
        assert "FAILED" not in found.values()
        return bool(found) and set(found.values()) == {"COMPLETE"}

    await until(all_done, 30)


async def signatures(registry, digest: str) -> list[dict]:
    answer = await registry.ask("GET", f"shop/referrers/{digest}?artifactType={SIGNATURE}")
    assert answer.status == 200
    return answer.json["manifests"]


async def trusted(registry, name: str) -> x509.Certificate:
    """The profile's certificate, as one gets it to put it into a trust store."""
    url = f"{registry.base}/signing-profiles/{ACCOUNT}/{REGION}/{name}"
    async with registry.session.get(url) as answer:
        assert answer.status == 200
        return x509.load_pem_x509_certificate(await answer.read())


async def envelope_of(registry, listed: dict) -> dict:
    """The JWS of a signature."""
    manifest = (await registry.ask("GET", f"shop/manifests/{listed['digest']}")).json
    (layer,) = manifest["layers"]
    assert layer["mediaType"] == "application/jose+json"
    return (await registry.ask("GET", f"shop/blobs/{layer['digest']}")).json


def check(envelope: dict, certificate: x509.Certificate) -> None:
    """Raises InvalidSignature unless the certificate's key made it (RFC 7515, 5.2; RFC 7518, 3.4)."""
    signature = decoded(envelope["signature"])
    pair = encode_dss_signature(int.from_bytes(signature[:48]), int.from_bytes(signature[48:]))
    signed = f"{envelope['protected']}.{envelope['payload']}".encode()
    certificate.public_key().verify(pair, signed, ec.ECDSA(hashes.SHA384()))


async def verified(registry, listed: dict, certificate: x509.Certificate) -> dict:
    """What a signature says of which manifest, once it is found to hold. Raises InvalidSignature."""
    manifest = (await registry.ask("GET", f"shop/manifests/{listed['digest']}")).json
    assert manifest["config"]["mediaType"] == SIGNATURE
    envelope = await envelope_of(registry, listed)
    assert set(envelope) == {"payload", "protected", "header", "signature"}
    (leaf,) = envelope["header"]["x5c"]
    assert x509.load_der_x509_certificate(base64.b64decode(leaf)) == certificate
    thumbprints = json.loads(manifest["annotations"]["io.cncf.notary.x509chain.thumbprint#S256"])
    assert thumbprints == [certificate.fingerprint(hashes.SHA256()).hex()]
    protected = json.loads(decoded(envelope["protected"]))
    assert (protected["alg"], protected["cty"]) == ("ES384", "application/vnd.cncf.notary.payload.v1+json")
    assert protected["crit"] == ["io.cncf.notary.signingScheme"]
    assert protected["io.cncf.notary.signingScheme"] == "notary.x509"
    check(envelope, certificate)
    target = json.loads(decoded(envelope["payload"]))["targetArtifact"]
    assert target == manifest["subject"]
    return target


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


async def test_a_pushed_image_is_signed_with_each_profile_whose_rule_matches(registry):
    await configure(registry, ("every", []), ("shops", ["sh*", "other"]), ("banks", ["bank/*"]))
    image = small_image((os.urandom(1000),))
    await registry.push_image("shop", image, "1")
    await complete(registry, image.digest)
    assert set(await statuses(registry, image.digest)) == {"every", "shops"}
    listed = await signatures(registry, image.digest)
    assert len(listed) == 2
    every, shops = await trusted(registry, "every"), await trusted(registry, "shops")
    for one in listed:
        own, other = (every, shops) if one["digest"] == signature_of(registry, image, "every") else (shops, every)
        target = await verified(registry, one, own)
        assert target == descriptor(image.manifest, image.media_type)
        with pytest.raises(InvalidSignature):
            check(await envelope_of(registry, one), other)
        assert await statuses(registry, one["digest"]) == {}  # a signature is not signed
    own_tags = (await registry.ask("GET", "shop/tags/list")).json["tags"]
    assert own_tags == ["1"]


def signature_of(registry, image, name: str) -> str:
    found = registry.parts.images.find(SHOP, image.digest).signings
    return next(each.signature for each in found if each.profile == PROFILE + name)


async def test_the_certificate_is_one_that_notary_takes_and_the_key_is_sealed(registry):
    await configure(registry, ("ci", []))
    certificate = await trusted(registry, "ci")
    assert certificate.issuer == certificate.subject
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical and usage.value.digital_signature and not usage.value.key_cert_sign
    extended = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(extended) == [ExtendedKeyUsageOID.CODE_SIGNING]
    stored = registry.app._store.table(SIGNING_PROFILE).record(ACCOUNT, REGION, "ci")
    with pytest.raises(ValueError):
        serialization.load_der_private_key(base64.b64decode(stored.sealed_key), None)
    async with registry.session.get(f"{registry.base}/signing-profiles/{ACCOUNT}/{REGION}/none") as answer:
        assert answer.status == 404


async def test_an_index_is_signed_and_what_was_pushed_before_or_after_the_rules_is_not(registry):
    one, two = small_image((b"one",)), small_image((b"two",))
    await registry.push_image("shop", one, "one")
    await configure(registry, ("ci", []))
    named = [descriptor(each.manifest, each.media_type) for each in (one,)]
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": named}).encode()
    pushed = await registry.ask("PUT", "shop/manifests/all", index, Content_Type=INDEX)
    digest = pushed.headers["Docker-Content-Digest"]
    await complete(registry, digest)
    (listed,) = await signatures(registry, digest)
    assert (await verified(registry, listed, await trusted(registry, "ci")))["mediaType"] == INDEX
    deleted = await registry.aws("DeleteSigningConfiguration")
    assert [each.signing_profile_arn for each in deleted.signing_configuration.rules] == [PROFILE + "ci"]
    await registry.push_image("shop", two, "two")
    assert [await statuses(registry, each.digest) for each in (one, two)] == [{}, {}]
    assert await signatures(registry, digest) == [listed]


async def test_a_signature_that_a_crash_let_nobody_know_of_is_found_and_not_made_again(nats_platform, tmp_path):
    image = small_image()
    async with registry_at(nats_platform, tmp_path / "data") as registry:
        await registry.aws("CreateRepository", repositoryName="shop")
        await configure(registry, ("ci", []))
        await registry.push_image("shop", image, "1")
        await complete(registry, image.digest)
        before = await signatures(registry, image.digest)
        record = registry.parts.images.find(SHOP, image.digest)
        left = replace(record, signings=[replace(each, signature="") for each in record.signings])
        await registry.app._store.update(IMAGE, IMAGE.key_of(left), lambda _: left, "image.signed.v1")
    async with registry_at(nats_platform, tmp_path / "data") as registry:
        await complete(registry, image.digest)
        assert await signatures(registry, image.digest) == before
        assert signature_of(registry, image, "ci") == before[0]["digest"]


async def test_a_forged_signature_that_was_there_before_the_image_is_not_taken_for_ours(registry):
    await configure(registry, ("ci", []))
    certificate = await trusted(registry, "ci")
    image = small_image((b"honest",))
    payload = {"targetArtifact": descriptor(image.manifest, image.media_type)}
    parts = {"payload": encoded(json.dumps(payload).encode()), "protected": encoded(b'{"alg":"ES384"}')}
    forged = json.dumps({**parts, "header": {}, "signature": encoded(b"\x01" * 96)}).encode()
    for blob in (b"{}", forged):
        await registry.push_blob("shop", blob)
    thumbprints = json.dumps([certificate.fingerprint(hashes.SHA256()).hex()])
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor(b"{}", SIGNATURE),
        "layers": [descriptor(forged, "application/jose+json")],
        "subject": descriptor(image.manifest, image.media_type),
        "annotations": {"io.cncf.notary.x509chain.thumbprint#S256": thumbprints},
    }
    answer = await registry.ask(
        "PUT", "shop/manifests/forged", json.dumps(manifest).encode(), Content_Type=manifest["mediaType"]
    )
    assert answer.status == 201
    await registry.push_image("shop", image, "1")
    await complete(registry, image.digest)
    own = signature_of(registry, image, "ci")
    assert own != answer.headers["Docker-Content-Digest"]
    (listed,) = [each for each in await signatures(registry, image.digest) if each["digest"] == own]
    await verified(registry, listed, certificate)


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


async def test_who_may_not_sign_with_the_profile_pushes_an_image_that_is_told_not_to_be_signed(registry, nats_platform):
    store = await Store.open(await nats_platform.bus("identity"), (ACCESS_KEY, ROLE))
    builder = await a_session(store, "builder", ["ecr:*"])
    signer = await a_session(store, "signer", ["ecr:*", "signer:SignPayload"])
    await until(lambda: registry.app._keys.find(builder) and registry.app._keys.find(signer), 30)
    await configure(registry, ("ci", []))
    denied, signed = small_image((b"denied",)), small_image((b"signed",))
    await put(Boto(registry.port, builder, TOKEN), "shop", denied, "1")
    told = await registry.aws("DescribeImageSigningStatus", repositoryName="shop", imageId={"imageTag": "1"})
    (status,) = told.signing_statuses
    assert (status.status, status.failure_code) == ("FAILED", "AccessDeniedException")
    assert f"not authorized to perform: signer:SignPayload on resource: {PROFILE}ci" in status.failure_reason
    assert await signatures(registry, denied.digest) == []
    await put(Boto(registry.port, signer, TOKEN), "shop", signed, "2")
    await complete(registry, signed.digest)
    await store.close()


async def test_a_configuration_is_shown_and_a_foreign_profile_refused(registry):
    boto = Boto(registry.port)
    assert await boto.refused("get_signing_configuration") == "SigningConfigurationNotFoundException"
    assert await boto.refused("delete_signing_configuration") == "SigningConfigurationNotFoundException"
    for foreign in (PROFILE.replace(ACCOUNT, "9" * 12) + "ci", PROFILE.replace(REGION, "eu-west-1") + "ci"):
        told = {"rules": [{"signingProfileArn": foreign}]}
        code = await boto.refused("put_signing_configuration", signingConfiguration=told)
        assert (code, foreign in boto.message) == ("InvalidParameterException", True)
    filters = [{"filter": "sh*", "filterType": "WILDCARD_MATCH"}]
    told = {"rules": [{"signingProfileArn": PROFILE + "ci", "repositoryFilters": filters}]}
    assert (await boto.put_signing_configuration(signingConfiguration=told))["signingConfiguration"] == told
    shown = await boto.get_signing_configuration()
    assert (shown["registryId"], shown["signingConfiguration"]) == (ACCOUNT, told)
    missing = {"repositoryName": "shop", "imageId": {"imageTag": "none"}}
    assert await boto.refused("describe_image_signing_status", **missing) == "ImageNotFoundException"
