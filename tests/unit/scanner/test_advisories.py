"""OSV records read and evaluated, severities, and what comes of both for an image."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scanner.decisions.ecosystems import ecosystems
from services.scanner.decisions.layers import Contents, Installed
from services.scanner.decisions.matching import (
    Known,
    Matched,
    all_questions,
    difference,
    match,
    match_again,
    remembering,
    summary,
    tally,
    unjudged,
)
from services.scanner.decisions.osv import Affected, BadAdvisory, advisory, judge, packed, unpacked
from services.scanner.decisions.packages import Package
from services.scanner.decisions.severities import of_advisory, of_cvss, of_score, scored, scores
from services.scanner.decisions.versions import COMPARE
from tests.builders.scanner import CRITICAL, MEDIUM, RECORDS

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
    assert advisory(record(withdrawn="2024-01-01T00:00:00Z")).affected == []
    git = {"package": {"ecosystem": "npm", "name": "x"}, "ranges": [{"type": "GIT", "events": [{"introduced": "0"}]}]}
    assert advisory(record(affected=[git])).affected == []


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


# Scores as FIRST's calculators give them.
@pytest.mark.parametrize(
    ("kind", "vector", "score"),
    [
        (3, CRITICAL, 9.8),
        (3, "CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", 6.1),
        (3, "CVSS:3.0/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H", 10.0),
        (3, "CVSS:3.1/AV:L/AC:H/PR:H/UI:R/S:U/C:N/I:N/A:L", 1.8),
        (3, "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N", 0.0),
        (2, "AV:N/AC:L/Au:N/C:C/I:C/A:C", 10.0),
        (2, "AV:N/AC:M/Au:N/C:N/I:P/A:N", 4.3),
        (4, "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N", 9.3),
        (4, "CVSS:4.0/AV:L/AC:L/AT:N/PR:L/UI:N/VC:L/VI:N/VA:N/SC:N/SI:N/SA:N", 4.8),
    ],
)
def test_cvss_scores(kind, vector, score):
    assert scored(kind, vector).base == score


@pytest.mark.parametrize("kind", [2, 3, 4])
@pytest.mark.parametrize("vector", ["", "nonsense", "CVSS:3.1/AV:N", "CVSS:4.0/AV:X", "AV:N/AC:L", "é" * 5000])
def test_what_is_no_vector_is_refused(kind, vector):
    with pytest.raises(ValueError, match="is no CVSS"):
        scored(kind, vector)


V2, V4 = "AV:N/AC:L/Au:N/C:C/I:C/A:C", "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"


def test_cvss_3_goes_before_4_and_2_comes_last():
    told = [{"type": "CVSS_V2", "score": V2}, {"type": "CVSS_V4", "score": V4}, {"type": "CVSS_V3", "score": MEDIUM}]
    assert of_advisory({"severity": told}) == ("MEDIUM", 6.1, MEDIUM)
    assert [each.version for each in scores({"severity": told})] == ["3.1", "4.0", "2.0"]
    assert of_advisory({"severity": told[:2]}) == ("CRITICAL", 9.3, V4)
    assert of_advisory({"severity": told[:1]}) == ("HIGH", 10.0, V2)
    assert of_advisory({"affected": [{"severity": told[1:2]}]}) == ("CRITICAL", 9.3, V4)


def test_version_2_knows_no_critical():
    assert of_cvss(scored(2, V2)) == "HIGH"


def test_the_words_of_an_advisory_are_kept_small():
    told = record(
        aliases=["CVE-1", "GHSA-1"],
        details="much  to\nsay " * 1000,
        references=[{"type": "WEB", "url": f"https://example.com/{n}"} for n in range(50)] + [7, {"url": None}],
        published="2024-01-01T00:00:00Z",
    )
    detail = advisory(told).detail
    assert unpacked(packed(detail)) == detail
    assert (len(detail.summary), len(detail.references), detail.aliases) == (600, 20, ["X-1", "CVE-1", "GHSA-1"])


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
        ("golang", {}, ["Go"]),
        ("maven", {}, ["Maven"]),
        ("gem", {}, ["RubyGems"]),
        ("cargo", {}, ["crates.io"]),
        ("apk", {"ID": "wolfi", "VERSION_ID": "20230201"}, ["Wolfi"]),
        ("rpm", {"ID": "rocky", "VERSION_ID": "9.3"}, ["Rocky Linux:9"]),
        ("rpm", {"ID": "almalinux", "VERSION_ID": "8.10"}, ["AlmaLinux:8"]),
        ("rpm", {"ID": "sles", "VERSION_ID": "15.5"}, ["SUSE:Linux Enterprise Server 15 SP5"]),
        ("rpm", {"ID": "opensuse-leap", "VERSION_ID": "15.6"}, ["openSUSE:Leap 15.6"]),
        ("rpm", {"ID": "fedora", "VERSION_ID": "40"}, []),
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
                    for name in each.names:
                        rating = (each.severity, each.score, each.vector)
                        yield Known(each.id, name, *rating, told, lambda each=each: each.detail)

    return lookup


def found_in(packages, release, records):
    return match(Contents(packages, release), remembering(lookup_in(records)))


DEBIAN12 = {"ID": "debian", "VERSION_ID": "12"}


def test_red_hat_is_asked_by_its_repositories():
    asked = ecosystems("rpm", {"ID": "rhel", "VERSION_ID": "9.4"})
    assert {"Red Hat:enterprise_linux:9::baseos", "Red Hat:enterprise_linux:9::appstream"} <= set(asked)


def test_distributions_are_asked_by_source_and_its_version():
    package = installed("deb", "libssl3", "3.0.9-1+b1", "openssl", "3.0.9-1")
    found, odd = found_in([package], DEBIAN12, RECORDS)
    assert [(f["name"], f["package"], f["version"], f["fixed"], f["source"], f["layer"]) for f in found] == [
        ("CVE-2023-0001", "libssl3", "3.0.9-1+b1", "3.0.10-1", "openssl", "sha256:a")
    ]
    assert odd == []


def test_rpm_is_asked_by_package_and_by_what_it_was_built_of():
    release = {"ID": "rocky", "VERSION_ID": "9.3"}
    package = installed("rpm", "openssl-libs", "1:3.0.7-24.el9", "openssl", "1:3.0.7-24.el9")
    range_ = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1:3.0.7-27.el9"}]}]

    def of(name, id_):
        told = [{"package": {"ecosystem": "Rocky Linux:9", "name": name}, "ranges": range_}]
        return record(id=id_, affected=told)

    found, _ = found_in(
        [package], release, [of("openssl", "RLSA-1"), of("openssl-libs", "RLSA-2"), of("zlib", "RLSA-3")]
    )
    assert [(f["name"], f["fixed"]) for f in found] == [("RLSA-1", "1:3.0.7-27.el9"), ("RLSA-2", "1:3.0.7-27.el9")]


def test_two_advisories_on_one_cve_are_one_finding_with_the_worse_severity_the_fix_and_all_names():
    one, other = record(id="A", aliases=["CVE-1", "GHSA-1"]), record(id="B", aliases=["CVE-1"], summary="words")
    one["severity"] = [{"type": "CVSS_V3", "score": CRITICAL}]
    other["affected"][0]["ranges"][0]["events"].append({"fixed": "2.0.0"})
    found, _ = found_in([installed("npm", "x", "1.0.0")], {}, [one, other])
    assert [(f["name"], f["severity"], f["fixed"], f["description"], f["aliases"]) for f in found] == [
        ("CVE-1", "CRITICAL", "2.0.0", "words", ["A", "GHSA-1", "B"])
    ]


def test_a_version_that_can_not_be_compared_is_counted_and_hides_nothing():
    strange = installed("npm", "x", "not a version")
    range_ = [{"type": "SEMVER", "events": [{"introduced": "1.0.0"}]}]
    told = [{"package": {"ecosystem": "npm", "name": "x"}, "ranges": range_}]
    found, odd = found_in([strange], {}, [record(affected=told), record(id="X-2")])
    assert ([f["name"] for f in found], odd) == (["X-2"], [["x", "not a version", "p"]])


def npm(name, version, path="p"):
    return installed("npm", name, version, path=path)


versions = st.integers(0, 5).map(lambda n: f"{n}.0.0")
records = st.lists(
    st.builds(
        lambda name, low, high, id_: record(
            id=f"X-{id_}",
            affected=[
                {
                    "package": {"ecosystem": "npm", "name": name},
                    "ranges": [{"type": "SEMVER", "events": [{"fixed": high}, {"introduced": low}]}],
                }
            ],
        ),
        st.sampled_from("abc"),
        versions,
        versions,
        st.integers(0, 3),
    ),
    max_size=6,
)


@given(records, records, st.lists(st.builds(npm, st.sampled_from("abc"), versions), max_size=5, unique=True))
def test_matching_what_was_touched_again_comes_to_the_same_as_matching_all(before, after, packages):
    contents = Contents(packages, {})
    old = match(contents, remembering(lookup_in(before)))
    touched = {told["package"]["name"] for each in [*before, *after] for told in each["affected"]}
    asked = [(place, question) for place, question in all_questions(contents) if question.name in touched]
    assert match_again(old, asked, remembering(lookup_in(after))) == match(contents, remembering(lookup_in(after)))


def test_what_is_new_and_what_is_gone_is_told():
    one, other = ({"name": n, "package": "p", "version": "1", "path": ""} for n in ("CVE-1", "CVE-2"))
    assert difference([one], [one, other]) == ([other], [])
    assert difference([one, other], [other]) == ([], [one])


def test_a_summary_counts_and_names_fixable_findings_first():
    told = [{"severity": "HIGH", "name": f"CVE-{n}", "fixed": "1" if n == 7 else ""} for n in range(8)]
    told[3]["exploited"] = "2024-01-01"
    assert summary(told) == {
        "counts": {"HIGH": 8},
        "fixable": {"HIGH": 1},
        "named": {"HIGH": ["CVE-7", "CVE-0", "CVE-1", "CVE-2", "CVE-3"]},
        "exploited": 1,
    }


def test_what_was_not_judged_is_said():
    contents = Contents([installed("deb", "a", "1"), installed("npm", "x", "1")], DEBIAN12, unread=2)
    assert unjudged(tally(contents), {"npm"}.__contains__, 1) == (
        "no advisories for Debian:12 (1 packages not judged); 2 files of packages are hard links and were not read; "
        "1 packages have versions that can't be compared"
    )
    assert unjudged(tally(Contents(contents.packages[1:], {})), {"npm"}.__contains__, 0) == ""


def test_nothing_comes_of_nothing():
    assert match(Contents([], {}), remembering(lookup_in(RECORDS))) == Matched([], [])
