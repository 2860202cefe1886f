"""Pushed images, scanned: a real registry, a real scanner with its worker processes, asked by boto3."""

from __future__ import annotations

import asyncio

import pytest

from contracts.records.scanner import ImageScan
from tests.builders.images import busybox_image, digest_of
from tests.builders.registry import registry_at, small_image
from tests.builders.scanner import RECORDS, advisories, packages, packed_image, scanner_at
from tests.builders.waiting import until
from tests.integration.test_registry_ecr import Boto

SOON = 30.0


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


async def pushed(registry, scanner, image, tag="1") -> ImageScan:
    """Push an image; its scan, when it is over."""
    assert (await registry.push_image("shop", image, tag)).status == 201
    await until(lambda: scanner.done(image.digest), SOON)
    return scanner.done(image.digest)[0]


async def test_a_pushed_image_is_scanned_and_told_of_as_ecr_does(registry, scanner, ecr, tmp_path):
    await scanner.import_(advisories(tmp_path / "osv"))
    await pushed(registry, scanner, packed_image({"/etc/hostname": "x"}, packages()))
    await asyncio.to_thread(
        ecr.client.get_waiter("image_scan_complete").wait,
        repositoryName="shop", imageId={"imageTag": "1"}, WaiterConfig={"Delay": 1, "MaxAttempts": 3},
    )  # fmt: skip
    answer = await ecr.describe_image_scan_findings(repositoryName="shop", imageId={"imageTag": "1"})
    assert answer["imageScanStatus"]["status"] == "COMPLETE"
    told = answer["imageScanFindings"]
    assert told["findingSeverityCounts"] == {"CRITICAL": 1, "MEDIUM": 1, "LOW": 1}
    assert [f["name"] for f in told["findings"]] == ["CVE-2023-0001", "CVE-2023-0002", "NPM-1"]
    assert told["vulnerabilitySourceUpdatedAt"].isoformat().startswith("2023-09-01")
    assert told["findings"][0] == {
        "name": "CVE-2023-0001",
        "severity": "CRITICAL",
        "uri": "https://security-tracker.debian.org/tracker/CVE-2023-0001",
        "attributes": [
            {"key": "package_name", "value": "libssl3"},
            {"key": "package_version", "value": "3.0.9-1"},
            {"key": "fixed_version", "value": "3.0.10-1"},
            {"key": "CVSS3_VECTOR", "value": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"},
            {"key": "CVSS3_SCORE", "value": "9.8"},
            {"key": "aliases", "value": "DSA-1"},
        ],
    }
    (detail,) = (await ecr.describe_images(repositoryName="shop"))["imageDetails"]
    assert detail["imageScanStatus"]["status"] == "COMPLETE"
    assert detail["imageScanFindingsSummary"]["findingSeverityCounts"] == {"CRITICAL": 1, "MEDIUM": 1, "LOW": 1}


async def test_findings_come_in_pages(registry, scanner, ecr, tmp_path):
    await scanner.import_(advisories(tmp_path / "osv"))
    await pushed(registry, scanner, packed_image(packages()))
    names, token = [], {}
    for _ in range(3):
        page = await ecr.describe_image_scan_findings(
            repositoryName="shop", imageId={"imageTag": "1"}, maxResults=1, **token
        )
        names += [f["name"] for f in page["imageScanFindings"]["findings"]]
        token = {"nextToken": page.get("nextToken")}
    assert (names, token) == (["CVE-2023-0001", "CVE-2023-0002", "NPM-1"], {"nextToken": None})
    asked = {"repositoryName": "shop", "imageId": {"imageTag": "1"}, "nextToken": "!"}
    assert await ecr.refused("describe_image_scan_findings", **asked) == "InvalidParameterException"


async def test_what_a_later_layer_takes_away_is_not_found_and_origins_are_told(registry, scanner, ecr, tmp_path):
    await scanner.import_(advisories(tmp_path / "osv"))
    base = packages()
    above = {"/app/node_modules/.wh.left-pad": "", "/usr/lib/python3/site-packages/.wh..wh..opq": ""}
    image = packed_image(base, above)
    scan = await pushed(registry, scanner, image)
    assert scan.counts == {"CRITICAL": 1}
    report = await report_of(registry, scanner, image)
    assert {p["name"]: p["layer"] for p in report["packages"]} == {
        "libssl3": _layers(image)[0],
        "bash": _layers(image)[0],
    }


async def report_of(registry, scanner, image):
    url = f"{scanner.base}/scans/000000000000/us-east-1/{image.digest}/shop"
    async with registry.session.get(url) as answer:
        assert answer.status == 200
        return await answer.json()


def _layers(image):
    import json

    return [layer["digest"] for layer in json.loads(image.manifest)["layers"]]


async def test_a_layer_of_two_images_is_read_once(registry, scanner, tmp_path):
    runs = []
    workers = scanner.app._controller._scans._workers
    run = workers.run

    async def counted(mode, *arguments, **how):
        runs.append(mode)
        return await run(mode, *arguments, **how)

    workers.run = counted
    first, second = packed_image(packages()), packed_image(packages(), {"/x": "y"})
    await asyncio.gather(pushed(registry, scanner, first, "1"), pushed(registry, scanner, second, "2"))
    assert sorted(runs) == ["layer", "layer", "match", "match"]


async def test_new_advisories_are_held_against_what_was_scanned_before(registry, scanner, tmp_path):
    before = await pushed(registry, scanner, packed_image(packages()))
    assert (before.status, before.counts, before.advisories) == ("COMPLETE", {}, "")
    assert "no advisories are imported" in before.description
    answer = await scanner.import_(advisories(tmp_path / "osv"))
    await until(lambda: scanner.scans()[0].advisories == answer["version"], SOON)
    assert scanner.scans()[0].counts == {"CRITICAL": 1, "MEDIUM": 1, "LOW": 1}
    await until(lambda: len(list((scanner.files / "reports").iterdir())) == 1, SOON)


async def test_an_image_may_be_scanned_once_a_day_as_it_may_on_aws(registry, scanner, ecr, tmp_path):
    await pushed(registry, scanner, packed_image(packages()))
    asked = {"repositoryName": "shop", "imageId": {"imageTag": "1"}}
    started = await ecr.start_image_scan(**asked)
    assert started["imageScanStatus"]["status"] == "IN_PROGRESS"
    await until(lambda: scanner.done(), SOON)
    assert scanner.scans()[0].started_by == "API"
    assert await ecr.refused("start_image_scan", **asked) == "LimitExceededException"
    await scanner.import_(advisories(tmp_path / "osv"))
    await until(lambda: scanner.scans()[0].advisories, SOON)
    assert await ecr.refused("start_image_scan", **asked) == "LimitExceededException"


async def test_scan_on_push_counts_as_the_scan_of_the_day(registry, scanner, ecr):
    await ecr.put_image_scanning_configuration(repositoryName="shop", imageScanningConfiguration={"scanOnPush": True})
    await pushed(registry, scanner, packed_image(packages()))
    asked = {"repositoryName": "shop", "imageId": {"imageTag": "1"}}
    assert await ecr.refused("start_image_scan", **asked) == "LimitExceededException"


async def test_what_can_not_be_scanned_is_said_with_ecrs_errors(registry, scanner, ecr):
    asked = {"repositoryName": "shop", "imageId": {"imageTag": "none"}}
    assert await ecr.refused("start_image_scan", **asked) == "ImageNotFoundException"
    assert await ecr.refused("describe_image_scan_findings", **asked) == "ImageNotFoundException"
    missing = {"repositoryName": "nope", "imageId": {"imageTag": "none"}}
    assert await ecr.refused("start_image_scan", **missing) == "RepositoryNotFoundException"
    artifact = small_image(
        (b"{}",), config={"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest_of(b"{}"), "size": 2}
    )
    await registry.push_blob("shop", b"{}")
    await registry.push_image("shop", artifact, "signature")
    asked = {"repositoryName": "shop", "imageId": {"imageTag": "signature"}}
    assert await ecr.refused("start_image_scan", **asked) == "UnsupportedImageTypeException"
    assert await ecr.refused("describe_image_scan_findings", **asked) == "ScanNotFoundException"
    assert "Image scan does not exist" in ecr.message


async def test_settings_of_scanning_are_kept_and_judged(registry, ecr):
    answer = await ecr.get_registry_scanning_configuration()
    assert answer["scanningConfiguration"] == {"scanType": "BASIC", "rules": []}
    rules = [{"scanFrequency": "SCAN_ON_PUSH", "repositoryFilters": [{"filter": "sho*", "filterType": "WILDCARD"}]}]
    await ecr.put_registry_scanning_configuration(scanType="BASIC", rules=rules)
    assert (await ecr.get_registry_scanning_configuration())["scanningConfiguration"]["rules"] == rules
    found = await ecr.batch_get_repository_scanning_configuration(repositoryNames=["shop", "none"])
    assert [(f["repositoryName"], f["scanFrequency"]) for f in found["scanningConfigurations"]] == [
        ("shop", "SCAN_ON_PUSH")
    ]
    assert [f["failureCode"] for f in found["failures"]] == ["REPOSITORY_NOT_FOUND"]
    wrong = [{**rules[0], "scanFrequency": "CONTINUOUS_SCAN"}]
    refused = await ecr.refused("put_registry_scanning_configuration", scanType="BASIC", rules=wrong)
    assert refused == "InvalidParameterException"
    await ecr.put_registry_scanning_configuration(scanType="ENHANCED", rules=wrong)
    (found,) = (await ecr.batch_get_repository_scanning_configuration(repositoryNames=["shop"]))[
        "scanningConfigurations"
    ]
    assert (found["scanFrequency"], found["appliedScanFilters"]) == ("CONTINUOUS_SCAN", wrong[0]["repositoryFilters"])


async def test_a_deleted_image_is_forgotten_with_its_report(registry, scanner, ecr):
    await pushed(registry, scanner, packed_image(packages()))
    await ecr.batch_delete_image(repositoryName="shop", imageIds=[{"imageTag": "1"}])
    await until(lambda: not scanner.scans(), SOON)
    await until(lambda: not list((scanner.files / "reports").iterdir()), SOON)


async def test_the_door_imports_advisories_and_sets_gates_for_who_has_the_key(registry, scanner, tmp_path):
    session, path = registry.session, str(advisories(tmp_path / "osv", [*RECORDS, {"no": "id"}]))
    async with session.post(f"{scanner.base}/advisories", json={"path": path}) as answer:
        assert answer.status == 401
    async with session.post(f"{scanner.base}/advisories", json={"path": path}, headers=scanner.key) as answer:
        told = await answer.json()
        assert (answer.status, told["used"], told["skipped"]) == (200, 3, 1)
    async with session.post(f"{scanner.base}/advisories", json={"path": "/nope"}, headers=scanner.key) as answer:
        assert (answer.status, (await answer.json())["error"][:13]) == (422, "no advisories")
    async with session.get(f"{scanner.base}/advisories") as answer:
        assert (await answer.json())["version"] == told["version"]
    async with session.put(f"{scanner.base}/gates", json={"severity": "HIGH"}) as answer:
        assert answer.status == 401
    async with session.put(f"{scanner.base}/gates", json={"severity": "AWFUL"}, headers=scanner.key) as answer:
        assert (answer.status, "AWFUL" in (await answer.json())["error"]) == (400, True)
    async with session.put(f"{scanner.base}/gates", json={"severity": "HIGH"}, headers=scanner.key) as answer:
        assert answer.status == 200
    async with session.get(f"{scanner.base}/gates") as answer:
        assert [(g["scope"], g["severity"]) for g in (await answer.json())["gates"]] == [("*", "HIGH")]
    async with session.delete(f"{scanner.base}/gates", json={}, headers=scanner.key) as answer:
        assert answer.status == 200
    async with session.delete(f"{scanner.base}/gates", json={}, headers=scanner.key) as answer:
        assert answer.status == 404


async def test_a_scan_continues_the_trace_of_the_push(registry, scanner):
    image = busybox_image()
    parent = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
    for data in image.blobs.values():
        await registry.push_blob("shop", data)
    await registry.ask("PUT", "shop/manifests/1", image.manifest, Content_Type=image.media_type, traceparent=parent)
    await until(lambda: scanner.done(image.digest), SOON)
    from contracts.records.scanner import IMAGE_SCAN

    (entry,) = scanner.app._store.table(IMAGE_SCAN).entries()
    assert entry.trace.split("-")[1] == "ab" * 16


async def test_advisories_named_by_a_setting_are_imported_once(registry, nats_platform, tmp_path):
    folder = advisories(tmp_path / "osv")
    async with scanner_at(nats_platform, tmp_path / "data", advisories=str(folder)) as scanner:
        await until(lambda: scanner.app.advisories.current.version, SOON)
        first = scanner.app.advisories.current.told["sources"]
    async with scanner_at(nats_platform, tmp_path / "data", advisories=str(folder)) as scanner:
        await scanner.app._work[-2]
        assert scanner.app.advisories.current.told["sources"] == first
    advisories(folder, RECORDS[:1])
    async with scanner_at(nats_platform, tmp_path / "data", advisories=str(folder)) as scanner:
        await until(lambda: scanner.app.advisories.current.told["used"] == 1, SOON)


async def test_an_index_that_can_not_be_read_counts_as_none_and_findings_stay(registry, nats_platform, tmp_path):
    async with scanner_at(nats_platform, tmp_path / "data") as scanner:
        await scanner.import_(advisories(tmp_path / "osv"))
        before = await pushed(registry, scanner, packed_image(packages()))
    (scanner.files / "advisories.sqlite").write_bytes(b"rubbish" * 1000)
    async with scanner_at(nats_platform, tmp_path / "data") as scanner:
        assert scanner.app.advisories.current.version == ""
        other = await pushed(registry, scanner, packed_image(packages(), {"/x": "y"}), "2")
        assert (other.status, other.advisories) == ("COMPLETE", "")
        assert (before.report, before.counts) in [(scan.report, scan.counts) for scan in scanner.scans()]
