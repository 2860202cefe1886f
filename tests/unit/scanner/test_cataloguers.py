"""What each ecosystem's files tell."""

import json
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scanner import worker
from services.scanner.decisions.bounds import Broken, Budget
from services.scanner.decisions.cataloguers import node
from services.scanner.decisions.layers import read_layer
from services.scanner.decisions.packages import LOCKS as LOCK_KINDS
from services.scanner.decisions.packages import READERS, Package, catalogue
from services.scanner.decisions.tar import Limits
from tests.builders.images import tar_layer
from tests.builders.programs import elf


def named(kind, text, path=""):
    """name -> version of what is found; nothing may be in the way."""
    found, why = catalogue(kind, text.encode() if isinstance(text, str) else text, path)
    assert not why
    assert all(each.declared == (kind in LOCK_KINDS) for each in found)
    return {each.name: each.version for each in found}


PACKAGE_LOCK_1 = {
    "lockfileVersion": 1,
    "dependencies": {
        "a": {"version": "1.0.0", "dependencies": {"@s/b": {"version": "2.0.0"}}},
        "alias": {"version": "npm:real@3.0.0"},
        "odd": {"version": 1},
    },
}
PACKAGE_LOCK_3 = {
    "lockfileVersion": 3,
    "packages": {
        "": {"name": "app", "version": "0.1.0"},
        "node_modules/a": {"version": "1.0.0"},
        "node_modules/a/node_modules/@s/b": {"version": "2.0.0", "dev": True},
        "node_modules/alias": {"name": "real", "version": "3.0.0"},
        "node_modules/local": {"resolved": "packages/local", "link": True},
        "packages/local": {"name": "local", "version": "4.0.0"},
    },
}


def test_package_lock_of_all_versions():
    assert named("npm-lock", json.dumps(PACKAGE_LOCK_1)) == {"a": "1.0.0", "@s/b": "2.0.0", "real": "3.0.0"}
    expected = {"app": "0.1.0", "a": "1.0.0", "@s/b": "2.0.0", "real": "3.0.0", "local": "4.0.0"}
    assert named("npm-lock", json.dumps(PACKAGE_LOCK_3)) == expected
    assert named("npm-lock", json.dumps({**PACKAGE_LOCK_3, "lockfileVersion": 2, **PACKAGE_LOCK_1})) == expected


YARN_1 = """# yarn lockfile v1


"@babel/core@^7.0.0", "@babel/core@^7.1.0":
  version "7.1.2"
  resolved "https://registry.example/@babel/core/-/core-7.1.2.tgz#abc"
  dependencies:
    version "^1.0.0"

left-pad@^1.0.0:
  version "1.3.0"

"alias@npm:real@^3":
  version "3.0.0"
"""
YARN_BERRY = """__metadata:
  version: 6
  cacheKey: 8

"@babel/core@npm:^7.0.0, @babel/core@npm:^7.1.0":
  version: 7.1.2
  resolution: "@babel/core@npm:7.1.2"
  dependencies:
    left-pad: ^1.0.0

"alias@npm:real@^3":
  version: 3.0.0
  resolution: "real@npm:3.0.0"

"app@workspace:.":
  version: 0.0.0-use.local
  resolution: "app@workspace:."
"""


def test_yarn_lock_of_both_kinds():
    expected = {"@babel/core": "7.1.2", "left-pad": "1.3.0", "real": "3.0.0"}
    assert named("yarn-lock", YARN_1) == expected
    assert named("yarn-lock", YARN_BERRY) == {name: expected[name] for name in ("@babel/core", "real")}


PNPM_5 = """lockfileVersion: 5.4

packages:

  /@babel/core/7.1.2:
    resolution: {integrity: sha512-x}
    dependencies:
      /no/1.0.0: 1

  /left-pad/1.3.0_react@17.0.0:
    resolution: {integrity: sha512-x}
"""
PNPM_6 = """lockfileVersion: '6.0'

packages:

  /@babel/core@7.1.2:
    resolution: {integrity: sha512-x}

  /left-pad@1.3.0(react@17.0.0):
    resolution: {integrity: sha512-x}
    dev: true
"""
PNPM_9 = """lockfileVersion: '9.0'

importers:

  .:
    dependencies:
      left-pad:
        specifier: ^1
        version: 1.3.0

packages:

  '@babel/core@7.1.2':
    resolution: {integrity: sha512-x}

  left-pad@1.3.0:
    resolution: {integrity: sha512-x}

snapshots:

  other@1.0.0: {}
"""


@pytest.mark.parametrize("text", [PNPM_5, PNPM_6, PNPM_9], ids=["5", "6", "9"])
def test_pnpm_lock_of_all_versions(text):
    assert named("pnpm-lock", text) == {"@babel/core": "7.1.2", "left-pad": "1.3.0"}


def test_requirements_that_pin_a_version():
    text = """# a comment
    Flask==2.0.1
    uvicorn[standard] == 0.20.0 ; python_version > "3.8"
    hashed==1.0 \\
        --hash=sha256:abc
    inline==2.0 --hash=sha256:abc  # why
    range>=1,==1.*
    loose>=1
    -r other.txt
    git+https://example.com/x==1
    """
    assert named("requirements", text) == {"Flask": "2.0.1", "uvicorn": "0.20.0", "hashed": "1.0", "inline": "2.0"}


def test_lock_files_of_python():
    poetry = '[[package]]\nname = "flask"\nversion = "2.0.1"\n\n[[package]]\nname = "odd"\nversion = 1\n'
    uv = '[[package]]\nname = "app"\nversion = "0.1"\nsource = { editable = "." }\n' + poetry
    pipfile = {"default": {"flask": {"version": "==2.0.1"}, "x": {"git": "u"}}, "develop": {"y": {"version": "==1"}}}
    assert named("toml-lock", poetry) == named("toml-lock", uv) == {"flask": "2.0.1"}
    assert named("pipfile-lock", json.dumps(pipfile)) == {"flask": "2.0.1"}


def test_gems_as_rubygems_and_bundler_tell_them():
    spec = """# -*- encoding: utf-8 -*-
    Gem::Specification.new do |s|
      s.name = "rack".freeze
      s.version = "2.2.4"
      s.required_ruby_version = Gem::Requirement.new(">= 2".freeze)
    """
    lock = """GIT
  remote: https://example.com/x
  specs:
    own (0.1)

GEM
  remote: https://rubygems.org/
  specs:
    nokogiri (1.15.0-x86_64-linux)
      racc (~> 1.4)
    rack (2.2.4)

DEPENDENCIES
    no (1.0)
"""
    assert named("gem", spec) == {"rack": "2.2.4"}
    assert named("gemfile-lock", lock) == {"own": "0.1", "nokogiri": "1.15.0", "rack": "2.2.4"}
    assert catalogue("gem", b"puts 1") == ([], "it does not say name and version as RubyGems writes them")


def test_crates_of_a_lock_file_and_of_a_program():
    lock = 'version = 3\n\n[[package]]\nname = "serde"\nversion = "1.0.0"\nsource = "registry+x"\n'
    assert named("cargo-lock", lock) == {"serde": "1.0.0"}
    crates = [{"name": "app", "version": "0.1.0"}, {"name": "cc", "version": "1.0.0", "kind": "build"}]
    program = elf({".text": b"x" * 100, ".dep-v0": zlib.compress(json.dumps({"packages": crates}).encode())})
    assert catalogue("program", program) == ([Package("cargo", "app", "0.1.0")], "")


def test_a_bomb_in_a_program_is_told_of():
    program = elf({".dep-v0": zlib.compress(b" " * (9 << 20))})
    found, why = catalogue("program", program)
    assert (found, why) == ([], "its list of crates has more than 8388608 bytes")


def test_what_composer_installed_and_locked():
    packages = [{"name": "monolog/monolog", "version": "2.0.0"}, {"name": 1}]
    assert named("composer", json.dumps(packages)) == {"monolog/monolog": "2.0.0"}
    assert named("composer", json.dumps({"packages": packages})) == {"monolog/monolog": "2.0.0"}
    more = {"packages": packages, "packages-dev": [{"name": "phpunit/phpunit", "version": "9.5.0"}]}
    assert named("composer-lock", json.dumps(more)) == {"monolog/monolog": "2.0.0"}


def test_a_budget_is_spent_by_all_together():
    budget = Budget(10)
    budget.spend(6)
    with pytest.raises(Broken, match="unpacks to more"):
        budget.spend(6)


def test_what_takes_too_long_in_one_file_is_broken_off(monkeypatch):
    monkeypatch.setattr(worker, "FILE_SECONDS", 0.05)

    def endless(path, data, budget):
        yield Package("npm", "a", "1")
        while True:
            pass

    monkeypatch.setattr(node, "package_json", endless)
    report = read_layer([tar_layer({"/a/package.json": "{}", "/b/yarn.lock": YARN_1})], Limits(), worker._in_time)
    assert report["files"]["a/package.json"] == {
        "kind": "npm",
        "packages": [list(Package("npm", "a", "1"))],
        "note": "reading it takes more than 0.05 s",
    }
    assert len(report["files"]["b/yarn.lock"]["packages"]) == 3


HINTS = {
    "rpm-sqlite": b"SQLite format 3\0",
    "rpm-ndb": b"RpmP\0\0\0\0\1\0\0\0\1\0\0\0",
    "program": b"\x7fELF\2\1\1",
    "maven": b"PK\3\4",
    "gem": b's.name = "a"\ns.version = "1"\n',
    "pnpm-lock": b"packages:\n  /a@",
    "yarn-lock": b'"a@npm:',
}


@pytest.mark.parametrize("kind", sorted(READERS))
def test_no_bytes_break_a_cataloguer(kind):
    hint = HINTS.get(kind, b"")

    @settings(max_examples=60, deadline=None)
    @given(st.binary(max_size=400), st.booleans())
    def try_(data, hinted):
        found, why = catalogue(kind, hint + data if hinted else data, "a/b.jar")
        assert all(each.name and each.version for each in found)
        assert isinstance(why, str)

    try_()
