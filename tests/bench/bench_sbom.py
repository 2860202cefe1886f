"""Packages found against syft on four trees, each the layer of an image; and what bills of materials take.

Syft reads the same OCI layout with its cataloguers for images, and with those for lock files beside them, for these are
read here too. Compared are packages of the kinds that both know: what syft's guesses at binaries say is left out.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from services.scanner.decisions.layers import merge, read_layer
from services.scanner.decisions.packages import PYTHON, normalised
from services.scanner.decisions.tar import Limits
from services.scanner.worker import CHUNK
from tests.bench.bench_scan import ADVISORIES
from tests.bench.figures import Figure, at_least, at_most, median
from tests.bench.platforms import PEERS, install_peers
from tests.builders.images import BuiltImage, image, tar_layer
from tests.builders.platform import ROOT, Roadstead, roadstead
from tests.builders.scanner import DEBIAN, advisories

IMAGES = 15
POLL_S = 0.005
NODE_PACKAGES = ("express@4", "eslint@8")
CATALOGUERS = "+javascript-lock-cataloger,+python-package-cataloger,+ruby-gemfile-cataloger,+rust-cargo-lock-cataloger"
TYPES = {
    "deb": "deb",
    "apk": "apk",
    "rpm": "rpm",
    "python": "pypi",
    "npm": "npm",
    "java-archive": "maven",
    "jenkins-plugin": "maven",
    "go-module": "golang",
    "gem": "gem",
    "rust-crate": "cargo",
    "php-composer": "composer",
}
"""Syft's types of packages -> ours."""

Identity = tuple[str, str, str]


def run() -> list[Figure]:
    """Recall and precision by tree, then times on a platform."""
    install_peers()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, build in TREES.items():
            layer = build(Path(folder) / name)
            if layer is not None:
                figures += _compared(name, layer, Path(folder))
    return figures + _times()


def _compared(name: str, layer: bytes, folder: Path) -> list[Figure]:
    built = image([layer], command=["/nothing"])
    began = time.monotonic()
    found = ours(next(blob for blob in built.blobs.values() if blob.startswith(b"\x1f\x8b")))
    took = time.monotonic() - began
    began = time.monotonic()
    told = syfts(built, folder / f"{name}-oci")
    peer = time.monotonic() - began
    both = len(found & told)
    for title, some in (("only syft", told - found), ("only here", found - told)):
        if some:
            print(f"  {name}, {title} ({len(some)}): " + ", ".join(" ".join(each) for each in sorted(some)[:12]))
    return [
        at_least(f"packages of a {name} tree found: recall", both / len(told), f"of {len(told)}", "syft", 1.0, 0.99),
        at_least("… precision", both / len(found), f"of {len(found)}", "syft", 1.0, 0.99),
        Figure(f"… seconds, of {len(layer) >> 20} MiB", took, "s", "syft", peer, took / peer),
    ]


def ours(layer: bytes) -> set[Identity]:
    """What is found in a layer, packed as it is pushed."""
    chunks = (layer[at : at + CHUNK] for at in range(0, len(layer), CHUNK))
    contents = merge([("layer", read_layer(chunks, Limits()))])
    for path, why in contents.broken[:5]:
        print(f"  not read: {path}: {why}")
    return {_identity(each.package.kind, each.package.name, each.package.version) for each in contents.packages}


def syfts(built: BuiltImage, layout: Path) -> set[Identity]:
    """What syft finds in an image."""
    built.write_oci_layout(layout)
    command = [PEERS / "bin/syft", "scan", f"oci-dir:{layout}", "-q", "-o", "syft-json"]
    told = subprocess.run([*command, "--select-catalogers", CATALOGUERS], check=True, capture_output=True)
    artifacts = json.loads(told.stdout)["artifacts"]
    return {
        _identity(TYPES[each["type"]], each["name"], each["version"])
        for each in artifacts
        if each["type"] in TYPES and each["version"] not in ("", "UNKNOWN")
    }


def _identity(kind: str, name: str, version: str) -> Identity:
    if kind == PYTHON:
        name = normalised(name)
    if kind == "maven":  # syft's name of a Java package has no group
        name = name.rpartition(":")[2]
    return kind, name, version.removeprefix("go") if name == "stdlib" else version


def _debian(folder: Path) -> bytes | None:
    """This machine's package database, its Python packages and Java archives; None where it has none."""
    if not Path("/var/lib/dpkg/status").exists():
        return None
    parts = ("/etc/os-release", "/usr/lib/os-release", "/var/lib/dpkg/status", "/usr/lib/python3", "/usr/share/java")
    return _tar((Path(part) for part in parts), Path("/"))


def _alpine(folder: Path) -> bytes:
    """No Alpine image can be had without a registry: names and versions of its packages, as its advisories tell them,
    in the form of apk's database."""
    entries = {"/etc/os-release": 'ID=alpine\nVERSION_ID=3.18.4\nPRETTY_NAME="Alpine Linux v3.18"\n'}
    paragraph = "C:Q1{0}=\nP:{0}\nV:{1}\nA:x86_64\nS:1\nI:1\nT:{0}\nU:https://example.com\nL:MIT\no:{0}\nF:usr\nR:{0}\n"
    entries["/lib/apk/db/installed"] = "\n".join(
        paragraph.format(name, version) for name, version in _alpine_packages()
    )
    return tar_layer(entries)


def _alpine_packages() -> list[tuple[str, str]]:
    found = {"musl": "1.2.4-r2", "busybox": "1.36.1-r5", "libcrypto3": "3.1.4-r5"}
    path = ADVISORIES / "alpine-secfixes.osv.jsonl.gz"
    for line in gzip.decompress(path.read_bytes()).splitlines() if path.exists() else ():
        for affected in json.loads(line).get("affected", ()):
            fixed = [e["fixed"] for r in affected.get("ranges", ()) for e in r["events"] if e.get("fixed")]
            if fixed and "-r" in fixed[0]:
                found.setdefault(affected["package"]["name"], fixed[0])
    return sorted(found.items())[:400]


def _python(folder: Path) -> bytes:
    """The project's own virtual environment, a program of Go in it."""
    return _tar([ROOT / ".venv" / "lib", ROOT / ".venv" / "bin"], ROOT / ".venv")


def _node(folder: Path) -> bytes | None:
    """What npm installs of two well-known packages, with its lock file; None without npm, or its registry."""
    npm = shutil.which("npm")
    folder.mkdir()
    command = [npm or "", "install", "--ignore-scripts", "--no-audit", "--no-fund", *NODE_PACKAGES]
    if npm is None or subprocess.run(command, cwd=folder, capture_output=True).returncode:
        print("  npm can't install anything here: no Node tree")
        return None
    return _tar([folder], folder.parent)


TREES: dict[str, Callable[[Path], bytes | None]] = {
    "Debian": _debian,
    "Alpine": _alpine,
    "Python": _python,
    "Node": _node,
}


def _tar(parts: Iterable[Path], below: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for part in parts:
            if part.exists():
                tar.add(part, str(part.relative_to(below)))
    return buffer.getvalue()


def _times() -> list[Figure]:
    """A Debian image of 100 packages, pushed: to its findings, with bills of materials and without, and to these."""
    found, billed = _pushed("true")
    without, _ = _pushed("false")
    return [
        at_most("push of a 100-package Debian image to its findings, p50", median(found), "ms", 1000),
        Figure("… without bills of materials, p50", median(without), "ms"),
        Figure("… to its bills of materials, p50", median(billed), "ms"),
    ]


def _pushed(sbom: str) -> tuple[list[float], list[float]]:
    with (
        tempfile.TemporaryDirectory() as folder,
        _setting("ROADSTEAD_SCANNER_SBOM", sbom),
        roadstead(zones=1, runtime="oci") as platform,
    ):
        known = ADVISORIES if ADVISORIES.is_dir() else advisories(Path(folder) / "osv")
        platform.command("advisories", "import", str(known))
        times = [_timed(platform, number, sbom == "true") for number in range(IMAGES)]
    return [found for found, _ in times], [billed for _, billed in times]


class _setting:
    """An environment variable, for what is started meanwhile."""

    def __init__(self, name: str, value: str) -> None:
        self._name, self._value = name, value

    def __enter__(self) -> None:
        self._before = os.environ.get(self._name)
        os.environ[self._name] = self._value

    def __exit__(self, *raised: object) -> None:
        del os.environ[self._name]
        if self._before is not None:
            os.environ[self._name] = self._before


def _timed(platform: Roadstead, number: int, billed: bool) -> tuple[float, float]:
    """Milliseconds from the manifest, as the registry dates it, to findings and to both bills of materials."""
    paragraph = "Package: p{0}\nStatus: install ok installed\nArchitecture: amd64\nSource: s{0}\nVersion: 1.{0}-1+b1\n"
    status = "\n".join(paragraph.format(n) for n in range(100))
    built = image([tar_layer({"/etc/os-release": DEBIAN, "/var/lib/dpkg/status": status, "/n": str(number)})])
    platform.push(built, "bench", tag := f"{number}")
    ecr = platform.client("ecr")
    named = {"repositoryName": "bench", "imageId": {"imageTag": tag}}
    (detail,) = ecr.describe_images(repositoryName="bench", imageIds=[named["imageId"]])["imageDetails"]
    while (status := _status(ecr, named)) != "COMPLETE":
        if status == "FAILED":
            raise RuntimeError(f"{tag} was not scanned")
        time.sleep(POLL_S)
    found = time.time() - detail["imagePushedAt"].timestamp()
    subject = {"repositoryName": "bench", "subjectId": {"imageDigest": built.digest}}
    while billed and len(ecr.list_image_referrers(**subject)["referrers"]) < 2:
        time.sleep(POLL_S)
    return found * 1000, (time.time() - detail["imagePushedAt"].timestamp()) * 1000


def _status(ecr: object, named: dict[str, object]) -> str:
    try:
        return ecr.describe_image_scan_findings(**named)["imageScanStatus"]["status"]
    except ecr.exceptions.ScanNotFoundException:
        return "IN_PROGRESS"
