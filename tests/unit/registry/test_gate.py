"""Whether an image may run, by gate and scan; and which settings have it scanned."""

import pytest
from msgspec.structs import replace

from contracts.records.registry import Descriptor, Image, scan_frequency
from contracts.records.scanner import GateOverride, ImageScan, ScanGate
from services.registry.decisions.gate import Verdict, is_overridden, judge, judge_all, judged
from services.registry.decisions.scanning import BadRules, check_rules, scans_on_push

ACCOUNT = {"account": "000000000000", "region": "us-east-1"}
LAYER = Descriptor(digest="sha256:l", size=1, media_type="application/vnd.oci.image.layer.v1.tar+gzip")
CONFIG = Descriptor(digest="sha256:c", size=1, media_type="application/vnd.oci.image.config.v1+json")
GATE = ScanGate(**ACCOUNT, scope="*", severity="HIGH")


def image(digest, **members):
    told = {"config": CONFIG, "layers": [LAYER], **members}
    return Image(**ACCOUNT, repository="shop", digest=digest, media_type="m", manifest_size=1, pushed_at=1.0, **told)


def index(digest, *children):
    found = [Descriptor(digest=child, size=1) for child in children]
    return image(digest, config=None, layers=[], manifests=found)


A = image("sha256:a")
SCAN = ImageScan(
    **ACCOUNT, repository="shop", digest="sha256:a", status="COMPLETE", requested_at=1.0, advisories="v1",
    counts={"CRITICAL": 2, "HIGH": 1, "LOW": 9}, fixable={"HIGH": 1},
    named={"CRITICAL": ["CVE-1", "CVE-2"], "HIGH": ["CVE-3"]},
)  # fmt: skip


def test_without_a_gate_everything_runs():
    assert judge_all([], [(A, None)]) == Verdict()


def test_all_gates_must_be_passed_and_the_refusal_names_the_one():
    cluster = replace(GATE, scope="cluster/prod", severity="LOW")
    low = replace(SCAN, counts={"LOW": 1}, named={"LOW": ["CVE-9"]})
    assert judge_all([GATE, cluster], [(A, low)]) == Verdict(
        "refused by the scan gate of cluster prod: 1 LOW finding (CVE-9)", found=True
    )
    assert judge_all([GATE, cluster], [(A, replace(low, counts={}))]) == Verdict()
    assert judge_all([GATE], [(A, SCAN)]).why.startswith("refused by the scan gate of every repository: 2 CRITICAL")


def test_what_was_found_goes_before_what_another_gate_waits_for():
    other = image("sha256:b")
    unscanned = judge_all([GATE, replace(GATE, scope="cluster/prod")], [(other, None)])
    assert (unscanned.wait, unscanned.found, unscanned.unscanned) == (True, False, ("sha256:b",))


def test_an_override_holds_until_it_ends():
    override = GateOverride(**ACCOUNT, repository="shop", digest="sha256:a", reason="r", by="me", at=1.0, until=10.0)
    assert not is_overridden(None, 5.0)
    assert [is_overridden(override, now) for now in (9.9, 10.0)] == [True, False]
    assert is_overridden(replace(override, until=0.0), 1e9)


def test_findings_at_or_above_the_gate_are_told():
    assert judge(GATE, [(A, SCAN)]).why == "2 CRITICAL findings (CVE-1, CVE-2); 1 HIGH finding (CVE-3)"
    assert judge(replace(GATE, severity="CRITICAL"), [(A, SCAN)]).why == "2 CRITICAL findings (CVE-1, CVE-2)"
    many = replace(SCAN, counts={"HIGH": 7}, named={"HIGH": ["CVE-3"]})
    assert judge(GATE, [(A, many)]).why == "7 HIGH findings (CVE-3, …)"


def test_findings_below_the_gate_are_let_through():
    assert judge(GATE, [(A, replace(SCAN, counts={"LOW": 9}))]) == Verdict()


def test_fixable_only():
    assert judge(replace(GATE, fixable_only=True), [(A, SCAN)]).why == "1 HIGH finding (CVE-3)"


@pytest.mark.parametrize(
    ("scan", "words", "wait"),
    [
        (None, "is not scanned yet", True),
        (replace(SCAN, status="IN_PROGRESS"), "is not scanned yet", True),
        (replace(SCAN, status="FAILED", description="no tar"), "could not be scanned: no tar", False),
        (replace(SCAN, status="UNSUPPORTED_IMAGE"), "could not be scanned", False),
        (replace(SCAN, counts={}, advisories=""), "without advisories", True),
    ],
)
def test_what_is_not_known_is_not_let_through(scan, words, wait):
    verdict = judge(GATE, [(A, scan)])
    assert (words in verdict.why, verdict.wait) == (True, wait)


def test_who_was_never_scanned_is_named():
    assert judge(GATE, [(A, None), (image("sha256:b"), replace(SCAN, status="IN_PROGRESS"))]).unscanned == ("sha256:a",)


def test_what_was_found_goes_before_what_is_not_known_yet():
    verdict = judge(GATE, [(image("sha256:b"), None), (A, SCAN)])
    assert ("CRITICAL" in verdict.why, verdict.wait) == (True, False)


def test_an_index_is_judged_by_all_that_may_run_of_it():
    attestation = image("sha256:t", layers=[replace(LAYER, media_type="application/vnd.in-toto+json")])
    nested = index("sha256:n", "sha256:b")
    known = {i.digest: i for i in (A, image("sha256:b"), attestation, nested)}
    whole = index("sha256:i", "sha256:a", "sha256:t", "sha256:n", "sha256:gone")
    assert [i.digest for i in judged(whole, known.get)] == ["sha256:a", "sha256:b"]


def test_an_index_of_itself_ends():
    loop = index("sha256:i", "sha256:i")
    assert judge(GATE, [(i, None) for i in judged(loop, {"sha256:i": loop}.get)]).why.endswith("can be scanned")


def test_an_artifact_is_no_image_to_run():
    artifact = image("sha256:x", config=replace(CONFIG, media_type="application/vnd.cncf.helm.config.v1+json"))
    assert judge(GATE, [(artifact, SCAN)]).why == "sha256:x is no image that can be scanned"


def rule(frequency, *filters):
    return {"scanFrequency": frequency, "repositoryFilters": [{"filter": f, "filterType": "WILDCARD"} for f in filters]}


def test_rules_of_the_registry_go_before_a_repositorys_setting():
    rules = [rule("SCAN_ON_PUSH", "prod/*", "shop")]
    assert scan_frequency(rules, "prod/a")[0] == "SCAN_ON_PUSH"
    assert scan_frequency(rules, "my-shop")[1] == [{"filter": "shop", "filterType": "WILDCARD"}]
    assert scan_frequency(rules, "test/a") == ("MANUAL", [])
    assert not scans_on_push(rules, {}, "test/a")
    assert scans_on_push(rules, {"imageScanningConfiguration": {"scanOnPush": True}}, "test/a")


@pytest.mark.parametrize("rules", [[rule("CONTINUOUS_SCAN", "*")], [rule("MANUAL", "a"), rule("MANUAL", "b")]])
def test_rules_that_basic_scanning_can_not_do_are_refused(rules):
    with pytest.raises(BadRules):
        check_rules("BASIC", rules)
