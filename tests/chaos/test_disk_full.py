"""The disk fills up under the platform: it says 503, loses nothing, and goes on when there is room again."""

import contextlib
import itertools
import os
import subprocess

import pytest
from botocore.exceptions import ClientError

from tests.builders.platform import Roadstead, until


@pytest.fixture
def platform(tmp_path):
    """A platform on a disk of 64 MB."""
    if os.geteuid() != 0:
        pytest.skip("mounting takes root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(tmp_path)], check=True)
    running = Roadstead(port=0, data=tmp_path / "data")
    try:
        running.up("--zones", "1", "--runtime", "oci")
        yield running
    finally:
        running.command("down", "--tasks", check=False)
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def create(ecs, name: str) -> int:
    """The status that CreateCluster is answered with."""
    try:
        return ecs.create_cluster(clusterName=name)["ResponseMetadata"]["HTTPStatusCode"]
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"]


def test_a_full_disk_is_503_and_writes_go_on_when_there_is_room(platform):
    ecs = platform.client("ecs")
    rest = platform.data.parent / "rest"
    with contextlib.suppress(OSError), open(rest, "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    acknowledged = set(itertools.takewhile(lambda name: create(ecs, name) == 200, (f"c{i}" for i in range(99))))
    assert (len(acknowledged) < 99, create(ecs, "full")) == (True, 503)
    rest.unlink()
    until(lambda: create(ecs, "after") == 200)
    names = {arn.rpartition("/")[2] for arn in ecs.list_clusters()["clusterArns"]}
    assert acknowledged | {"after"} <= names
    platform.kill()
    platform.up("--zones", "1", "--runtime", "oci")
    assert {arn.rpartition("/")[2] for arn in platform.client("ecs").list_clusters()["clusterArns"]} == names
