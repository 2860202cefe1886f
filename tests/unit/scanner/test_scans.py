"""When a scan is due or may be asked for, pages of findings, gates as they are set."""

import msgspec
import pytest
from msgspec.structs import replace

from contracts.records.registry import Descriptor, Image
from contracts.records.scanner import ImageScan
from contracts.rpc.scanner import Finding
from services.scanner.decisions import gates, scans

WHERE = {"account": "000000000000", "region": "us-east-1", "repository": "shop", "digest": "sha256:a"}
IMAGE = Image(**WHERE, media_type="m", manifest_size=1, pushed_at=100.0, config=Descriptor(digest="d", size=1))
SCAN = ImageScan(**WHERE, status="COMPLETE", requested_at=150.0, advisories="v1")


def test_a_push_asks_for_a_scan_once():
    first = scans.requested(IMAGE, None, 101.0)
    assert (first.status, first.started_by, first.requested_at) == ("IN_PROGRESS", "PUSH", 101.0)
    assert scans.requested(IMAGE, first, 200.0) is None
    assert scans.requested(replace(IMAGE, pushed_at=160.0), SCAN, 161.0).requested_at == 161.0


def test_a_clock_that_went_back_does_not_scan_for_ever():
    assert scans.requested(IMAGE, scans.requested(IMAGE, None, 50.0), 51.0) is None


def test_a_scan_that_runs_is_not_asked_for_again():
    assert scans.asked_for(IMAGE, scans.requested(IMAGE, None, 101.0), 102.0) is None
    assert scans.asked_for(IMAGE, SCAN, 200.0).started_by == "API"


@pytest.mark.parametrize(
    ("scan", "now", "on_push", "advisories", "over"),
    [
        (None, 200.0, True, "v1", False),
        (SCAN, 200.0, False, "v1", False),
        (SCAN, 200.0, True, "v1", True),
        (replace(SCAN, started_by="API"), 200.0, False, "v1", True),
        (replace(SCAN, started_by="API"), 200.0, False, "v2", False),
        (replace(SCAN, started_by="API"), 150.0 + 24 * 3600, False, "v1", False),
        (replace(SCAN, started_by="API", status="FAILED"), 200.0, False, "v1", False),
    ],
)
def test_the_quota_is_one_scan_a_day_that_somebody_asked_for(scan, now, on_push, advisories, over):
    assert scans.over_quota(scan, now, on_push=on_push, advisories=advisories) is over


def test_what_is_due():
    assert scans.is_due(replace(SCAN, status="IN_PROGRESS"))
    assert scans.is_due(SCAN)  # from before bills of materials were kept
    assert not scans.is_due(replace(SCAN, contents="b"))
    assert not scans.is_due(replace(SCAN, status="FAILED"))


RULES = [
    {"scanFrequency": "CONTINUOUS_SCAN", "repositoryFilters": [{"filter": "shop*", "filterType": "WILDCARD"}]},
    {"scanFrequency": "SCAN_ON_PUSH", "repositoryFilters": [{"filter": "lab*", "filterType": "WILDCARD"}]},
]


@pytest.mark.parametrize(
    ("scanning", "repository", "gated", "pushed", "again"),
    [
        ({}, "other", False, True, True),
        ({"scanType": "BASIC", "rules": []}, "other", False, True, True),
        ({"scanType": "ENHANCED", "rules": RULES}, "shop", False, True, True),
        ({"scanType": "ENHANCED", "rules": RULES}, "lab", False, True, False),
        ({"scanType": "ENHANCED", "rules": RULES}, "other", False, False, False),
        ({"scanType": "ENHANCED", "rules": RULES}, "other", True, True, True),
        ({"scanType": "ENHANCED", "rules": RULES}, "lab", True, True, True),
    ],
)
def test_settings_and_gates_say_what_is_scanned_and_what_is_matched_again(scanning, repository, gated, pushed, again):
    assert scans.scanned_when_pushed(scanning, repository, gated=gated) is pushed
    assert scans.matched_again(scanning, repository, gated=gated) is again


def test_a_scan_whose_bill_is_lost_is_asked_for_unless_it_has_another_by_now():
    change = scans.lost("b", 200.0)
    assert change(replace(SCAN, contents="b")).status == "IN_PROGRESS"
    other = replace(SCAN, contents="c")
    assert change(other) is other


FOUND = [
    Finding(name=f"CVE-{n}", severity=severity, package="p", version="1", ecosystem="npm")
    for severity in ("CRITICAL", "LOW", "UNDEFINED")
    for n in (1, 2)
]


@pytest.mark.parametrize("size", [1, 2, 4, 6, 100])
def test_pages_tell_everything_once(size):
    told, token = [], ""
    while True:
        taken, token = scans.page(FOUND, size, token)
        told += taken
        assert len(taken) <= size
        if not token:
            break
    assert told == FOUND


def test_a_page_fits_into_a_message():
    large = [replace(f, description="x" * 300_000) for f in FOUND]
    taken, token = scans.page(large, 1000, "")
    assert len(msgspec.json.encode(taken)) < 1_000_000
    assert len(scans.page(large, 1000, token)[0]) > 0


def test_a_page_of_whole_vulnerabilities_divides_none():
    found = [replace(FOUND[0], package=name) for name in "abc"] + [replace(f, package="z") for f in FOUND[1:]]
    first, token = scans.page(found, 1, "", whole=True)
    assert [(f.name, f.package) for f in first] == [("CVE-1", "a"), ("CVE-1", "b"), ("CVE-1", "c")]
    rest, token = scans.page(found, 100, token, whole=True)
    assert (first + rest, token) == (found, "")


@pytest.mark.parametrize("token", ["!", "e30=", "bm90IGpzb24="])
def test_a_token_that_was_not_given_out_is_refused(token):
    with pytest.raises(scans.BadToken):
        scans.page(FOUND, 1, token)


def test_a_gate_has_defaults():
    gate = gates.read(b"{}", 5.0)
    assert (gate.account, gate.region, gate.scope, gate.severity) == ("000000000000", "us-east-1", "*", "CRITICAL")
    assert gates.read(b'{"scope": "repository/team/shop"}', 5.0).scope == "repository/team/shop"


@pytest.mark.parametrize(
    ("body", "member"),
    [
        (b"[]", "Expected `object`"),
        (b'{"severity": "awful"}', "severity"),
        (b'{"account": "7"}', "account"),
        (b'{"region": "moon"}', "region"),
        (b'{"scope": "tag/x"}', "scope"),
        (b'{"fixable": true}', "fixable"),
    ],
)
def test_what_is_no_gate_is_refused_by_member(body, member):
    with pytest.raises(gates.BadGate, match=member):
        gates.read(body, 5.0)


def test_bills_of_materials_are_put_for_what_was_found_last():
    scanned = replace(SCAN, contents="c1")
    assert scans.is_undocumented(scanned)
    assert not scans.is_undocumented(SCAN)
    assert not scans.is_undocumented(replace(scanned, status="IN_PROGRESS"))
    told = scans.stored(scanned, "c1", {"spdx": "sha256:b"})
    assert (told.boms, told.boms_of, scans.is_undocumented(told)) == ({"spdx": "sha256:b"}, "c1", False)
    assert scans.stored(replace(scanned, contents="c2"), "c1", {}).boms_of == ""
    assert scans.stored(None, "c1", {}) is None


def test_a_new_scan_puts_them_again_and_knows_which_there_are():
    told = replace(SCAN, contents="c1", boms={"spdx": "sha256:b"}, boms_of="c1")
    for new in (scans.asked_for(IMAGE, told, 200.0), scans.requested(replace(IMAGE, pushed_at=160.0), told, 161.0)):
        assert (new.boms, new.boms_of) == ({"spdx": "sha256:b"}, "")
