"""Package databases read, and layers laid on each other."""

import gzip

import pytest

from services.scanner.decisions.layers import Installed, merge, read_layer
from services.scanner.decisions.packages import Package, kind_of, normalised, os_release, read
from services.scanner.decisions.tar import LayerRefused, Limits
from tests.builders.images import Symlink, tar_layer
from tests.builders.scanner import DEBIAN, STATUS, packages

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
        ("app/package.json", None),
        ("app/node_modules/a/lib/package.json", None),
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


@pytest.mark.parametrize("text", [b"{", b"[]", b'{"name": 1, "version": "1"}', b'{"version": "1"}', b"[" * 100_000])
def test_a_package_json_that_tells_nothing_is_passed_over(text):
    assert read("npm", text) == []


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
