"""Versions compared as each kind of package has it, against golden lines where they are at hand."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scanner.decisions.versions import COMPARE

FOLDER = Path(
    os.environ.get("ROADSTEAD_TEST_ADVISORIES")
    or Path(__file__).resolve().parents[3].parent / "shared" / "data" / "advisories"
)
SIGNS = {"<": -1, "=": 0, ">": 1}
# What apk itself calls invalid: nothing is promised of their order.
ODD_APK = {"1-r-0", "1-r-1", "0.r1", "0..1..0", "0...1...0", "0...1...0.r1", "0...1...0r1", "0..8", "0.8.21.r2"}
ODD_APK |= {"1.2.0A", "1.2.0D", "1-ruff", "1-ruff2", ".1", ".2", "a", "c"}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("deb", "1.0-1 < 1.0-2"),
        ("deb", "1.0~rc1 < 1.0"),
        ("deb", "1.0 = 1.0-0"),
        ("deb", "1:0.1 > 9"),
        ("deb", "1.0+b1 > 1.0"),
        ("deb", "2.4a < 2.4b"),
        ("deb", "1.10 > 1.9"),
        ("deb", "007 = 7"),
        ("deb", "1.0-1~deb12u1 < 1.0-1"),
        ("apk", "1.2.3-r0 < 1.2.3-r1"),
        ("apk", "1.2_rc1 < 1.2"),
        ("apk", "1.2_p1 > 1.2"),
        ("apk", "1.2a > 1.2"),
        ("apk", "1.10 > 1.9"),
        ("apk", "1.01 < 1.1"),
        ("npm", "1.0.0-alpha.2 < 1.0.0-alpha.10"),
        ("npm", "1.0.0-rc < 1.0.0"),
        ("npm", "v1.2 = 1.2.0"),
        ("npm", "1.0.0+a = 1.0.0+b"),
        ("pypi", "1.0rc1 < 1.0"),
        ("pypi", "1.0 < 1.0.post1"),
        ("pypi", "1!0.1 > 9"),
    ],
)
def test_known_orders(kind, text):
    left, sign, right = text.split()
    assert COMPARE[kind](left, right) == SIGNS[sign]
    assert COMPARE[kind](right, left) == -SIGNS[sign]


@pytest.mark.parametrize(("kind", "version"), [("npm", "latest"), ("pypi", "1.0-bulbasaur")])
def test_what_is_no_version_raises(kind, version):
    with pytest.raises(ValueError):
        COMPARE[kind](version, "1.0.0")


@given(st.sampled_from(["deb", "apk"]), st.text(max_size=30), st.text(max_size=30))
def test_any_text_has_a_place(kind, left, right):
    compare = COMPARE[kind]
    assert compare(left, left) == 0
    assert compare(left, right) == -compare(right, left)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("deb", "debian-versions"),
        ("deb", "debian-versions-generated"),
        ("apk", "alpine-versions"),
        ("apk", "alpine-versions-generated"),
        ("npm", "semver-versions"),
        ("pypi", "pypi-versions"),
    ],
)
def test_golden_lines(kind, name):
    path = FOLDER / "version-fixtures" / f"{name}.txt"
    if not path.exists():
        pytest.skip(f"the golden versions are not at hand ({path})")
    wrong, count = [], 0
    for line in path.read_text().splitlines():
        if not line.strip() or line.startswith(("#", "//")):
            continue
        left, sign, right = line.split()
        if kind == "apk" and ODD_APK & {left, right}:
            continue
        try:
            order = COMPARE[kind](left, right)
        except ValueError:  # versions from before PEP 440
            assert kind == "pypi"
            continue
        count += 1
        if order != SIGNS[sign]:
            wrong.append(line)
    assert (wrong, count > 20) == ([], True)
