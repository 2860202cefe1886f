"""What a scan found, told to people and to machines."""

import json

import pytest

from services.cli.findings import counts, failing, sarif, table

DIGEST = "sha256:" + "a" * 64


def finding(name="CVE-1", severity="CRITICAL", **members):
    told = {
        "name": name, "severity": severity, "package": "libssl3", "version": "3.0.9-1", "fixed": "3.0.10-1",
        "description": "", "uri": "", "path": "var/lib/dpkg/status", "layer": "sha256:b", "suppressed": "",
        "score": 0.0,
    }  # fmt: skip
    return {**told, **members}


def problem(rule="private-key", severity="CRITICAL", **members):
    told = {"rule": rule, "title": "Private key", "severity": severity, "path": "app/a.key", "line": 3}
    return {**told, "shown": "BEGIN PRIVATE KEY", "layer": "sha256:b", **members}


def image(*findings, problems=(), **members):
    told = {"repository": "shop", "digest": DIGEST, "error": "", "description": "done.", "packages": 4}
    return {**told, "findings": list(findings), "problems": list(problems), **members}


@pytest.mark.parametrize(
    ("found", "options", "fails"),
    [
        (finding(), {}, 1),
        (finding(severity="HIGH"), {}, 1),
        (finding(severity="MEDIUM"), {}, 0),
        (finding(fixed=""), {}, 1),
        (finding(fixed=""), {"fixable_only": True}, 0),
        (finding(suppressed="why"), {}, 0),
    ],
)
def test_what_fails_a_pipeline(found, options, fails):
    assert len(failing([image(found)], "HIGH", **{"fixable_only": False, **options})) == fails


def test_secrets_fail_it_only_when_they_are_asked_for():
    images = [image(problems=[problem(), problem("runs-as-root", "MEDIUM")])]
    assert failing(images, "HIGH", fixable_only=True) == []
    assert [each["rule"] for each in failing(images, "HIGH", fixable_only=True, secrets=True)] == ["private-key"]


def test_counts_tell_the_worst_first():
    assert counts([finding(severity="LOW"), finding(), finding()]) == "2 CRITICAL, 1 LOW"
    assert counts([]) == "no findings"


@pytest.mark.parametrize(("terminal", "width"), [(20, 80), (100, 100), (300, 120)])
def test_a_table_has_room_in_a_terminal(terminal, width):
    long = finding(package="p" * 200, version="v" * 50, fixed="f" * 50)
    shown = table([image(long, finding("CVE-2", suppressed="r" * 200), problems=[problem(path="d/" * 99)])], terminal)
    assert max(map(len, shown.splitlines())) == width
    assert {"CVE-1", "CVE-2", "…"} <= set(shown.replace("…", " … ").split())


def test_a_table_says_what_was_not_judged_and_what_could_not_be_scanned():
    told = table(
        [image(description="The scan was completed successfully; no advisories for x"), image(error="no tar")], 80
    )
    assert "Not judged: no advisories for x" in told
    assert "could not be scanned: no tar" in told


def test_sarif_has_what_its_schema_requires():
    """Required members and enumerations of sarif-schema-2.1.0.json, for what is written."""
    found = [
        finding(score=9.8, uri="https://x"),
        finding("CVE-2", "LOW", suppressed="not called"),
        finding("CVE-2", "LOW"),
    ]
    told = json.loads(sarif([image(*found, problems=[problem()]), image(error="no tar")], "0.1.0"))
    assert (told["version"], told["$schema"].endswith("/sarif-schema-2.1.0.json")) == ("2.1.0", True)
    (run,) = told["runs"]
    driver = run["tool"]["driver"]
    assert (driver["name"], run["invocations"][0]["executionSuccessful"]) == ("Roadstead", False)
    assert [rule["id"] for rule in driver["rules"]] == ["CVE-1", "CVE-2", "private-key"]
    assert driver["rules"][0]["properties"]["security-severity"] == "9.8"
    assert all(rule["shortDescription"]["text"] for rule in driver["rules"])
    for result in run["results"]:
        assert result["message"]["text"]
        assert result["level"] in ("none", "note", "warning", "error")
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        for location in result["locations"]:
            assert not location["physicalLocation"]["artifactLocation"]["uri"].startswith("/")
            assert location["physicalLocation"]["region"]["startLine"] >= 1
    assert [result.get("suppressions") for result in run["results"]] == [
        None, [{"kind": "external", "justification": "not called"}], None, None,
    ]  # fmt: skip
    prints = [result["partialFingerprints"]["finding/v1"] for result in run["results"]]
    assert prints[0] == "CVE-1/libssl3/3.0.9-1/var/lib/dpkg/status"
