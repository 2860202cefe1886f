"""`roadstead scan` of an image in a file, where no platform runs."""

import json
import subprocess

import pytest

from services.testing.platform import CLI, HOME
from tests.builders.scanner import advisories, packages, packed_image


@pytest.fixture
def scan(tmp_path):
    """(exit code, what was printed) of a scan of this path."""
    osv = advisories(tmp_path / "osv")

    def run(path, *arguments, advisories=osv):
        given = ("--data", str(tmp_path / "nothing"), "--advisories", str(advisories))
        done = subprocess.run([*CLI, "scan", str(path), *arguments, *given], cwd=HOME, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    return run


def test_a_layout_is_scanned_and_fails_by_severity(tmp_path, scan):
    layout = packed_image({"/x": "y"}, packages()).write_oci_layout(tmp_path / "layout")
    code, told = scan(layout, "--fail-on", "critical", "--format", "json")
    (one,) = json.JSONDecoder().raw_decode(told)[0]["images"]
    assert (code, one["packages"], one["error"]) == (1, 4, "")
    assert [each["name"] for each in one["findings"]] == ["CVE-2023-0001", "CVE-2023-0002", "NPM-1"]
    assert [each["rule"] for each in one["problems"]] == ["runs-as-root"]


def test_what_docker_saves_is_scanned(tmp_path, scan):
    clean = packed_image({"/etc/motd": "hello"}).write_docker_archive(tmp_path / "clean.tar", "clean:1")
    code, told = scan(clean, "--fail-on", "low")
    assert (code, "no findings in 0 packages" in told) == (0, True)


def test_what_is_no_image_or_a_broken_one_is_not_scanned(tmp_path, scan):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("no tar")
    broken = packed_image(packages())
    layout = broken.write_oci_layout(tmp_path / "broken")
    (layer,) = [d for d in broken.blobs if broken.blobs[d] in broken.layers or broken.blobs[d][:2] == b"\x1f\x8b"]
    (layout / "blobs" / layer.replace(":", "/")).write_bytes(b"no tar" * 200)
    assert scan(tmp_path / "empty")[0] == 2
    assert scan(tmp_path / "text")[0] == 2
    code, told = scan(layout)
    assert (code, "no tar" in told) == (2, True)
    code, told = scan(packed_image(packages()).write_oci_layout(tmp_path / "good"), advisories=tmp_path / "none")
    assert (code, "none" in told) == (2, True)
