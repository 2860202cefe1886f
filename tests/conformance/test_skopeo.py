"""skopeo pushes, copies, inspects, pulls and deletes."""

from __future__ import annotations

import asyncio
import json
import shutil

import pytest

from tests.builders.images import busybox_image
from tests.builders.registry import REGION, registry_at
from tests.builders.seaweed import EACH_STORAGE
from tests.integration.conftest import nats_platform

__all__ = ["nats_platform"]

pytestmark = [
    pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed"),
    pytest.mark.skipif(shutil.which("busybox") is None, reason="busybox is not installed"),
]


class Skopeo:
    """The program, with credentials for one registry."""

    def __init__(self, registry, home) -> None:
        self.registry = registry
        self.host = f"localhost:{registry.port}"
        self.credentials = f"AWS:{registry.password}"
        self._home = home

    async def run(self, *arguments: str, fails: bool = False) -> str:
        """Run it; what it printed, its errors if it is to fail."""
        process = await asyncio.create_subprocess_exec(
            "skopeo",
            "--insecure-policy",
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"HOME": str(self._home), "PATH": "/usr/bin:/bin", "TMPDIR": str(self._home)},
        )
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert (process.returncode != 0) == fails, err.decode()
        return (err if fails else out).decode()

    async def copy(self, source: str, target: str, *options: str, fails: bool = False) -> str:
        """`skopeo copy`."""
        flags = ["--src-tls-verify=false", "--dest-tls-verify=false"]
        for side, place in (("src", source), ("dest", target)):
            if place.startswith("docker://"):
                flags.append(f"--{side}-creds={self.credentials}")
        return await self.run("copy", *flags, *options, source, target, fails=fails)

    async def inspect(self, image: str, *options: str) -> dict:
        """`skopeo inspect`."""
        text = await self.run("inspect", "--tls-verify=false", f"--creds={self.credentials}", *options, image)
        return json.loads(text)


@pytest.fixture
async def skopeo(nats_platform, tmp_path, kept):
    async with registry_at(nats_platform, tmp_path / "data") as registry:
        await registry.aws("CreateRepository", repositoryName="team/shop")
        (tmp_path / "home").mkdir()
        yield Skopeo(registry, tmp_path / "home")


@EACH_STORAGE
async def test_an_image_goes_there_and_back_the_same(skopeo, tmp_path):
    image = busybox_image({"/hello": "world"})
    layout = image.write_oci_layout(tmp_path / "image", tag="1")
    uri = f"docker://{skopeo.host}/team/shop"
    await skopeo.copy(f"oci:{layout}:1", f"{uri}:1")
    assert (await skopeo.inspect(f"{uri}:1"))["Digest"] == image.digest
    await skopeo.copy(f"{uri}@{image.digest}", f"oci:{tmp_path / 'back'}:1")
    index = json.loads((tmp_path / "back" / "index.json").read_text())
    assert index["manifests"][0]["digest"] == image.digest
    for digest in [image.digest, *image.blobs]:
        path = "blobs/" + digest.replace(":", "/")
        assert (tmp_path / "back" / path).read_bytes() == (tmp_path / "image" / path).read_bytes()
    assert (await skopeo.registry.aws("DescribeImages", repositoryName="team/shop")).image_details[0].image_tags == [
        "1"
    ]


async def test_docker_s_media_types_and_a_second_repository(skopeo, tmp_path):
    image = busybox_image(docker=True)
    archive = image.write_docker_archive(tmp_path / "image.tar", "shop:1")
    uri = f"docker://{skopeo.host}/team/shop:docker"
    await skopeo.copy(f"docker-archive:{archive}", uri, "--format=v2s2")
    await skopeo.registry.aws("CreateRepository", repositoryName="copy")
    await skopeo.copy(uri, f"docker://{skopeo.host}/copy:1")
    first, second = [await skopeo.inspect(each) for each in (uri, f"docker://{skopeo.host}/copy:1")]
    assert first["Digest"] == second["Digest"]


async def test_another_region_by_its_prefix(skopeo, tmp_path):
    image = busybox_image()
    layout = image.write_oci_layout(tmp_path / "image", tag="1")
    made = await skopeo.registry.aws("CreateRepository", region="eu-central-1", repositoryName="shop")
    uri = made.repository.repository_uri
    assert uri == f"{skopeo.host}/000000000000.eu-central-1/shop"
    await skopeo.copy(f"oci:{layout}:1", f"docker://{uri}:1")
    assert (await skopeo.inspect(f"docker://{uri}:1"))["Digest"] == image.digest
    assert REGION != "eu-central-1"


async def test_tags_are_listed_and_an_image_deleted(skopeo, tmp_path):
    layout = busybox_image().write_oci_layout(tmp_path / "image", tag="1")
    uri = f"docker://{skopeo.host}/team/shop"
    for tag in ("1", "2"):
        await skopeo.copy(f"oci:{layout}:1", f"{uri}:{tag}")
    flags = ("--tls-verify=false", f"--creds={skopeo.credentials}")
    assert json.loads(await skopeo.run("list-tags", *flags, uri))["Tags"] == ["1", "2"]
    await skopeo.run("delete", *flags, f"{uri}:1")
    assert (await skopeo.registry.aws("ListImages", repositoryName="team/shop")).image_ids == []


async def test_a_login_is_checked_and_a_missing_repository_told(skopeo, tmp_path):
    layout = busybox_image().write_oci_layout(tmp_path / "image", tag="1")
    told = await skopeo.copy(f"oci:{layout}:1", f"docker://{skopeo.host}/nosuch:1", fails=True)
    assert "The repository with name 'nosuch' does not exist in the registry with id '000000000000'" in told
    skopeo.credentials = "AWS:wrong"
    told = await skopeo.copy(f"oci:{layout}:1", f"docker://{skopeo.host}/team/shop:1", fails=True)
    assert "unauthorized" in told.lower() or "authentication" in told.lower()


async def test_a_push_by_skopeo_is_one_trace(skopeo, tmp_path, nats_platform):
    layout = busybox_image().write_oci_layout(tmp_path / "image", tag="1")
    events = await nats_platform.bus("operator")
    heard = await events.client.jetstream().subscribe("events.registry.>", stream="EVENTS", ordered_consumer=True)
    await skopeo.copy(f"oci:{layout}:1", f"docker://{skopeo.host}/team/shop:1")
    messages = [await heard.next_msg(30) for _ in range(3)]
    traces = {m.headers["Event"]: m.headers.get("traceparent", "").split("-")[1:2] for m in messages}
    assert traces["image.pushed.v1"] == traces["tag.moved.v1"]
    (trace,) = traces["tag.moved.v1"]
    stream = await events.client.jetstream().subscribe(f"traces.{trace}", stream="TRACES", ordered_consumer=True)
    names: set[str] = set()
    async with asyncio.timeout(30):
        while not {"push team/shop", "PATCH upload", "PUT upload", "PUT manifest"} <= names:
            names |= {span["name"] for span in json.loads((await stream.next_msg(30)).data)["spans"]}
