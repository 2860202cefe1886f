"""From the put of an image's manifest to its findings, as a client of ECR sees them."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from tests.bench.figures import Figure, at_most, median, percentile
from tests.builders.images import BuiltImage, busybox_image, image, tar_layer
from tests.builders.platform import ROOT, Roadstead, roadstead
from tests.builders.scanner import DEBIAN, advisories, packages

IMAGES = 25
POLL_S = 0.01
ADVISORIES = Path(os.environ.get("ROADSTEAD_TEST_ADVISORIES", ROOT.parent / "shared" / "data" / "advisories"))


def run() -> list[Figure]:
    """Small images with a layer of their own, then ones whose layers are known, then one of a Debian system's size."""
    with roadstead(zones=1, runtime="oci") as platform, tempfile.TemporaryDirectory() as folder:
        known = ADVISORIES if ADVISORIES.is_dir() else advisories(Path(folder) / "osv")
        began = time.monotonic()
        platform.command("advisories", "import", str(known))
        imported = time.monotonic() - began
        small = [_scanned(platform, busybox_image({**packages(), "/n": str(n)}), f"small{n}") for n in range(IMAGES)]
        again = [_scanned(platform, _relabelled(n), f"again{n}") for n in range(IMAGES)]
        system = [_scanned(platform, _system(n), f"system{n}") for n in range(5)]
    return [
        at_most("push of a small image to its findings, p50", median(small), "ms", 500),
        Figure("… p99", percentile(small, 99), "ms"),
        Figure("… of layers that were read before, p50", median(again), "ms"),
        Figure("… of 800 Debian packages and 64 MiB of files, p50", median(system), "ms"),
        Figure("import of the advisories", imported * 1000, "ms"),
    ]


def _relabelled(number: int) -> BuiltImage:
    return busybox_image({**packages(), "/n": "0"}, labels={"n": str(number)})


def _system(number: int) -> BuiltImage:
    paragraph = "Package: p{0}\nStatus: install ok installed\nSource: s{0}\nVersion: 1.{0}-1+b1\nDescription: {1}\n"
    status = "\n".join(paragraph.format(n, "words and more words " * 20) for n in range(800))
    files = {f"/usr/share/f{n}": os.urandom(1024) * 1024 for n in range(64)}
    return image([tar_layer({"/etc/os-release": DEBIAN, "/var/lib/dpkg/status": status, "/n": str(number), **files})])


def _scanned(platform: Roadstead, built: BuiltImage, tag: str) -> float:
    """Milliseconds from the manifest, as the registry dates it, to the answer that has the findings."""
    platform.push(built, "bench", tag)
    ecr = platform.client("ecr")
    asked = {"repositoryName": "bench", "imageId": {"imageTag": tag}}
    while True:
        try:
            status = ecr.describe_image_scan_findings(**asked)["imageScanStatus"]
        except ecr.exceptions.ScanNotFoundException:
            status = {"status": "IN_PROGRESS"}
        seen = time.time()
        if status["status"] == "COMPLETE":
            (detail,) = ecr.describe_images(repositoryName="bench", imageIds=[{"imageTag": tag}])["imageDetails"]
            return (seen - detail["imagePushedAt"].timestamp()) * 1000
        if status["status"] != "IN_PROGRESS":
            raise RuntimeError(f"not scanned: {status}")
        time.sleep(POLL_S)
