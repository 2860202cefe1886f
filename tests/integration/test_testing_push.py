"""`roadstead.push`: what lies in a file is pushed whole, whichever form it has, to the real registry."""

from __future__ import annotations

import asyncio
import json
import tarfile
from pathlib import Path

import pytest

from roadstead.testing import PushFailed
from services.testing.pushing import push_image
from tests.builders.images import busybox_image, digest_of, index
from tests.builders.registry import registry_at

INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture
async def registry(nats_platform, tmp_path):
    async with registry_at(nats_platform, tmp_path / "registry") as running:
        await running.aws("CreateRepository", repositoryName="app")
        yield running


async def push(registry, image, tag: str = "1", *, repository: str = "app", password: str = "") -> str:
    uri, login = f"127.0.0.1:{registry.port}/{repository}", f"AWS:{password or registry.password}"
    return await asyncio.to_thread(push_image, image, uri, tag, login)


async def pulled(registry, reference: str) -> tuple[dict, list[bytes]]:
    """The manifest under a reference, and its layers."""
    manifest = (await registry.ask("GET", f"app/manifests/{reference}")).json
    layers = [(await registry.ask("GET", f"app/blobs/{layer['digest']}")).body for layer in manifest["layers"]]
    return manifest, layers


def as_tar(folder: Path, path: Path) -> Path:
    with tarfile.open(path, "w") as tar:
        for entry in sorted(folder.rglob("*")):
            tar.add(entry, entry.relative_to(folder), recursive=False)
    return path


async def test_a_layout_in_a_folder_in_a_tar_and_in_memory_is_the_same_image(registry, tmp_path):
    image = busybox_image()
    folder = image.write_oci_layout(tmp_path / "layout", tag="1")
    digests = {await push(registry, each) for each in (folder, as_tar(folder, tmp_path / "layout.tar"), image)}
    assert digests == {image.digest}
    manifest, layers = await pulled(registry, "1")
    assert (manifest, [digest_of(layer) for layer in layers]) == (
        json.loads(image.manifest),
        [layer["digest"] for layer in manifest["layers"]],
    )


async def test_what_docker_save_wrote_is_pushed_with_its_layers(registry, tmp_path):
    image = busybox_image(command=["hello"])
    archive = image.write_docker_archive(tmp_path / "app.tar", "app:1")
    digest = await push(registry, archive, "saved")
    manifest, layers = await pulled(registry, "saved")
    with tarfile.open(archive) as tar:
        (listed,) = json.load(tar.extractfile("manifest.json"))
        assert layers == [tar.extractfile(name).read() for name in listed["Layers"]]
    config = await registry.ask("GET", f"app/blobs/{manifest['config']['digest']}")
    assert config.json["config"]["Cmd"] == ["hello"]
    assert (await registry.ask("HEAD", "app/manifests/saved")).headers["Docker-Content-Digest"] == digest


async def test_an_index_is_pushed_after_its_images(registry, tmp_path):
    image = busybox_image()
    folder = image.write_oci_layout(tmp_path / "layout", tag="1")
    data = index({"amd64": image})
    (folder / "blobs/sha256" / digest_of(data).removeprefix("sha256:")).write_bytes(data)
    described = {"mediaType": INDEX, "digest": digest_of(data), "size": len(data)}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))
    assert await push(registry, folder, "all") == digest_of(data)
    assert (await registry.ask("GET", f"app/manifests/{image.digest}")).status == 200


async def test_what_is_no_image_and_what_is_refused_says_why(registry, tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("no tar")
    with pytest.raises(PushFailed, match=r"notes\.txt: no tar of an image"):
        await push(registry, text)
    (tmp_path / "empty").mkdir()
    with pytest.raises(PushFailed, match="neither an OCI layout nor what `docker save` writes"):
        await push(registry, tmp_path / "empty")
    folder = busybox_image().write_oci_layout(tmp_path / "layout", tag="1")
    with pytest.raises(PushFailed, match="NAME_UNKNOWN"):
        await push(registry, folder, repository="nowhere")
    with pytest.raises(PushFailed, match="401"):
        await push(registry, folder, password="wrong")
    missing = max((folder / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    missing.unlink()
    with pytest.raises(PushFailed, match=f"does not hold sha256:{missing.name}"):
        await push(registry, folder)
