"""Findings that don't count: which, for how long, and what OpenVEX says of it."""

import json

import pytest

from contracts.rpc.scanner import Finding
from services.scanner.decisions import openvex
from services.scanner.decisions.suppressions import BadSuppression, counted, in_force, made, marked, of_image, read

WHERE = {"account": "000000000000", "region": "us-east-1"}
DIGEST = "sha256:" + "a" * 64
SSL = Finding(
    name="CVE-2023-0001", severity="CRITICAL", package="libssl3", version="3.0.9-1", ecosystem="Debian:12",
    advisory="DSA-1", source="openssl", fixed="3.0.10-1",
)  # fmt: skip
JINJA = Finding(
    name="CVE-2023-0002", severity="MEDIUM", package="jinja2", version="3.1.2", ecosystem="PyPI", advisory="PYSEC-1",
    aliases=["GHSA-1"],
)  # fmt: skip


def suppression(**members):
    return made(**WHERE, **{"advisory": "CVE-2023-0001", "reason": "why", "by": "me", "created_at": 1.0, **members})


def reasons(findings, *suppressions):
    return [finding.suppressed for finding in marked(findings, suppressions)]


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"advisory": "DSA-1"},
        {"package": "libssl3"},
        {"package": "openssl"},
        {"package": "libssl3", "ecosystem": "deb", "version": "3.0.9-1"},
        {"advisory": "X-1", "aliases": ["CVE-2023-0001"]},
    ],
)
def test_a_finding_is_suppressed_by_any_of_its_names_and_by_its_package(members):
    assert reasons([SSL, JINJA], suppression(**members)) == ["why", ""]


@pytest.mark.parametrize(
    "members", [{"package": "bash"}, {"ecosystem": "rpm"}, {"version": "3.0.9-2"}, {"advisory": "CVE-2023-9999"}]
)
def test_another_package_version_or_vulnerability_is_not_suppressed(members):
    assert reasons([SSL, JINJA], suppression(**members)) == ["", ""]


def test_a_suppression_is_of_its_images_alone():
    everywhere, shop, one = suppression(), suppression(repository="shop"), suppression(digest=DIGEST)
    there = (everywhere.account, everywhere.region)
    assert of_image([everywhere, shop, one], *there, "shop", "sha256:b") == [everywhere, shop]
    assert of_image([everywhere, shop, one], *there, "till", DIGEST) == [everywhere, one]
    assert of_image([everywhere], "111111111111", "us-east-1", "shop", DIGEST) == []


def test_one_that_has_ended_counts_no_more():
    ending, lasting = suppression(until=100.0), suppression(advisory="CVE-2")
    assert in_force([ending, lasting], 99.9) == [ending, lasting]
    assert in_force([ending, lasting], 100.0) == [lasting]


def test_suppressed_findings_are_not_counted():
    found = list(marked([SSL, JINJA], [suppression()]))
    assert counted(found) == {"counts": {"MEDIUM": 1}, "fixable": {}, "named": {"MEDIUM": ["CVE-2023-0002"]}}


def test_another_reason_for_the_same_takes_the_place_of_the_one_before():
    assert suppression().id == suppression(reason="another", until=5.0).id
    assert suppression().id != suppression(package="openssl").id


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"advisory": "CVE-1", "reason": " "}, "reason is missing"),
        ({"advisory": "", "reason": "x"}, "advisory is missing"),
        ({"advisory": "CVE-1", "reason": "x", "until": 5}, "until is past"),
        ({"advisory": "CVE-1", "reason": "x", "account": "1"}, "account"),
        ({"advisory": "CVE-1"}, "reason"),
        ({"advisory": "CVE-1", "reason": "x" * 1001}, "reason has more"),
    ],
)
def test_what_is_wrong_with_a_suppression_is_told(body, why):
    with pytest.raises(BadSuppression, match=why) if "account" not in body else pytest.raises(ValueError, match=why):
        read(json.dumps(body).encode(), 10.0)


def vex(*statements, **members):
    return {
        "@context": "https://openvex.dev/ns/v0.2.0",
        "@id": "https://example.com/vex-1",
        "timestamp": "2024-01-01T00:00:00Z",
        "statements": list(statements),
        **members,
    }


def statement(status="not_affected", products=("pkg:deb/debian/openssl",), **members):
    told = {"vulnerability": {"name": "CVE-2023-0001"}, "products": [{"@id": each} for each in products]}
    return {**told, "status": status, "justification": "vulnerable_code_not_present", **members}


def taken(*statements):
    return openvex.read(vex(*statements), "000000000000", "us-east-1", "me", 5.0)


def test_not_affected_and_fixed_are_suppressions_and_the_rest_is_not():
    found = taken(
        statement(),
        statement("fixed", vulnerability={"name": "CVE-2"}, justification=None),
        statement("affected", vulnerability={"name": "CVE-3"}),
        statement("under_investigation", vulnerability={"name": "CVE-4"}),
    )
    assert [(each.advisory, each.reason) for each in found.suppressions] == [
        ("CVE-2023-0001", "not_affected: vulnerable_code_not_present"),
        ("CVE-2", "fixed"),
    ]
    assert (len(found.lifted), found.skipped) == (2, [])
    assert reasons([SSL, JINJA], *found.suppressions) == ["not_affected: vulnerable_code_not_present", ""]


def test_the_latest_statement_on_the_same_holds():
    later = {"timestamp": "2024-02-01T00:00:00Z"}
    found = taken(statement("affected", **later), statement())
    assert (found.suppressions, found.lifted) == ([], [made_of(statement())])
    assert len(taken(statement("affected"), statement(**later)).suppressions) == 1


def made_of(one):
    return taken(one).suppressions[0].id


@pytest.mark.parametrize(
    ("product", "scope"),
    [
        ("pkg:deb/debian/openssl@3.0.9-1?arch=amd64", ("openssl", "3.0.9-1", "deb", "", "")),
        ("pkg:npm/%40scope/thing@1.0.0", ("@scope/thing", "1.0.0", "npm", "", "")),
        ("pkg:maven/org.apache/log4j@2.1", ("org.apache:log4j", "2.1", "maven", "", "")),
        ("pkg:golang/github.com/a/b", ("github.com/a/b", "", "golang", "", "")),
        ("pkg:rpm/rocky/bash@5.1-2.el9?epoch=1", ("bash", "1:5.1-2.el9", "rpm", "", "")),
        (f"pkg:oci/shop@sha256%3A{'a' * 64}", ("", "", "", "", DIGEST)),
        ("pkg:oci/shop?repository_url=registry.example/team/shop", ("", "", "", "team/shop", "")),
        ("pkg:oci/shop", ("", "", "", "shop", "")),
    ],
)
def test_products_by_package_url(product, scope):
    (one,) = taken(statement(products=(product,))).suppressions
    assert (one.package, one.version, one.ecosystem, one.repository, one.digest) == scope


def test_products_by_hash_and_their_packages():
    product = {
        "@id": "https://example.com/image",
        "hashes": {"sha-256": "a" * 64},
        "subcomponents": [{"@id": "pkg:deb/debian/openssl"}, {"@id": "pkg:pypi/jinja2"}],
    }
    found = taken(statement(products=()) | {"products": [product]}).suppressions
    assert [(each.digest, each.package) for each in found] == [(DIGEST, "openssl"), (DIGEST, "jinja2")]


def test_a_statement_that_can_not_be_used_is_told_of_and_the_rest_goes_on():
    found = taken(
        statement(products=("https://example.com/x",)),
        statement("maybe"),
        statement(justification=None),
        statement(vulnerability=None),
        "nonsense",
        statement(),
    )
    assert [each.partition(":")[0] for each in found.skipped] == [f"statement {number}" for number in range(1, 6)]
    assert len(found.suppressions) == 1


@pytest.mark.parametrize("document", [[], {}, {"@context": "https://openvex.dev/ns"}, vex(statements=5)])
def test_what_is_no_openvex_is_refused(document):
    with pytest.raises(BadSuppression):
        openvex.read(document, "000000000000", "us-east-1", "me", 5.0)
