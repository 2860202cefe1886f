"""Package databases read, and layers laid on each other."""

import gzip

import pytest

from services.scanner.decisions.layers import Installed, merge, read_layer, unreadable
from services.scanner.decisions.packages import Package, catalogue, kind_of, normalised, os_release
from services.scanner.decisions.tar import LayerRefused, Limits
from tests.builders.images import Symlink, tar_layer
from tests.builders.scanner import DEBIAN, STATUS, packages


def read(kind, text):
    found, why = catalogue(kind, text)
    assert not why
    return found


OPENSSL = Package("deb", "libssl3", "3.0.9-1", "openssl", "3.0.9-1")
BASH = Package("deb", "bash", "5.2.15-2+b2", "bash", "5.2.15-2+b2")
APK = """C:Q1abc=
P:libcrypto3
V:3.1.4-r5
o:openssl
F:lib
R:libcrypto.so.3

P:musl
V:1.2.4-r2

P:nameless
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("var/lib/dpkg/status", "deb"),
        ("var/lib/dpkg/status-old", None),
        ("var/lib/dpkg/status.d/base", "deb"),
        ("var/lib/dpkg/status.d/base.md5sums", None),
        ("lib/apk/db/installed", "apk"),
        ("usr/lib/apk/db/installed", "apk"),
        ("usr/lib/python3/dist-packages/a-1.dist-info/METADATA", "pypi"),
        ("usr/lib/python3/dist-packages/a-1.egg-info/PKG-INFO", "pypi"),
        ("usr/lib/python3/dist-packages/a-1.egg-info", "pypi"),
        ("docs/METADATA", None),
        ("node_modules/a/package.json", "npm"),
        ("app/node_modules/@scope/a/package.json", "npm"),
        ("app/node_modules/a/node_modules/b/package.json", "npm"),
        ("app/package.json", "npm"),
        ("package.json.orig", None),
        ("app/package-lock.json", "npm-lock"),
        ("app/node_modules/a/package-lock.json", None),
        ("node_modules/a/yarn.lock", None),
        ("app/pnpm-lock.yaml", "pnpm-lock"),
        ("app/requirements-dev.txt", "requirements"),
        ("app/notes.txt", None),
        ("app/poetry.lock", "toml-lock"),
        ("var/lib/rpm/rpmdb.sqlite", "rpm-sqlite"),
        ("usr/lib/sysimage/rpm/Packages.db", "rpm-ndb"),
        ("var/lib/rpm/Packages", "rpm-bdb"),
        ("app/Packages", None),
        ("opt/app.war", "maven"),
        ("usr/lib/ruby/gems/3.1.0/specifications/rack-2.0.gemspec", "gem"),
        ("app/rack.gemspec", None),
        ("app/vendor/composer/installed.json", "composer"),
        ("etc/os-release", "os-release"),
    ],
)
def test_a_path_tells_what_a_file_says(path, kind):
    assert kind_of(path) == kind


def test_dpkg_tells_of_what_is_installed_with_its_source():
    assert read("deb", STATUS.encode()) == [OPENSSL, BASH]


def test_a_source_without_a_version_has_the_packages_own():
    text = b"Package: a\nSource: src\nVersion: 1:2-3\nStatus: install ok installed\n"
    assert read("deb", text) == [Package("deb", "a", "1:2-3", "src", "1:2-3")]


def test_apk_tells_of_packages_and_origins():
    assert read("apk", APK.encode()) == [
        Package("apk", "libcrypto3", "3.1.4-r5", "openssl", "3.1.4-r5"),
        Package("apk", "musl", "1.2.4-r2", "musl", "1.2.4-r2"),
    ]


def test_core_metadata_is_read_up_to_its_description():
    text = b"Metadata-Version: 2.1\r\nName: Flask\r\nVersion: 2.0\r\n\r\nName: lies\nVersion: 9\n"
    assert read("pypi", text) == [Package("pypi", "Flask", "2.0")]


@pytest.mark.parametrize("text", [b"[]", b'{"name": 1, "version": "1"}', b'{"version": "1"}'])
def test_a_package_json_that_tells_nothing_is_passed_over(text):
    assert read("npm", text) == []


@pytest.mark.parametrize("text", [b"{", b"[" * 100_000, b"\xff"])
def test_a_package_json_that_is_none_is_told_of(text):
    found, why = catalogue("npm", text)
    assert (found, why[:14]) == ([], "it is no JSON:")


def test_architectures_are_kept():
    assert read("deb", b"Package: a\nVersion: 1\nArchitecture: arm64\n")[0].arch == "arm64"
    assert read("apk", b"P:a\nV:1-r0\nA:x86_64\n")[0].arch == "x86_64"


def test_python_names_are_compared_as_pep_503_says():
    assert normalised("Foo.Bar__baz") == "foo-bar-baz"


def test_os_release_without_quotes():
    assert os_release(DEBIAN.encode()) == {
        "PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)",
        "ID": "debian",
        "VERSION_ID": "12",
    }


def layer(entries):
    return read_layer([gzip.compress(tar_layer(entries))], Limits())


def names(*layers):
    return {i.package.name for i in merge((str(n), layer(each)) for n, each in enumerate(layers)).packages}


def test_an_image_has_what_its_layers_say_each_with_where_it_came_from():
    contents = merge([("base", layer({"/etc/os-release": DEBIAN})), ("top", layer(packages()))])
    assert contents.release["VERSION_ID"] == "12"
    assert Installed(OPENSSL, "var/lib/dpkg/status", "top") in contents.packages
    assert {i.package.name for i in contents.packages} == {"libssl3", "bash", "Jinja2", "left-pad"}


def test_who_had_a_package_first_brought_it():
    more = STATUS + "\nPackage: curl\nStatus: install ok installed\nVersion: 8\n"
    status = "/var/lib/dpkg/status"
    contents = merge([("a", layer({status: STATUS})), ("b", layer({status: more})), ("c", layer({status: more}))])
    assert {i.package.name: i.layer for i in contents.packages} == {"libssl3": "a", "bash": "a", "curl": "b"}


def test_a_broken_file_is_told_of_and_hides_nothing_else():
    contents = merge([("a", layer({**packages(), "/app/x.jar": "no zip", "/app/poetry.lock": "["}))])
    assert {i.package.name for i in contents.packages} == {"libssl3", "bash", "Jinja2", "left-pad"}
    assert [path for path, _ in contents.broken] == ["app/poetry.lock", "app/x.jar"]
    assert unreadable(contents).startswith("2 files could not be read (/app/poetry.lock: it is no TOML")
    assert unreadable(merge([("a", layer({"/app/x.jar": "no zip"})), ("b", layer({"/app/.wh.x.jar": ""}))])) == ""


def test_what_a_lock_file_names_and_lies_there_is_told_of_once():
    lock = '{"packages": {"node_modules/left-pad": {"version": "1.3.0"}, "node_modules/gone": {"version": "1.0.0"}}}'
    contents = merge([("a", layer({**packages(), "/app/package-lock.json": lock, "/b/package-lock.json": lock}))])
    found = [(i.package.name, i.path, i.package.declared) for i in contents.packages if i.package.kind == "npm"]
    assert sorted(found) == [
        ("gone", "app/package-lock.json", True),
        ("left-pad", "app/node_modules/left-pad/package.json", False),
    ]


def test_whiteouts_hide_files_and_folders_below():
    assert names(packages(), {"/app/node_modules/left-pad/.wh.package.json": ""}) == {"libssl3", "bash", "Jinja2"}
    assert names(packages(), {"/.wh.app": "", "/usr/.wh.lib": ""}) == {"libssl3", "bash"}


def test_opaque_folders_hide_what_is_below_and_not_what_comes_with_them():
    above = {"/app/.wh..wh..opq": "", "/app/node_modules/x/package.json": '{"name": "x", "version": "1"}'}
    assert names(packages(), above) == {"libssl3", "bash", "Jinja2", "x"}
    assert names(packages(), {"/.wh..wh..opq": ""}) == set()


def test_a_whiteout_hides_nothing_of_its_own_layer():
    entries = {"/app/.wh.node_modules": "", "/app/node_modules/x/package.json": '{"name": "x", "version": "1"}'}
    assert names(entries) == {"x"}


def test_order_matters():
    assert names({"/.wh.app": ""}, packages()) == {"libssl3", "bash", "Jinja2", "left-pad"}


def test_the_later_of_two_entries_of_one_path_holds():
    one, two = tar_layer({"/etc/os-release": "ID=a\n"}), tar_layer({"/etc/os-release": Symlink("../x")})
    both = one[: one.rindex(b"ID=a") + 508 + 4] + two
    assert read_layer([both], Limits())["files"] == {}


def test_a_layer_of_too_many_packages_is_refused():
    with pytest.raises(LayerRefused, match="more than 1 packages"):
        read_layer([tar_layer(packages())], Limits(packages=1))


def test_secrets_of_all_layers_are_told_of_also_of_those_that_a_later_one_hides():
    body = b"MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n" * 8
    key = b"-----BEGIN PRIVATE KEY-----\n" + body + b"-----END PRIVATE KEY-----\n"
    base, top = layer({"/etc/ssl/private/a.key": key}), layer({"/etc/ssl/private/.wh.a.key": ""})
    found = merge([("base", base), ("top", top)]).secrets
    assert [(each[0], each[3], each[-1]) for each in found] == [("private-key", "etc/ssl/private/a.key", "base")]


def test_links_that_lead_out_of_the_image_are_followed_nowhere():
    found = layer(
        {"/var/lib/dpkg/status": Symlink("../../../../../../etc/passwd"), "/etc/os-release": Symlink("/proc/1/x")}
    )
    assert (found["files"], found["secrets"]) == ({}, [])
