"""docker logs in, pushes, mounts, is refused, and pulls."""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.builders.images import busybox_image
from tests.builders.registry import registry_at
from tests.integration.conftest import nats_platform

__all__ = ["nats_platform"]

pytestmark = pytest.mark.docker


class Docker:
    """The program, with a configuration of its own."""

    def __init__(self, home) -> None:
        self._home = home

    async def __call__(self, *arguments: str, says: bytes | None = None, fails: bool = False) -> str:
        """Run it; what it printed."""
        process = await asyncio.create_subprocess_exec(
            "docker",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "DOCKER_CONFIG": str(self._home)},
        )
        out, _ = await asyncio.wait_for(process.communicate(says), 120)
        assert (process.returncode != 0) == fails, out.decode()
        return out.decode()


async def test_docker_pushes_and_pulls_by_the_repository_uri(nats_platform, tmp_path):
    docker = Docker(tmp_path / "docker")
    async with registry_at(nats_platform, tmp_path / "data") as registry:
        made = [await registry.aws("CreateRepository", repositoryName=name) for name in ("team/shop", "copy")]
        shop, copy = [f"{each.repository.repository_uri}:1" for each in made]
        image = busybox_image({"/unique": os.urandom(64)}, docker=True)
        await docker("load", "-i", str(image.write_docker_archive(tmp_path / "image.tar", shop)))
        try:
            assert "no basic auth credentials" in await docker("push", shop, fails=True)
            login = ("login", "--username", "AWS", "--password-stdin", shop.partition("/")[0])
            await docker(*login, says=b"wrong", fails=True)
            await docker(*login, says=registry.password.encode())
            assert "Pushed" in await docker("push", shop)
            assert "Layer already exists" in await docker("push", shop)
            await docker("tag", shop, copy)
            assert "Mounted from team/shop" in await docker("push", copy)
            await registry.aws("PutImageTagMutability", repositoryName="team/shop", imageTagMutability="IMMUTABLE")
            assert "cannot be overwritten because the tag is immutable" in await docker("push", shop, fails=True)
            await docker("rmi", shop, copy)
            assert "Downloaded newer image" in await docker("pull", shop)
        finally:
            await docker("rmi", shop)
        (detail,) = (await registry.aws("DescribeImages", repositoryName="team/shop")).image_details
        assert detail.image_tags == ["1"]
