"""skopeo pulls through a cache of a registry that wants a login (another Roadstead would: ECR's, by Basic), and what it
pushes is signed."""

from __future__ import annotations

import json

from tests.builders.images import busybox_image
from tests.builders.registry import ACCOUNT, REGION
from tests.builders.waiting import until
from tests.conformance.test_skopeo import nats_platform, pytestmark, skopeo
from tests.integration.test_identity_iam import door

__all__ = ["door", "nats_platform", "pytestmark", "skopeo"]

PROFILE = f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/ci"


async def test_an_image_is_pulled_through_a_login(skopeo, door, tmp_path):
    image = busybox_image({"/hello": "world"})
    layout = image.write_oci_layout(tmp_path / "image", tag="1")
    await skopeo.copy(f"oci:{layout}:1", f"docker://{skopeo.host}/team/shop:1")
    login = json.dumps({"username": "AWS", "accessToken": skopeo.registry.password})
    secrets = door.root("secretsmanager")
    secret = (await secrets.create_secret(Name="ecr-pullthroughcache/peer", SecretString=login))["ARN"]
    rule = {"ecrRepositoryPrefix": "peer", "upstreamRegistryUrl": skopeo.host, "credentialArn": secret}
    await skopeo.registry.aws("CreatePullThroughCacheRule", **rule)
    assert (await skopeo.registry.aws("ValidatePullThroughCacheRule", ecrRepositoryPrefix="peer")).is_valid
    await skopeo.copy(f"docker://{skopeo.host}/peer/team/shop:1", f"oci:{tmp_path / 'back'}:1")
    for digest in [image.digest, *image.blobs]:
        path = "blobs/" + digest.replace(":", "/")
        assert (tmp_path / "back" / path).read_bytes() == (tmp_path / "image" / path).read_bytes()
    await secrets.put_secret_value(SecretId=secret, SecretString=login.replace('": "', '": "not'))
    await skopeo.copy(f"oci:{layout}:1", f"docker://{skopeo.host}/team/shop:2")
    refused = await skopeo.copy(f"docker://{skopeo.host}/peer/team/shop:2", f"oci:{tmp_path / 'no'}:1", fails=True)
    assert f"answered 401 to the login in {secret}" in refused


async def test_what_is_pushed_is_signed_and_the_signature_can_be_pulled(skopeo, tmp_path):
    rules = {"rules": [{"signingProfileArn": PROFILE}]}
    await skopeo.registry.aws("PutSigningConfiguration", signingConfiguration=rules)
    image = busybox_image({"/hello": "world"})
    layout = image.write_oci_layout(tmp_path / "image", tag="1")
    uri = f"docker://{skopeo.host}/team/shop"
    await skopeo.copy(f"oci:{layout}:1", f"{uri}:1")
    asked = {"repositoryName": "team/shop", "imageId": {"imageDigest": image.digest}}

    async def complete() -> bool:
        told = await skopeo.registry.aws("DescribeImageSigningStatus", **asked)
        return [(each.signing_profile_arn, each.status) for each in told.signing_statuses] == [(PROFILE, "COMPLETE")]

    await until(complete, 30)
    (listed,) = (await skopeo.registry.ask("GET", f"team/shop/referrers/{image.digest}")).json["manifests"]
    assert listed["artifactType"] == "application/vnd.cncf.notary.signature"
    await skopeo.copy(f"{uri}@{listed['digest']}", f"oci:{tmp_path / 'signature'}:1")
    raw = json.loads(await skopeo.run("inspect", "--raw", "--tls-verify=false", f"--creds={skopeo.credentials}",
                                      f"{uri}@{listed['digest']}"))  # fmt: skip
    (layer,) = raw["layers"]
    path = tmp_path / "signature" / "blobs" / layer["digest"].replace(":", "/")
    assert set(json.loads(path.read_bytes())) == {"payload", "protected", "header", "signature"}
