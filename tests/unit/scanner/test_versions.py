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
# Versions from before PEP 440, which pip refuses too.
ODD_PYPI = {"0.1-bulbasaur", "0.1-charmander", "0.9-doduo", "0.9-eevee", "0.9-fearow", "0.9-gyarados", "0.9-horsea"}
ODD_PYPI |= {"0.9-ivysaur", "-class.-jw.util.version.version-pre", "-class.-jw.util.version.version-preview"}
ODD_PYPI |= {"-class.-jw.util.version.version-dev"}
ODD = {"apk": ODD_APK, "pypi": ODD_PYPI}


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
        ("rpm", "1.0~rc1-1 < 1.0-1"),
        ("rpm", "1.0^git1-1 > 1.0-1"),
        ("rpm", "1:1.0-1 > 2.0-1"),
        ("rpm", "0:1.0-1.el9 = 1.0-1.el9"),
        ("rpm", "3.0.7-24.el9 < 3.0.7-27.el9_3"),
        ("golang", "v0.0.0-20200101000000-abcdef012345 < v0.0.0-20210101000000-000000000000"),
        ("golang", "v1.2.4-0.20200101000000-abcdef012345 < v1.2.4"),
        ("golang", "v2.0.0+incompatible = 2.0.0"),
        ("golang", "go1.20.1 < 1.21.0"),
        ("cargo", "1.0.0-alpha.2 < 1.0.0-alpha.10"),
        ("maven", "1.0-SNAPSHOT < 1.0"),
        ("maven", "2.0.0.RELEASE = 2"),
        ("maven", "1.0-rc1 < 1.0.sp1"),
        ("gem", "1.0.0.rc1 < 1.0.0"),
        ("gem", "1.0 = 1.0.0"),
        ("gem", "1.0-x = 1.0.pre.x"),
        ("nuget", "1.0.0.1 > 1.0.0"),
        ("nuget", "1.0.0-RC = 1.0.0-rc"),
        ("composer", "v1.0.0 = 1.0.0.0"),
        ("composer", "1.0.0-beta1 < 1.0.0-RC1"),
        ("composer", "1.0.0-RC1 < 1.0.0"),
        ("composer", "1.0.0 < 1.0.0-patch1"),
    ],
)
def test_known_orders(kind, text):
    left, sign, right = text.split()
    assert COMPARE[kind](left, right) == SIGNS[sign]
    assert COMPARE[kind](right, left) == -SIGNS[sign]


@pytest.mark.parametrize(
    ("kind", "version"),
    [("npm", "latest"), ("pypi", "1.0-bulbasaur"), ("gem", "x.1"), ("composer", "dev-main"), ("nuget", "?")],
)
def test_what_is_no_version_raises(kind, version):
    with pytest.raises(ValueError):
        COMPARE[kind](version, "1.0.0")


@given(st.sampled_from(["deb", "apk", "rpm", "maven"]), st.text(max_size=30), st.text(max_size=30))
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
        ("cargo", "semver-versions"),
        ("golang", "semver-versions"),
        ("rpm", "redhat-versions"),
        ("maven", "maven-versions"),
        ("gem", "rubygems-versions"),
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
        odd = ODD[kind] & {left, right} if kind in ODD else set()
        try:
            order = COMPARE[kind](left, right)
        except ValueError:
            order = None
        count += 1
        if order != SIGNS[sign] and not odd:
            wrong.append(line)
    assert (wrong, count > 20) == ([], True)
