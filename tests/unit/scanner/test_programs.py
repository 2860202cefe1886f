"""Programs of Go, and archives of Java."""

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scanner.decisions.bounds import Budget
from services.scanner.decisions.layers import read_layer
from services.scanner.decisions.packages import Package, catalogue
from services.scanner.decisions.tar import Limits
from tests.builders.images import tar_layer
from tests.builders.programs import BASE, START, elf, jar, pom_properties

BUILD_INFO = (Path(__file__).parent / "golden" / "go.buildinfo").read_bytes()
MODULES = [
    Package("golang", "stdlib", "1.19.8"),
    Package("golang", "example.com/hello", "(devel)"),
    Package("golang", "example.org/fork", "v1.0.1"),
    Package("golang", "example.org/quote/v2", "v2.1.0"),
    Package("golang", "example.org/text", "v0.3.0"),
]


def pointers():
    """A program as Go before 1.18 made it: pointers to strings, which are pointers to texts."""
    frame = b"\x30\x77\xaf\x0c\x92\x74\x08\x02\x41\xe1\xc1\x07\xe6\xd6\x18\xe6"
    version, modules = b"go1.16.5", frame + b"path\tx\nmod\tx\t(devel)\t\ndep\ty\tv1.0.0\th1:=\n" + frame
    texts = version.ljust(16) + modules
    at = BASE + START
    headers = struct.pack("<4Q", at, len(version), at + 16, len(modules))
    texts += b"\0" * (-len(texts) % 16)
    info = b"\xff Go buildinf:\x08\x00" + struct.pack("<2Q", at + len(texts), at + len(texts) + 16)
    return elf({".rodata": texts, ".data": headers, ".go.buildinfo": info})


@pytest.mark.parametrize("stripped", [False, True])
def test_a_program_of_go_tells_of_its_modules(stripped):
    program = elf({".text": b"code" * 99, ".go.buildinfo": BUILD_INFO}, stripped=stripped)
    assert catalogue("program", program) == (MODULES, "")


def test_a_program_of_an_old_go_tells_of_them_too():
    expected = [
        Package("golang", "stdlib", "1.16.5"),
        Package("golang", "x", "(devel)"),
        Package("golang", "y", "v1.0.0"),
    ]
    assert catalogue("program", pointers()) == (expected, "")


def test_programs_are_found_by_what_they_begin_with():
    files = {"/usr/bin/tool": elf({".go.buildinfo": BUILD_INFO}), "/lib/x.so": elf({".text": b"x"}), "/etc/text": "ELF"}
    (told,) = read_layer([tar_layer(files)], Limits())["files"].items()
    assert told == ("usr/bin/tool", {"kind": "program", "packages": [list(each) for each in MODULES]})


def test_of_a_program_that_is_too_large_its_data_is_read():
    program = elf({".go.buildinfo": BUILD_INFO}, padding=60_000)
    found = read_layer([tar_layer({"/tool": program})], Limits(file=20_000))["files"]
    assert [each[1] for each in found["tool"]["packages"]] == [each.name for each in MODULES]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 700), st.binary(min_size=1, max_size=40), st.booleans())
def test_a_damaged_program_ends_in_packages_or_words(at, damage, old):
    program = pointers() if old else elf({".go.buildinfo": BUILD_INFO})
    found, why = catalogue("program", program[:at] + damage + program[at + len(damage) :])
    assert len(found) <= len(MODULES)
    assert isinstance(why, str)


def names(data, file="app.jar"):
    found, why = catalogue("maven", data, f"opt/{file}")
    assert not why
    return [(each.name, each.version, each.inside) for each in found]


def test_an_archive_is_what_its_pom_properties_say():
    members = {**pom_properties("org.x", "core", "1.2"), "META-INF/MANIFEST.MF": "Implementation-Version: 9\n"}
    assert names(jar(members), "core-1.2.jar") == [("org.x:core", "1.2", "")]


def test_without_them_it_is_what_its_manifest_and_its_name_say():
    manifest = "Manifest-Version: 1.0\r\nBundle-SymbolicName: org.x\r\n .core;singleton:=true\r\nBundle-Version: 3\r\n"
    assert names(jar({"META-INF/MANIFEST.MF": manifest}), "core-1.2-SNAPSHOT.jar") == [
        ("org.x:core", "1.2-SNAPSHOT", "")
    ]
    assert names(jar({"META-INF/MANIFEST.MF": manifest}), "core.jar") == [("org.x:core", "3", "")]
    assert names(jar({"a.class": b"x"}), "core-1.jar") == []


def test_what_was_copied_into_an_archive_is_told_of():
    members = {**pom_properties("org.x", "core", "1.2"), **pom_properties("com.y", "shaded", "3")}
    assert names(jar(members), "core-1.2.jar") == [("org.x:core", "1.2", ""), ("com.y:shaded", "3", "")]


def test_archives_in_archives_are_read():
    inner = jar(pom_properties("org.z", "z", "1"))
    library = jar({**pom_properties("org.x", "core", "1.2"), "lib/z-1.jar": inner})
    war = jar({"META-INF/MANIFEST.MF": "Implementation-Version: 5\n", "WEB-INF/lib/core-1.2.jar": library})
    assert names(war, "shop.war") == [
        ("shop", "5", ""),
        ("org.x:core", "1.2", "WEB-INF/lib/core-1.2.jar"),
        ("org.z:z", "1", "WEB-INF/lib/core-1.2.jar!lib/z-1.jar"),
    ]


def test_a_broken_archive_in_an_archive_hides_nothing_else():
    members = {"lib/bad.jar": b"no", "lib/z-1.jar": jar(pom_properties("org.z", "z", "1"))}
    assert names(jar(members)) == [("org.z:z", "1", "lib/z-1.jar")]


def test_archives_are_opened_only_so_deep():
    data = jar(pom_properties("org.z", "z", "1"))
    for _ in range(10):
        data = jar({"x.jar": data}, stored=True)
    assert names(data) == []


def test_a_bomb_is_told_of_before_it_is_unpacked():
    bomb = jar({**pom_properties("org.x", "core", "1.2"), "lib/x.jar": b"\0" * (8 << 20)})
    assert len(bomb) < 20_000
    found, why = catalogue("maven", bomb, "core-1.2.jar", Budget(1 << 20))
    assert ([each.name for each in found], why) == (["org.x:core"], "it unpacks to more than what is read of a layer")


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 600), st.binary(min_size=1, max_size=40))
def test_a_damaged_archive_ends_in_packages_or_words(at, damage):
    library = jar({**pom_properties("org.x", "core", "1.2"), "lib/z-1.jar": jar(pom_properties("org.z", "z", "1"))})
    found, why = catalogue("maven", library[:at] + damage + library[at + len(damage) :], "core-1.2.jar")
    assert len(found) <= 3
    assert isinstance(why, str)
