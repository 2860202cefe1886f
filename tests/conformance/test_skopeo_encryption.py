"""skopeo and repositories that are encrypted with keys of KMS: pushed, copied, pulled, and shut with their key."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.builders.images import busybox_image
from tests.builders.registry import registry_at
from tests.builders.waiting import until
from tests.conformance.test_skopeo import Skopeo
from tests.integration.conftest import nats_platform
from tests.integration.test_identity_iam import door

__all__ = ["door", "nats_platform"]

pytestmark = [
    pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed"),
    pytest.mark.skipif(shutil.which("busybox") is None, reason="busybox is not installed"),
]


async def test_an_image_goes_through_two_keys_and_stops_with_the_second(nats_platform, door, tmp_path):
    kms = door.root("kms")
    image = busybox_image({"/hello": "world"})
    layout = image.write_oci_layout(tmp_path / "image", tag="1")
    async with registry_at(nats_platform, tmp_path / "data") as registry:
        (tmp_path / "home").mkdir()
        skopeo = Skopeo(registry, tmp_path / "home")
        keys = [(await kms.create_key())["KeyMetadata"]["Arn"] for _ in range(2)]
        for name, key in zip(("one", "two"), keys, strict=True):
            encryption = {"encryptionType": "KMS", "kmsKey": key}
            await registry.aws("CreateRepository", repositoryName=name, encryptionConfiguration=encryption)
        one, two = (f"docker://{skopeo.host}/{name}:1" for name in ("one", "two"))
        await skopeo.copy(f"oci:{layout}:1", one)
        await skopeo.copy(one, two)
        await skopeo.copy(two, f"oci:{tmp_path / 'back'}:1")
        index = json.loads((tmp_path / "back" / "index.json").read_text())
        assert index["manifests"][0]["digest"] == image.digest
        stored = [path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()]
        for blob in [image.manifest, *image.blobs.values()]:
            assert not any(blob[20:84] in data for data in stored)

        await kms.disable_key(KeyId=keys[1])

        async def shut():
            return (await registry.ask("GET", "two/manifests/1")).status == 403

        await until(shut)
        assert "is disabled" in await skopeo.copy(two, f"oci:{tmp_path / 'no'}:1", fails=True)
        assert "is disabled" in await skopeo.copy(f"oci:{layout}:1", two.replace(":1", ":2"), fails=True)
        assert (await skopeo.inspect(one))["Digest"] == image.digest
