"""Advisories that change while images lie there: what they touch is matched again, out of what is known of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from contracts.records.events import AwsEvent
from contracts.records.registry import REGISTRY_SETTINGS
from contracts.records.scanner import IMAGE_SCAN
from contracts.subjects import AWS_EVENTS_STREAM, aws_event
from services.scanner.adapters.importing import import_files
from services.scanner.adapters.index import Index
from services.scanner.decisions.scans import documented
from services.shared.tails import Tail
from tests.builders.registry import ACCOUNT, REGION, registry_at
from tests.builders.scanner import RECORDS, advisories, packages, packed_image, scanner_at
from tests.builders.waiting import until
from tests.integration.test_registry_ecr import Boto
from tests.integration.test_scanner_faults import gate, scanner_process

SOON = 30.0
DATA = Path(
    os.environ.get("ROADSTEAD_TEST_ADVISORIES")
    or Path(__file__).resolve().parents[2].parent / "shared" / "data" / "advisories"
)
LEFT_PAD = {
    "id": "NPM-2",
    "aliases": ["CVE-2024-0001"],
    "modified": "2024-02-01T00:00:00Z",
    "published": "2024-01-31T00:00:00Z",
    "summary": "left-pad pads to the left",
    "references": [{"type": "WEB", "url": "https://example.com/left-pad"}],
    "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"}],
    "affected": [
        {
            "package": {"ecosystem": "npm", "name": "left-pad"},
            "ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}, {"fixed": "2.0.0"}]}],
        }
    ],
}


@pytest.fixture
async def registry(nats_platform, tmp_path):
    async with registry_at(nats_platform, tmp_path / "data") as running:
        await running.aws("CreateRepository", repositoryName="shop")
        yield running


@pytest.fixture
async def scanner(registry, nats_platform, tmp_path):
    async with scanner_at(nats_platform, tmp_path / "data") as running:
        yield running


@pytest.fixture
def ecr(registry):
    return Boto(registry.port)


def writes(registry) -> Counter[tuple[str, str]]:
    """Counts the writes from now on that tell of other findings: by image's digest and status."""
    counted: Counter[tuple[str, str]] = Counter()

    def heard(change):
        if change.kind is IMAGE_SCAN and change.new is not None:
            before, now = change.old and change.old.record, change.new.record
            if before is None or (before.report, before.change) != (now.report, now.change):
                counted[now.digest, now.status] += 1

    registry.app.gates._view.listen(heard)
    return counted


def work_of(scanner) -> list[str]:
    """What workers are asked for from now on."""
    asked: list[str] = []
    workers = scanner.app.rematching._workers
    run = workers.run

    async def noted(mode, *arguments, **how):
        asked.append(mode)
        return await run(mode, *arguments, **how)

    workers.run = noted
    return asked


async def scanned(registry, scanner, image, tag):
    assert (await registry.push_image("shop", image, tag)).status == 201
    await until(lambda: scanner.done(image.digest), SOON)
    return image.digest


async def settled(scanner):
    """Everything was held against the advisories of now."""
    await until(lambda: scanner.app.rematching.reached == scanner.app.advisories.current.version, SOON)


async def test_a_new_advisory_is_found_in_what_lies_there_and_no_layer_is_read(registry, scanner, ecr, tmp_path):
    await scanner.import_(advisories(tmp_path / "osv"))
    touched = await scanned(registry, scanner, packed_image(packages()), "1")
    other = await scanned(registry, scanner, packed_image({"/etc/motd": "x"}), "2")
    await settled(scanner)
    before = {scan.digest: scan for scan in scanner.scans()}
    counted, asked = writes(registry), work_of(scanner)
    await scanner.import_(advisories(tmp_path / "more", [LEFT_PAD]))
    await settled(scanner)
    await until(lambda: counted, SOON)
    assert counted == {(touched, "COMPLETE"): 1}
    assert set(asked) == {"import", "meta", "touched", "rematch"}
    after = {scan.digest: scan for scan in scanner.scans()}
    assert documented(after[other], before[other]) == before[other]
    change = after[touched].change
    assert (change.added, change.added_names, change.gone) == ({"HIGH": 1}, ["CVE-2024-0001 left-pad 1.3.0"], {})
    assert after[touched].counts == {"CRITICAL": 1, "HIGH": 1, "MEDIUM": 1, "LOW": 1}
    for tag, names in (("1", {"CVE-2024-0001", "CVE-2023-0001", "CVE-2023-0002", "NPM-1"}), ("2", set())):
        told = await ecr.describe_image_scan_findings(repositoryName="shop", imageId={"imageTag": tag})
        found = told["imageScanFindings"]
        assert {each["name"] for each in found.get("findings", [])} == names
        assert found["vulnerabilitySourceUpdatedAt"].isoformat().startswith("2024-02-01")


async def test_who_listens_hears_of_scans_and_of_findings_that_changed(registry, scanner, nats_platform, tmp_path):
    heard: list[AwsEvent] = []
    tail = Tail(
        await nats_platform.bus("events"),
        AWS_EVENTS_STREAM,
        aws_event(source="aws.ecr"),
        lambda subject, data, sequence: heard.append(msgspec.json.decode(data, type=AwsEvent)),
    )
    await tail.start(1)
    await scanner.import_(advisories(tmp_path / "osv"))
    digest = await scanned(registry, scanner, packed_image(packages()), "1")
    await until(lambda: len(heard) == 1, SOON)
    await scanner.import_(advisories(tmp_path / "more", [LEFT_PAD]))
    await until(lambda: len(heard) == 2, SOON)
    assert [each.detail_type for each in heard] == ["ECR Image Scan"] * 2
    assert heard[1].resources == [f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/shop"]
    assert heard[1].detail == {
        "scan-status": "COMPLETE",
        "repository-name": "shop",
        "finding-severity-counts": {"CRITICAL": 1, "HIGH": 1, "MEDIUM": 1, "LOW": 1},
        "image-digest": digest,
        "image-tags": ["1"],
    }
    assert heard[0].id != heard[1].id


RULES = [
    {"scanFrequency": "CONTINUOUS_SCAN", "repositoryFilters": [{"filter": "shop", "filterType": "WILDCARD"}]},
    {"scanFrequency": "SCAN_ON_PUSH", "repositoryFilters": [{"filter": "lab*", "filterType": "WILDCARD"}]},
]


async def test_enhanced_findings_tell_what_is_known_in_inspectors_shape(registry, scanner, ecr, tmp_path):
    await scanner.import_(advisories(tmp_path / "osv", [*RECORDS, LEFT_PAD]))
    listed = {"vulnerabilities": [{"cveID": "CVE-2024-0001", "dateAdded": "2024-03-04"}]}
    (tmp_path / "kev.json").write_text(json.dumps(listed))
    await scanner.import_(tmp_path / "kev.json")
    answer = await ecr.put_registry_scanning_configuration(scanType="ENHANCED", rules=RULES)
    assert answer["registryScanningConfiguration"]["scanType"] == "ENHANCED"
    image = packed_image(packages())
    await scanned(registry, scanner, image, "1")
    asked = {"repositoryName": "shop", "imageId": {"imageTag": "1"}}
    answer = await ecr.describe_image_scan_findings(**asked)
    assert answer["imageScanStatus"]["status"] == "ACTIVE"
    told = answer["imageScanFindings"]
    assert told["findingSeverityCounts"] == {"CRITICAL": 1, "HIGH": 1, "MEDIUM": 1, "LOW": 1}
    assert "findings" not in told
    finding = told["enhancedFindings"][1]
    (layer,) = [each["digest"] for each in json.loads(image.manifest)["layers"]]
    details = finding["packageVulnerabilityDetails"]
    assert (finding["title"], finding["severity"], finding["score"]) == ("CVE-2024-0001 - left-pad", "HIGH", 7.5)
    assert (finding["exploitAvailable"], finding["fixAvailable"], finding["status"]) == ("YES", "YES", "ACTIVE")
    assert finding["remediation"]["recommendation"]["text"] == "Update left-pad to 2.0.0"
    assert finding["resources"][0]["details"]["awsEcrContainerImage"]["imageHash"] == image.digest
    assert details["cvss"] == [
        {
            "baseScore": 7.5,
            "scoringVector": LEFT_PAD["severity"][0]["score"],
            "source": "npm",
            "version": "3.1",
        }
    ]
    assert (details["referenceUrls"], details["relatedVulnerabilities"]) == (
        ["https://example.com/left-pad"],
        ["NPM-2"],
    )
    assert details["vendorCreatedAt"].isoformat().startswith("2024-01-31")
    assert details["vulnerablePackages"] == [
        {
            "epoch": 0,
            "filePath": "app/node_modules/left-pad/package.json",
            "name": "left-pad",
            "packageManager": "NODEPKG",
            "sourceLayerHash": layer,
            "version": "1.3.0",
            "fixedInVersion": "2.0.0",
        }
    ]
    page = await ecr.describe_image_scan_findings(**asked, maxResults=1)
    rest = await ecr.describe_image_scan_findings(**asked, nextToken=page["nextToken"])
    pages = page["imageScanFindings"]["enhancedFindings"] + rest["imageScanFindings"]["enhancedFindings"]
    assert [each["title"] for each in pages] == [each["title"] for each in told["enhancedFindings"]]
    (found,) = (await ecr.batch_get_repository_scanning_configuration(repositoryNames=["shop"]))[
        "scanningConfigurations"
    ]
    assert (found["scanFrequency"], found["scanOnPush"]) == ("CONTINUOUS_SCAN", True)


async def test_rules_say_what_is_scanned_and_what_is_matched_again_and_gates_go_before(
    registry, scanner, ecr, tmp_path
):
    for name in ("lab", "other"):
        await registry.aws("CreateRepository", repositoryName=name)
    await ecr.put_registry_scanning_configuration(scanType="ENHANCED", rules=RULES)
    await until(lambda: scanner.app._view.table(REGISTRY_SETTINGS).records(), SOON)
    await scanner.import_(advisories(tmp_path / "osv"))
    image = packed_image(packages())
    for name in ("other", "lab", "shop"):
        assert (await registry.push_image(name, image, "1")).status == 201
    await until(lambda: {s.repository for s in scanner.done()} == {"lab", "shop"}, SOON)
    await settled(scanner)
    await scanner.import_(advisories(tmp_path / "more", [LEFT_PAD]))
    await until(lambda: high(scanner) == {"lab": 0, "shop": 1}, SOON)
    await settled(scanner)
    assert high(scanner) == {"lab": 0, "shop": 1}
    await gate(scanner)
    await until(lambda: high(scanner) == {"lab": 1, "shop": 1}, SOON)


def high(scanner):
    return {scan.repository: scan.counts.get("HIGH", 0) for scan in scanner.scans()}


async def test_a_scanner_killed_while_it_matches_again_goes_on_and_writes_each_image_once(
    registry, nats_platform, tmp_path
):
    images = [packed_image(packages(), {"/n": str(n)}) for n in range(12)]
    async with scanner_at(nats_platform, tmp_path / "data") as scanner:
        await scanner.import_(advisories(tmp_path / "osv"))
        for number, image in enumerate(images):
            await registry.push_image("shop", image, str(number))
        await until(lambda: len(scanner.done()) == len(images), SOON)
        await settled(scanner)
        index = scanner.files / "advisories.sqlite"
    counted = writes(registry)
    import_files(index, advisories(tmp_path / "more", [LEFT_PAD]), 1.0)
    async with scanner_process(nats_platform, tmp_path / "data") as process:
        await until(lambda: counted, SOON)
        process.send_signal(signal.SIGKILL)
        await process.wait()
    scans = registry.app.gates.scans
    async with scanner_process(nats_platform, tmp_path / "data"):
        await until(lambda: all(scan.counts.get("HIGH") for scan in scans.records()), SOON)
    assert counted == {(image.digest, "COMPLETE"): 1 for image in images}


async def test_a_report_that_is_lost_is_made_again_of_its_bill(registry, scanner, ecr, tmp_path):
    await scanner.import_(advisories(tmp_path / "osv"))
    await scanned(registry, scanner, packed_image(packages()), "1")
    for path in (scanner.files / "reports").iterdir():
        path.write_bytes(b"")
    asked = work_of(scanner)
    told = await ecr.describe_image_scan_findings(repositoryName="shop", imageId={"imageTag": "1"})
    assert [each["name"] for each in told["imageScanFindings"]["findings"]] == [
        "CVE-2023-0001",
        "CVE-2023-0002",
        "NPM-1",
    ]
    assert asked[0] == "match-bill" and "layer" not in asked


async def test_what_was_matched_again_is_there_after_a_restart_and_goes_with_its_image(
    registry, nats_platform, ecr, tmp_path
):
    one = {"repositoryName": "shop", "imageId": {"imageTag": "1"}}
    async with scanner_at(nats_platform, tmp_path / "data") as scanner:
        await scanner.import_(advisories(tmp_path / "osv"))
        await scanned(registry, scanner, packed_image(packages()), "1")
        await scanner.import_(advisories(tmp_path / "more", [LEFT_PAD]))
        await settled(scanner)
        before = (await ecr.describe_image_scan_findings(**one))["imageScanFindings"]["findings"]
        assert len(before) == 4
    async with scanner_at(nats_platform, tmp_path / "data") as scanner:
        asked = work_of(scanner)
        assert (await ecr.describe_image_scan_findings(**one))["imageScanFindings"]["findings"] == before
        assert "match-bill" not in asked
        (pack,) = (scanner.files / "reports").iterdir()
        assert pack.suffix == ".pack"
        pack.write_bytes(b"")
        assert (await ecr.describe_image_scan_findings(**one))["imageScanFindings"]["findings"] == before
        assert "match-bill" in asked
        await ecr.batch_delete_image(repositoryName="shop", imageIds=[one["imageId"]])
        await until(lambda: not list((scanner.files / "reports").iterdir()), SOON)


async def test_a_feed_is_followed_and_told_of(registry, nats_platform, tmp_path):
    folder = tmp_path / "feed"
    folder.mkdir()

    def publish(*told):
        rows = sorted(((each["modified"], each["id"]) for each in told), reverse=True)
        for each in told:
            (folder / f"{each['id']}.json").write_text(json.dumps(each))
        (folder / "modified_id.csv").write_text("".join(f"{at},{id_}\n" for at, id_ in rows))

    publish(*RECORDS)
    async with scanner_at(nats_platform, tmp_path / "data", feeds=str(folder)) as scanner:
        await until(lambda: scanner.app.advisories.current.version, SOON)
        digest = await scanned(registry, scanner, packed_image(packages()), "1")
        publish(*RECORDS, LEFT_PAD)
        url = f"{scanner.base}/advisories/update"
        async with registry.session.post(url, json={}) as answer:
            assert answer.status == 401
        async with registry.session.post(url, json={}, headers=scanner.key) as answer:
            (told,) = (await answer.json())["updates"]
        assert (told["path"], told["changed"], told["stopped"]) == (str(folder), 1, "")
        await until(lambda: scanner.done(digest)[0].counts.get("HIGH") == 1, SOON)
        (folder / "modified_id.csv").unlink()
        async with registry.session.post(url, json={"feed": str(folder)}, headers=scanner.key) as answer:
            (told,) = (await answer.json())["updates"]
        assert "no modified_id.csv" in told["stopped"]
        async with registry.session.get(f"{scanner.base}/advisories") as answer:
            (source,) = (await answer.json())["sources"]
        assert (source["kind"], source["used"], source["problems"]) == ("feed", 4, [told["stopped"]])


async def test_an_import_while_images_are_scanned_misses_none(registry, scanner, tmp_path):
    await scanner.import_(advisories(tmp_path / "osv"))
    images = [packed_image(packages(), {"/n": str(n)}) for n in range(8)]

    async def push():
        for number, image in enumerate(images):
            await registry.push_image("shop", image, str(number))

    await asyncio.gather(push(), scanner.import_(advisories(tmp_path / "more", [LEFT_PAD])))
    await until(lambda: [scan.counts.get("HIGH") for scan in scanner.done()] == [1] * len(images), SOON)


def test_the_real_set_is_read_without_a_problem(tmp_path):
    if not DATA.is_dir():
        pytest.skip(f"the real advisories are not at hand ({DATA})")
    index = tmp_path / "advisories.sqlite"
    told = import_files(index, DATA, 1.0)
    assert (told["skipped"], told["problems"], told["used"] > 26_000, told["exploited"]) == (0, [], True, 1404)
    assert {"PyPI", "npm", "Debian:12", "Alpine:v3.11", "Maven", "Go", "crates.io"} <= told["ecosystems"].keys()
    shiro = {each.name: each for each in Index(index).lookup("Maven", "org.apache.shiro:shiro-core")}
    assert (shiro["CVE-2016-4437"].severity, shiro["CVE-2016-4437"].exploited) == ("CRITICAL", "2021-11-03")
    assert import_files(index, DATA, 2.0)["changed"] == 0
