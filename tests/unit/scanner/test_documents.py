"""Bills of materials: what they say, that others can read them, and that they are always the same."""

import json
import re

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import given, settings
from hypothesis import strategies as st
from packageurl import PackageURL
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from services.scanner.decisions import cyclonedx, spdx
from services.scanner.decisions.inventory import About, inventory
from services.scanner.decisions.packages import Package
from services.scanner.decisions.purls import purl

RELEASE = {"ID": "debian", "VERSION_ID": "12", "PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)"}
ABOUT = About("000000000000", "us-east-1", "team/shop", "sha256:" + "a" * 64, 1_700_000_000.5)
FOUND = [
    (Package("deb", "libssl3", "1:3.0.9-1+b1", "openssl", "1:3.0.9-1", "amd64"), "var/lib/dpkg/status", "sha256:1"),
    (Package("npm", "@babel/core", "7.1.2"), "app/node_modules/@babel/core/package.json", "sha256:2"),
    (Package("npm", "@babel/core", "7.1.2"), "opt/node_modules/@babel/core/package.json", "sha256:2"),
    (Package("npm", "gone", "1.0.0", declared=True), "app/package-lock.json", "sha256:2"),
    (Package("maven", "org.x:core", "1.2", inside="lib/core.jar"), "opt/shop.war", "sha256:3"),
]


def packages(found):
    return [{**package._asdict(), "path": path, "layer": layer} for package, path, layer in found]


def bill(found=FOUND, release=RELEASE, about=ABOUT):
    return inventory(about, release, packages(found))


@pytest.mark.parametrize(
    ("package", "release", "expected"),
    [
        (
            FOUND[0][0],
            RELEASE,
            "pkg:deb/debian/libssl3@1:3.0.9-1%2Bb1?arch=amd64&distro=debian-12&upstream=openssl%401:3.0.9-1",
        ),
        (Package("deb", "a", "1", "a", "1"), {}, "pkg:deb/debian/a@1"),
        (
            Package("apk", "musl-utils", "1.2-r1", "musl", "1.2-r1"),
            {"ID": "alpine"},
            "pkg:apk/alpine/musl-utils@1.2-r1?upstream=musl",
        ),
        (
            Package("rpm", "bash", "1:5-1.el9", "bash", "1:5-1.el9", "x86_64"),
            {"ID": "rhel", "VERSION_ID": "9.2"},
            "pkg:rpm/rhel/bash@5-1.el9?arch=x86_64&distro=rhel-9.2&epoch=1",
        ),
        (Package("pypi", "Foo.Bar_baz", "1.0+x"), {}, "pkg:pypi/foo-bar-baz@1.0%2Bx"),
        (Package("npm", "@babel/core", "7.1.2"), {}, "pkg:npm/%40babel/core@7.1.2"),
        (Package("maven", "org.x:core", "1.2"), {}, "pkg:maven/org.x/core@1.2"),
        (Package("maven", "core", "1.2"), {}, "pkg:maven/core@1.2"),
        (Package("golang", "github.com/BurntSushi/toml", "v1.0.0"), {}, "pkg:golang/github.com/burntsushi/toml@v1.0.0"),
        (Package("gem", "rack", "2.2"), {}, "pkg:gem/rack@2.2"),
        (Package("cargo", "serde", "1.0"), {}, "pkg:cargo/serde@1.0"),
        (Package("composer", "monolog/monolog", "2.0"), {}, "pkg:composer/monolog/monolog@2.0"),
    ],
    ids=lambda value: value.name if isinstance(value, Package) else "",
)
def test_package_urls_are_those_of_their_types(package, release, expected):
    told = purl(package, release)
    assert told == expected
    assert PackageURL.from_string(told).type == package.kind


def test_a_thing_is_told_of_once_with_all_its_places():
    found = {each.purl: each for each in bill().components}
    assert len(found) == 4
    assert found["pkg:npm/%40babel/core@7.1.2"].places == (
        ("/app/node_modules/@babel/core/package.json", "sha256:2"),
        ("/opt/node_modules/@babel/core/package.json", "sha256:2"),
    )
    assert found["pkg:maven/org.x/core@1.2"].places == (("/opt/shop.war!lib/core.jar", "sha256:3"),)
    assert [each.declared for each in found.values()] == [False, False, False, True]


def cyclonedx_problem(document):
    return JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document))


def spdx_problems(document):
    return validate_full_spdx_document(JsonLikeDictParser().parse(document))


def test_cyclonedx_is_valid_and_says_what_is_there():
    document = cyclonedx.document(bill())
    assert cyclonedx_problem(document) is None
    assert document["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"
    assert document["metadata"]["component"]["version"] == ABOUT.digest
    system, core, *_ = sorted(document["components"], key=lambda each: each["type"] != "operating-system")
    assert (system["name"], system["version"]) == ("debian", "12")
    by_name = {each["name"]: each for each in document["components"]}
    assert (by_name["core"]["group"], core["type"]) in (("@babel", "library"), ("org.x", "library"))
    assert {"name": "roadstead:source", "value": "openssl"} in by_name["libssl3"]["properties"]
    assert {"name": "roadstead:declared", "value": "true"} in by_name["gone"]["properties"]
    assert set(document["dependencies"][0]["dependsOn"]) == {each["bom-ref"] for each in document["components"]}


def test_spdx_is_valid_and_says_what_is_there():
    document = spdx.document(bill())
    assert spdx_problems(document) == []
    by_name = {each["name"]: each for each in document["packages"]}
    assert set(by_name) == {
        "000000000000.dkr.ecr.us-east-1.amazonaws.com/team/shop",
        *("debian", "libssl3", "@babel/core", "gone", "org.x:core"),
    }
    assert by_name["libssl3"]["externalRefs"][0]["referenceLocator"].startswith("pkg:deb/debian/libssl3@1:3.0.9-1")
    assert by_name["gone"]["sourceInfo"] == "named by /app/package-lock.json (layer sha256:2)"


def test_an_image_of_nothing_has_valid_bills_too():
    assert cyclonedx_problem(cyclonedx.document(bill([], {}))) is None
    assert spdx_problems(spdx.document(bill([], {}))) == []


def test_the_order_in_which_things_were_found_changes_nothing():
    for made in (cyclonedx, spdx):
        assert json.dumps(made.document(bill())) == json.dumps(made.document(bill(FOUND[::-1])))


def test_a_bill_of_other_things_has_another_serial_number():
    serials = {bill().serial, bill(FOUND[1:]).serial, bill(about=ABOUT._replace(digest="sha256:" + "b" * 64)).serial}
    assert len(serials) == 3
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", str(bill().serial))


texts = st.text(min_size=1, max_size=12)
kinds = st.sampled_from(["deb", "apk", "rpm", "pypi", "npm", "maven", "golang", "gem", "cargo", "composer"])


@settings(max_examples=12, deadline=None)
@given(st.lists(st.builds(Package, kinds, texts, texts, texts, texts, texts, st.booleans()), max_size=4))
def test_whatever_packages_are_called_their_bills_are_valid(found):
    made = bill([(package, "var/x", "sha256:1") for package in found])
    assert cyclonedx_problem(cyclonedx.document(made)) is None
    assert spdx_problems(spdx.document(made)) == []
