"""Bills of materials beside pushed images: a real registry, a real scanner with its worker processes."""

from __future__ import annotations

import hashlib
import json

import aiohttp
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from msgspec.structs import replace

from contracts.records.scanner import IMAGE_SCAN
from contracts.rpc.registry import ISSUE_ATTACH_TOKEN, IssueAttachToken
from services.registry.decisions.names import RepositoryId
from services.scanner.adapters.registry import RegistryAttachments
from services.scanner.decisions.attachments import EMPTY, digest_of, manifest
from services.scanner.ports import ImageGone, Refused
from tests.builders.ecr import Boto
from tests.builders.registry import registry_at, small_image
from tests.builders.scanner import advisories, packages, packed_image, scanner_at
from tests.builders.waiting import until

SOON = 30.0
ACCOUNT, REGION = "000000000000", "us-east-1"
TYPES = {"application/vnd.cyclonedx+json", "application/spdx+json"}
LIFECYCLE = {
    "rules": [
        {
            "rulePriority": 1,
            "selection": {"tagStatus": "untagged", "countType": "imageCountMoreThan", "countNumber": 1},
            "action": {"type": "expire"},
        }
    ]
}


@pytest.fixture
async def registry(nats_platform, tmp_path):
    async with registry_at(nats_platform, tmp_path / "data", lifecycle_delay_s=0.01) as running:
        await running.aws("CreateRepository", repositoryName="shop")
        yield running


@pytest.fixture
async def scanner(registry, nats_platform, tmp_path):
    async with scanner_at(nats_platform, tmp_path / "data") as running:
        yield running


@pytest.fixture
def ecr(registry):
    return Boto(registry.port)


async def documented(registry, scanner, image, tag="1", repository="shop"):
    """Push an image; the record of its scan, when its bills of materials are there."""
    assert (await registry.push_image(repository, image, tag)).status in (200, 201)

    def stored():
        found = [scan for scan in scanner.done(image.digest) if scan.repository == repository]
        return found and found[0].boms_of and found[0].boms_of == found[0].contents

    await until(stored, SOON)
    return next(scan for scan in scanner.done(image.digest) if scan.repository == repository)


async def referrers(registry, digest, repository="shop"):
    answer = await registry.ask("GET", f"{repository}/referrers/{digest}")
    assert answer.status == 200
    return answer.json["manifests"]


async def referred(registry, digest, count):
    """The referrers of an image, when there are so many."""
    found = []

    async def as_many():
        found[:] = await referrers(registry, digest)
        return len(found) == count

    await until(as_many, SOON)
    return found


async def test_bills_of_materials_are_referrers_of_the_image_that_others_can_read(registry, scanner, ecr):
    image = packed_image(packages())
    scan = await documented(registry, scanner, image)
    found = {each["artifactType"]: each["digest"] for each in await referrers(registry, image.digest)}
    assert found == {
        "application/vnd.cyclonedx+json": scan.boms["cyclonedx"],
        "application/spdx+json": scan.boms["spdx"],
    }
    told = await ecr.list_image_referrers(repositoryName="shop", subjectId={"imageDigest": image.digest})
    assert {each["artifactType"] for each in told["referrers"]} == TYPES
    put = (await registry.ask("GET", f"shop/manifests/{scan.boms['cyclonedx']}")).json
    assert put["subject"]["digest"] == image.digest
    document = (await registry.ask("GET", f"shop/blobs/{put['layers'][0]['digest']}")).body
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(document.decode()) is None
    names = {each["name"] for each in json.loads(document)["components"]}
    assert names == {"debian", "libssl3", "bash", "Jinja2", "left-pad"}


async def test_they_are_not_scanned_nor_told_of_among_images(registry, scanner, ecr):
    image = packed_image(packages())
    await documented(registry, scanner, image)
    assert [scan.digest for scan in scanner.scans()] == [image.digest]
    (detail,) = (await ecr.describe_images(repositoryName="shop"))["imageDetails"]
    assert detail["imageDigest"] == image.digest
    assert (await ecr.list_images(repositoryName="shop"))["imageIds"] == [
        {"imageDigest": image.digest, "imageTag": "1"}
    ]


async def test_they_do_not_count_for_lifecycle_rules(registry, scanner, ecr):
    image = packed_image(packages())
    await documented(registry, scanner, image)
    await ecr.put_lifecycle_policy(repositoryName="shop", lifecyclePolicyText=json.dumps(LIFECYCLE))
    evaluated = await registry.app.lifecycle.evaluate(_repository("shop"))
    assert evaluated == 0
    assert len(await referrers(registry, image.digest)) == 2


async def test_they_go_with_their_image_and_the_repository_is_empty_then(registry, scanner, ecr):
    image = packed_image(packages())
    await documented(registry, scanner, image)
    await ecr.batch_delete_image(repositoryName="shop", imageIds=[{"imageDigest": image.digest}])
    assert await referrers(registry, image.digest) == []
    await ecr.delete_repository(repositoryName="shop")
    await until(lambda: not scanner.scans(), SOON)


async def test_pushed_again_scanned_again_and_matched_anew_an_image_has_the_same_ones(registry, scanner, ecr, tmp_path):
    image = packed_image(packages())
    first = await documented(registry, scanner, image)
    assert (await documented(registry, scanner, image, "2")).boms == first.boms
    await ecr.start_image_scan(repositoryName="shop", imageId={"imageTag": "1"})
    await until(lambda: scanner.done() and scanner.done()[0].requested_at > first.requested_at, SOON)
    again = await documented(registry, scanner, image)
    await scanner.import_(advisories(tmp_path / "osv"))
    await until(lambda: scanner.scans()[0].counts, SOON)
    assert first.boms == again.boms == scanner.scans()[0].boms
    assert {each["digest"] for each in await referrers(registry, image.digest)} == set(first.boms.values())


async def test_ones_that_somebody_deleted_come_back_with_the_next_scan(registry, scanner, ecr):
    image = packed_image(packages())
    scan = await documented(registry, scanner, image)
    await ecr.batch_delete_image(repositoryName="shop", imageIds=[{"imageDigest": scan.boms["spdx"]}])
    assert len(await referrers(registry, image.digest)) == 1
    await ecr.start_image_scan(repositoryName="shop", imageId={"imageTag": "1"})
    await referred(registry, image.digest, 2)


async def test_what_broke_off_before_it_was_written_down_is_not_put_twice(registry, nats_platform, tmp_path):
    image = packed_image(packages())
    async with scanner_at(nats_platform, tmp_path / "data") as scanner:
        update = scanner.app._store.update

        async def broken(kind, key, change, event, **more):
            if event == "sbom.stored.v1":
                raise RuntimeError("killed here")
            return await update(kind, key, change, event, **more)

        scanner.app._store.update = broken
        await registry.push_image("shop", image, "1")
        found = await referred(registry, image.digest, 2)
        assert scanner.scans()[0].boms == {}
    async with scanner_at(nats_platform, tmp_path / "data") as scanner:
        await until(lambda: scanner.scans()[0].boms_of, SOON)
        assert await referrers(registry, image.digest) == found


async def test_what_is_found_otherwise_later_replaces_them(registry, nats_platform, tmp_path):
    image = packed_image(packages())
    async with scanner_at(nats_platform, tmp_path / "data") as scanner:
        scan = await documented(registry, scanner, image)
        stale = "sha256:" + hashlib.sha256(b"stale").hexdigest()
        older = replace(scan, boms={**scan.boms, "spdx": stale}, boms_of="what was found before")
        await scanner.app._store.update(IMAGE_SCAN, IMAGE_SCAN.key_of(scan), lambda old: older, "sbom.stored.v1")
        await until(lambda: scanner.scans()[0].boms == scan.boms, SOON)


async def test_a_setting_keeps_them_away_and_the_door_still_gives_them(registry, nats_platform, tmp_path):
    image = packed_image(packages())
    async with scanner_at(nats_platform, tmp_path / "data", sbom=False) as scanner:
        assert (await registry.push_image("shop", image, "1")).status == 201
        await until(lambda: scanner.done(image.digest), SOON)
        where = f"{scanner.base}/sboms/{ACCOUNT}/{REGION}"
        async with aiohttp.ClientSession() as session:
            for reference, media in (("1", "vnd.cyclonedx+json"), (image.digest, "spdx+json")):
                wanted = "spdx" if "spdx" in media else "cyclonedx"
                async with session.get(f"{where}/{reference}/shop?format={wanted}") as answer:
                    assert (answer.status, answer.content_type) == (200, f"application/{media}")
            for path, status in (("/nothing/shop", 404), ("/1/shop?format=odd", 400)):
                async with session.get(where + path) as answer:
                    assert answer.status == status
        assert await referrers(registry, image.digest) == []
        assert scanner.scans()[0].boms == {}


async def test_they_are_not_signed_nor_replicated_and_a_replica_has_its_own(registry, scanner):
    there = {"rules": [{"destinations": [{"region": "eu-west-1", "registryId": ACCOUNT}]}]}
    profile = {"signingProfileArn": f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/ours"}
    await registry.aws("PutReplicationConfiguration", replicationConfiguration=there)
    await registry.aws("PutSigningConfiguration", signingConfiguration={"rules": [profile]})
    image = packed_image(packages())
    await documented(registry, scanner, image)
    await until(lambda: len([scan for scan in scanner.scans() if scan.boms_of]) == 2, SOON)
    here, elsewhere = sorted(scanner.scans(), key=lambda scan: scan.region == "eu-west-1")
    images = registry.app.parts.images
    assert elsewhere.region == "eu-west-1"
    assert set(here.boms.values()).isdisjoint(elsewhere.boms.values())
    await until(lambda: len(images.referrers(_repository("shop"), image.digest)) == 3, SOON)  # and a signature
    beyond = RepositoryId(ACCOUNT, "eu-west-1", "shop")
    for bill in here.boms.values():
        assert images.find(_repository("shop"), bill).signings == []
        assert images.find(beyond, bill) is None
    assert set(elsewhere.boms.values()) <= {each.digest for each in images.referrers(beyond, image.digest)}


@pytest.fixture
async def beside(registry, nats_platform):
    """What the scanner may do beside an image, and that image's record."""
    image = small_image((b"",))
    assert (await registry.push_image("shop", image, "1")).status == 201
    bus = await nats_platform.bus("scanner")
    request = IssueAttachToken(account=ACCOUNT, region=REGION, repository="shop", digest=image.digest)
    token = await bus.call(ISSUE_ATTACH_TOKEN, request)
    assert token.pinned.endswith(image.digest)
    record = registry.app.parts.images.find(_repository("shop"), image.digest)
    yield record, RegistryAttachments(registry.session, f"{registry.base}/v2/shop", registry.auth(token.password))
    await bus.close()


async def test_the_token_for_it_is_good_for_referrers_of_that_image_alone(registry, beside):
    record, attachments = beside
    other = replace(record, digest="sha256:" + "0" * 64)
    blobs = {digest_of(EMPTY): EMPTY}
    with pytest.raises(Refused):
        await attachments.put(manifest(other, "application/spdx+json", EMPTY, "2026-01-01T00:00:00Z"), blobs)
    with pytest.raises(Refused):
        await attachments.remove(record.digest)
    good = manifest(record, "application/spdx+json", EMPTY, "2026-01-01T00:00:00Z")
    with pytest.raises(Refused):
        await attachments._ask("PUT", "/manifests/latest", good, "application/vnd.oci.image.manifest.v1+json")
    await attachments.put(good, blobs)
    assert len(await referrers(registry, record.digest)) == 1
    await attachments.remove(digest_of(good))
    assert await referrers(registry, record.digest) == []
    await registry.aws("BatchDeleteImage", repositoryName="shop", imageIds=[{"imageDigest": record.digest}])
    with pytest.raises(ImageGone):
        await attachments.put(good, blobs)


def _repository(name):
    return RepositoryId(ACCOUNT, REGION, name)
