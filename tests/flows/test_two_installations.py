"""Two installations: what is pushed to the one is pulled from the other."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess

import pytest

from tests.builders.images import File, busybox_image
from tests.builders.platform import roadstead, skopeo_push, until

FAR = "eu-west-1"
RULES = {"rules": [{"destinations": [{"region": FAR, "registryId": "000000000000"}]}]}


@pytest.fixture(scope="module")
def installations():
    with roadstead(zones=1) as here, roadstead(zones=1, options=("--registry-https-port", "0")) as there:
        yield here, there


def meet(here, there) -> None:
    """As two operators do it."""
    told = there.command("peers", "accept", "here")
    key = re.search(r"--key (\S+)", told)[1]
    url = f"https://localhost:{there.info['registry_https_port']}"
    ca = there.command("ca", "--registry").strip()
    said = here.command("peers", "add", "there", url, "--key", key, "--ca", ca, "--destination", f"000000000000/{FAR}")
    assert "takes the key" in said


def status(here, repository: str, tag: str) -> list[str]:
    told = here.client("ecr").describe_image_replication_status(repositoryName=repository, imageId={"imageTag": tag})
    return [each["status"] for each in told["replicationStatuses"]]


def manifest(registry: str, login: str, repository: str, tag: str) -> bytes:
    return subprocess.run(
        ["skopeo", "inspect", "--raw", "--tls-verify=false", "--creds", login, f"docker://{registry}/{repository}:{tag}"],
        check=True,
        stdout=subprocess.PIPE,
    ).stdout  # fmt: skip


def test_what_skopeo_pushes_here_is_pulled_there_and_a_second_push_sends_what_is_new(installations, tmp_path):
    here, there = installations
    meet(here, there)
    here.client("ecr").put_replication_configuration(replicationConfiguration=RULES)
    first = busybox_image({"/www/index.html": File("one")})
    skopeo_push(here, first, "shop", "1")
    until(lambda: status(here, "shop", "1") == ["COMPLETE"], 60)
    far = f"{there.registry}/000000000000.{FAR}"
    login = there.login()
    raw = manifest(f"{there.registry}", login, f"000000000000.{FAR}/shop", "1")
    assert "sha256:" + hashlib.sha256(raw).hexdigest() == first.digest
    pulled = tmp_path / "pulled"
    subprocess.run(
        ["skopeo", "copy", "--quiet", "--src-tls-verify=false", "--src-creds", login, f"docker://{far}/shop:1",
         f"dir:{pulled}"],
        check=True,
    )  # fmt: skip
    for layer in json.loads(raw)["layers"]:
        assert (pulled / layer["digest"].partition(":")[2]).stat().st_size == layer["size"]
    skopeo_push(here, busybox_image({"/www/index.html": File("two")}), "shop", "2")
    until(lambda: status(here, "shop", "2") == ["COMPLETE"], 60)
    assert manifest(f"{there.registry}", login, f"000000000000.{FAR}/shop", "2") != raw
    listed = here.command("peers", "list")
    assert listed.startswith("to there: https://localhost:") and "0 waiting, last reached" in listed
    assert there.command("peers", "list") == "from here: in the name of 000000000000\n"


@pytest.mark.parametrize("end", ["here", "there"])
def test_what_is_on_its_way_when_a_platform_is_killed_arrives_after_its_next_start(installations, end):
    here, there = installations
    large = busybox_image({"/blob": File(os.urandom(30_000_000))})
    skopeo_push(here, large, "large", end)
    killed = here if end == "here" else there
    killed.kill()
    https = ("--registry-https-port", str(there.info["registry_https_port"])) if killed is there else ()
    killed.up("--zones", "1", *https)
    until(lambda: status(here, "large", end) == ["COMPLETE"], 60)
    raw = manifest(there.registry, there.login(), f"000000000000.{FAR}/large", end)
    assert "sha256:" + hashlib.sha256(raw).hexdigest() == large.digest


def test_the_registry_speaks_https_with_the_certificate_of_its_authority(installations, tmp_path):
    _, there = installations
    shutil.copy(there.command("ca", "--registry").strip(), tmp_path / "ca.crt")
    there.client("ecr").create_repository(repositoryName="tls")
    layout = busybox_image().write_oci_layout(tmp_path / "image", tag="1")
    target = f"docker://localhost:{there.info['registry_https_port']}/tls:1"
    subprocess.run(
        ["skopeo", "copy", "--quiet", "--dest-creds", there.login(), "--dest-cert-dir", str(tmp_path),
         f"oci:{layout}:1", target],
        check=True,
    )  # fmt: skip
    assert there.client("ecr").describe_images(repositoryName="tls")["imageDetails"][0]["imageTags"] == ["1"]
