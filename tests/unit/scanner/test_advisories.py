"""OSV records read and evaluated, severities, and what comes of both for an image."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scanner.decisions.layers import Contents, Installed
from services.scanner.decisions.matching import Known, ecosystems, findings, summary, unjudged
from services.scanner.decisions.osv import Affected, BadAdvisory, advisory, judge
from services.scanner.decisions.packages import Package
from services.scanner.decisions.severities import cvss3, of_advisory, of_score
from services.scanner.decisions.versions import COMPARE
from tests.builders.scanner import CRITICAL, RECORDS

NPM = COMPARE["npm"]


def affected(*events, versions=()):
    return Affected("npm", "x", [list(events)] if events else [], list(versions))


def record(**members):
    told = {
        "package": {"ecosystem": "npm", "name": "x"},
        "ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}]}],
    }
    return {"id": "X-1", "affected": [told], **members}


@pytest.mark.parametrize(
    ("version", "fixed"),
    [("0.9.0", None), ("1.0.0", "1.5.0"), ("1.4.9", "1.5.0"), ("1.5.0", None), ("2.0.0", "2.1.0"), ("2.1.0", None)],
)
def test_a_version_is_affected_from_introduced_to_fixed(version, fixed):
    events = [("introduced", "1.0.0"), ("fixed", "1.5.0"), ("introduced", "2.0.0"), ("fixed", "2.1.0")]
    for seed in range(5):  # they come in any order
        shuffled = random.Random(seed).sample(events, len(events))
        assert judge(version, affected(*shuffled), NPM) == fixed


def test_last_affected_is_affected_and_has_no_fix():
    told = affected(("introduced", "0"), ("last_affected", "1.5.1"))
    assert [judge(v, told, NPM) for v in ("1.5.1", "1.5.2")] == ["", None]
    assert judge("1.0.0", affected(("introduced", "1.0.0"), ("last_affected", "1.0.0")), NPM) == ""


def test_a_fix_behind_a_last_affected_is_told():
    told = affected(("introduced", "0"), ("last_affected", "1.0.0"), ("introduced", "2.0.0"), ("fixed", "2.2.0"))
    assert judge("0.5.0", told, NPM) == "2.2.0"


def test_named_versions_are_affected():
    assert [judge(v, affected(versions=["1.0"]), NPM) for v in ("1.0", "1.1")] == ["", None]


@given(st.integers(0, 30), st.lists(st.integers(1, 30), min_size=2, max_size=8, unique=True).map(sorted))
def test_intervals_hold_whatever_the_order(version, bounds):
    bounds = bounds[: len(bounds) // 2 * 2]
    pairs = list(zip(bounds[::2], bounds[1::2], strict=True))
    events = [e for low, high in pairs for e in (("fixed", f"{high}.0.0"), ("introduced", f"{low}.0.0"))]
    inside = any(low <= version < high for low, high in pairs)
    assert (judge(f"{version}.0.0", affected(*events), NPM) is not None) == inside


def test_cves_name_a_finding_else_the_advisory_itself():
    assert advisory(record(aliases=["GHSA-1", "CVE-2"], upstream=["CVE-3", "CVE-2"])).names == ["CVE-2", "CVE-3"]
    assert advisory(record(id="CVE-9", aliases=["CVE-2"])).names == ["CVE-9", "CVE-2"]
    assert advisory(record(aliases=["GHSA-1"])).names == ["X-1"]


def test_git_ranges_and_withdrawn_advisories_say_nothing():
    assert advisory(record(withdrawn="2024-01-01T00:00:00Z")) is None
    git = {"package": {"ecosystem": "npm", "name": "x"}, "ranges": [{"type": "GIT", "events": [{"introduced": "0"}]}]}
    assert advisory(record(affected=[git])) is None


def test_lists_of_versions_are_kept_only_where_there_is_no_range():
    told = record()["affected"][0]
    assert advisory(record(affected=[{**told, "versions": ["1"]}])).affected[0].versions == []
    assert advisory(record(affected=[{**told, "ranges": [], "versions": ["1"]}])).affected[0].versions == ["1"]


def test_python_names_are_normalised():
    told = {**record()["affected"][0], "package": {"ecosystem": "PyPI", "name": "Foo.Bar"}}
    assert advisory(record(affected=[told])).affected[0].package == "foo-bar"


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ([], "no id"),
        ({"id": ""}, "no id"),
        (record(affected={}), "no list"),
        (record(affected=[{"package": {"name": "x"}}]), "without ecosystem"),
        (record(affected=[{**record()["affected"][0], "ranges": [{"type": "SEMVER"}]}]), "without events"),
        (record(affected=[{**record()["affected"][0], "ranges": [{"type": "SEMVER", "events": []}]}]), "introduced"),
    ],
)
def test_what_is_no_advisory_is_told_of(bad, why):
    with pytest.raises(BadAdvisory, match=why):
        advisory(bad)


# Scores as FIRST's calculator gives them.
@pytest.mark.parametrize(
    ("vector", "score"),
    [
        (CRITICAL, 9.8),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", 6.1),
        ("CVSS:3.0/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H", 10.0),
        ("CVSS:3.1/AV:L/AC:H/PR:H/UI:R/S:U/C:N/I:N/A:L", 1.8),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N", 0.0),
        ("CVSS:3.1/AV:N/AC:L/PR:L/UI:N/S:U/C:H/I:N/A:N", 6.5),
    ],
)
def test_cvss_scores(vector, score):
    assert cvss3(vector) == score


@pytest.mark.parametrize(
    ("score", "severity"),
    [(10.0, "CRITICAL"), (9.0, "CRITICAL"), (8.9, "HIGH"), (6.9, "MEDIUM"), (0.1, "LOW"), (0.0, "INFORMATIONAL")],
)
def test_scores_have_ecrs_names(score, severity):
    assert of_score(score) == severity


def test_a_severity_is_taken_from_where_there_is_one():
    assert of_advisory({"severity": [{"type": "CVSS_V3", "score": CRITICAL}]})[:2] == ("CRITICAL", 9.8)
    assert of_advisory({"severity": [{"type": "CVSS_V3", "score": "nonsense"}]}) == ("UNDEFINED", 0.0, "")
    assert of_advisory({"database_specific": {"severity": "MODERATE"}})[0] == "MEDIUM"
    assert of_advisory({"affected": [{"ecosystem_specific": {"urgency": "unimportant"}}]})[0] == "INFORMATIONAL"
    assert of_advisory({"severity": "?", "database_specific": 7, "affected": [7]}) == ("UNDEFINED", 0.0, "")


@pytest.mark.parametrize(
    ("kind", "release", "found"),
    [
        ("deb", {"ID": "debian", "VERSION_ID": "12"}, ["Debian:12"]),
        ("deb", {"ID": "ubuntu", "VERSION_ID": "22.04"}, ["Ubuntu:22.04", "Ubuntu:22.04:LTS"]),
        ("deb", {"ID": "debian"}, []),
        ("apk", {"ID": "alpine", "VERSION_ID": "3.19.1"}, ["Alpine:v3.19"]),
        ("apk", {"ID": "alpine", "VERSION_ID": "3.21.0_alpha20240807"}, ["Alpine:edge"]),
        ("pypi", {}, ["PyPI"]),
        ("npm", {}, ["npm"]),
    ],
)
def test_which_advisories_are_asked(kind, release, found):
    assert ecosystems(kind, release) == found


def installed(*package, layer="sha256:a", path="p"):
    return Installed(Package(*package), path, layer)


def lookup_in(records):
    read = [advisory(each) for each in records]

    def lookup(ecosystem, package):
        for each in read:
            for told in each.affected:
                if (told.ecosystem, told.package) == (ecosystem, package):
                    yield Known(each.id, each.names, each.severity, each.score, each.vector, each.summary, told)

    return lookup


DEBIAN12 = {"ID": "debian", "VERSION_ID": "12"}


def test_distributions_are_asked_by_source_and_its_version():
    package = installed("deb", "libssl3", "3.0.9-1+b1", "openssl", "3.0.9-1")
    found, odd = findings(Contents([package], DEBIAN12), lookup_in(RECORDS))
    assert [(f["name"], f["package"], f["version"], f["fixed"], f["layer"]) for f in found] == [
        ("CVE-2023-0001", "libssl3", "3.0.9-1+b1", "3.0.10-1", "sha256:a")
    ]
    assert odd == 0


def test_two_advisories_on_one_cve_are_one_finding_with_the_worse_severity_and_the_fix():
    one, other = record(id="A", aliases=["CVE-1"]), record(id="B", aliases=["CVE-1"], summary="words")
    one["severity"] = [{"type": "CVSS_V3", "score": CRITICAL}]
    other["affected"][0]["ranges"][0]["events"].append({"fixed": "2.0.0"})
    found, _ = findings(Contents([installed("npm", "x", "1.0.0")], {}), lookup_in([one, other]))
    assert [(f["name"], f["severity"], f["fixed"], f["description"]) for f in found] == [
        ("CVE-1", "CRITICAL", "2.0.0", "words")
    ]


def test_a_version_that_can_not_be_compared_is_counted_and_hides_nothing():
    strange = installed("npm", "x", "not a version")
    range_ = [{"type": "SEMVER", "events": [{"introduced": "1.0.0"}]}]
    told = [{"package": {"ecosystem": "npm", "name": "x"}, "ranges": range_}]
    found, odd = findings(Contents([strange], {}), lookup_in([record(affected=told), record(id="X-2")]))
    assert ([f["name"] for f in found], odd) == (["X-2"], 1)


def test_a_summary_counts_and_names_fixable_findings_first():
    told = [{"severity": "HIGH", "name": f"CVE-{n}", "fixed": "1" if n == 7 else ""} for n in range(8)]
    assert summary(told) == {
        "counts": {"HIGH": 8},
        "fixable": {"HIGH": 1},
        "named": {"HIGH": ["CVE-7", "CVE-0", "CVE-1", "CVE-2", "CVE-3"]},
    }


def test_what_was_not_judged_is_said():
    contents = Contents([installed("deb", "a", "1"), installed("npm", "x", "1")], DEBIAN12, unread=2)
    assert unjudged(contents, {"npm"}.__contains__, 1) == (
        "no advisories for Debian:12 (1 packages not judged); 2 files of packages are hard links and were not read; "
        "1 packages have versions that can't be compared"
    )
    assert unjudged(Contents(contents.packages[1:], {}), {"npm"}.__contains__, 0) == ""
