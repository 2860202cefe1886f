"""What a manifest says."""

import json

import pytest

from contracts.records.registry import Descriptor, Image
from services.registry.decisions.manifests import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Manifest,
    ManifestInvalid,
    read_manifest,
    referrer,
)

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def wire(digest=A, size=1, **members):
    return {"mediaType": "t", "digest": digest, "size": size, **members}


def body(**members) -> bytes:
    return json.dumps({"schemaVersion": 2, **members}).encode()


def test_an_image_is_its_config_and_its_layers():
    found = read_manifest(body(config=wire(A, 3), layers=[wire(B, 4), wire(B, 4)]), OCI_MANIFEST)
    config, layer = (Descriptor(digest=d, size=s, media_type="t") for d, s in ((A, 3), (B, 4)))
    assert found == Manifest(media_type=OCI_MANIFEST, config=config, layers=[layer, layer])
    assert found.size == 7


def test_a_layer_that_lies_elsewhere_need_not_be_here():
    found = read_manifest(body(config=wire(A), layers=[wire(B, 9, urls=["http://x"])]), DOCKER_MANIFEST)
    assert ([blob.digest for blob in found.blobs], found.size) == ([A], 1)


def test_an_index_names_manifests():
    found = read_manifest(body(mediaType=OCI_INDEX, manifests=[wire(A)], subject=wire(B), annotations={"k": "v"}))
    named = [Descriptor(digest=A, size=1, media_type="t")]
    assert found == Manifest(media_type=OCI_INDEX, manifests=named, subject=B, annotations={"k": "v"})


def test_the_media_type_is_told_by_the_body_the_header_or_the_members():
    assert read_manifest(body(manifests=[]), f"{DOCKER_INDEX}; charset=utf-8").media_type == DOCKER_INDEX
    assert read_manifest(body(manifests=[])).media_type == OCI_INDEX
    assert read_manifest(body(config=wire(), layers=[])).media_type == OCI_MANIFEST


def test_any_type_is_taken_that_has_an_artifact_type():
    found = read_manifest(body(artifactType="x/y", blobs=[wire(A)]), "application/vnd.oci.artifact.manifest.v1+json")
    assert (found.artifact_type, [blob.digest for blob in found.blobs]) == ("x/y", [A])


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        (b"", ""),
        (b"\xff", ""),
        (b"null", ""),
        (body(config=wire(), layers="no"), OCI_MANIFEST),
        (body(config=wire("sha256:../../etc"), layers=[]), OCI_MANIFEST),
        (body(config=wire(size=-1), layers=[]), OCI_MANIFEST),
        (body(config=wire(size="1"), layers=[]), OCI_MANIFEST),
        (body(layers=[]), OCI_MANIFEST),
        (body(config=wire(), layers=[wire()] * 4201), OCI_MANIFEST),
        (body(config=wire(), layers=[], artifactType="x", mediaType="a/b\r\nX: y"), ""),
        (body(config=wire(), layers=[])[:-1] + b',"x":"\xff"}', OCI_MANIFEST),
        (b'{"x":' + b"[" * 200_000, OCI_MANIFEST),
        (body(config=wire()), DOCKER_MANIFEST),
        (body(), OCI_INDEX),
        (body(mediaType=OCI_INDEX, manifests=[]), OCI_MANIFEST),
        (json.dumps({"schemaVersion": 1}).encode(), "application/vnd.docker.distribution.manifest.v1+json"),
        (json.dumps({"config": wire(), "layers": []}).encode(), OCI_MANIFEST),
        (body(config=wire(), layers=[]), "application/json"),
    ],
)
def test_what_is_no_manifest(data, content_type):
    with pytest.raises(ManifestInvalid):
        read_manifest(data, content_type)


def test_a_referrer_s_artifact_type_is_its_config_s_when_it_has_none():
    image = Image(
        account="1",
        region="r",
        repository="a",
        digest=A,
        media_type=OCI_MANIFEST,
        manifest_size=9,
        pushed_at=1.0,
        config=Descriptor(digest=B, size=1, media_type="x/config"),
    )
    assert referrer(image) == {"mediaType": OCI_MANIFEST, "size": 9, "digest": A, "artifactType": "x/config"}
