"""Replication between two installations over HTTPS."""

from __future__ import annotations

import base64
import contextlib
import json
import os
from datetime import UTC, datetime

import pytest

from contracts.records.registry import IMAGE_REPLICATION
from services.registry.decisions.names import RepositoryId
from services.registry.decisions.peers import upload_of
from services.registry.handlers.peers import mark
from services.shared.certificates import Authority
from tests.builders.images import digest_of
from tests.builders.link import Link
from tests.builders.registry import ACCOUNT, REGION, descriptor, registry_at, small_image
from tests.builders.waiting import until
from tests.integration.test_registry_faults import two_mebibytes  # noqa: F401

THEIRS, FAR = "999999999999", "eu-west-1"
SHOP, THERE = RepositoryId(ACCOUNT, REGION, "shop"), RepositoryId(ACCOUNT, FAR, "shop")
INDEX = "application/vnd.oci.image.index.v1+json"


class Pair:
    """Two installations, `here` and `there`, and the link from the one to the other. `place` is the destination."""

    def __init__(self, here, there, link, place=THERE) -> None:
        self.here, self.there, self.link, self.place = here, there, link, place

    async def door(self, registry, method: str, path: str, body=None, key: str | None = None):
        key = key or registry.key
        async with registry.session.request(
            method, f"{registry.base}/{path}", json=body or {}, headers={"Authorization": f"Bearer {key}"}
        ) as answer:
            return answer.status, await answer.json()

    async def meet(self, place: RepositoryId = THERE, ca: str | None = None, *, again: bool = False) -> None:
        """Let `there` take what `here` sends to a registry, and begin to send; or `again`, with another key."""
        self.place = place
        _, granted = await self.door(self.there, "PUT", "peer-grants/here", {"accounts": [ACCOUNT]})
        wanted = {
            "url": f"https://localhost:{self.link.port}",
            "key": granted["key"],
            "destinations": [f"{place.account}/{place.region}"],
            "ca": self.there.ca if ca is None else ca,
        }
        status, told = await self.door(self.here, "PUT", "peers/there", wanted)
        assert (status, told["destinations"]) == (200, [f"{place.account}/{place.region}"]), told
        if again:
            return
        rules = [{"destinations": [{"region": place.region, "registryId": place.account}]}]
        await self.here.aws("PutReplicationConfiguration", replicationConfiguration={"rules": rules})

    async def status(self, tag: str) -> tuple[str, str | None]:
        asked = {"repositoryName": "shop", "imageId": {"imageTag": tag}}
        (found,) = (await self.here.aws("DescribeImageReplicationStatus", **asked)).replication_statuses
        return found.status, found.failure_code

    async def ended(self, tag: str) -> tuple[str, str | None]:
        """How an image's replication ended."""

        async def over():
            status = await self.status(tag)
            return status if status[0] != "IN_PROGRESS" else None

        return await until(over, 60)

    async def standing(self) -> dict:
        return (await self.door(self.here, "GET", "peers"))[1]["peers"][0]

    def found(self, tag: str):
        return self.there.parts.images.find(self.place, tag)

    async def pulled(self, path: str) -> bytes:
        name = f"{self.place.account}.{self.place.region}/{self.place.name}"
        return (await self.there.ask("GET", f"{name}/{path}")).body


@contextlib.asynccontextmanager
async def opened(nats, folder, **settings):
    async with registry_at(nats, folder, **settings) as running:
        running.key = (folder / "registry" / "door.key").read_text()
        ca = folder / "registry" / "tls" / "ca.pem"
        running.ca = ca.read_text() if ca.exists() else ""
        yield running


@pytest.fixture
async def pair(nats_platform, other_nats_platform, tmp_path):
    async with (
        opened(nats_platform, tmp_path / "here") as here,
        opened(other_nats_platform, tmp_path / "there", https_port=0) as there,
    ):
        link = Link(there.https)
        try:
            await here.aws("CreateRepository", repositoryName="shop")
            yield Pair(here, there, link)
        finally:
            link.close()


async def test_what_is_pushed_here_is_there_and_what_is_there_is_not_sent_again(pair):
    await pair.meet()
    base, first, second = os.urandom(2_000_000), os.urandom(300_000), os.urandom(300_000)
    image = small_image((base, first))
    await pair.here.push_image("shop", image, "1")
    assert await pair.ended("1") == ("COMPLETE", None)
    assert await pair.pulled("manifests/1") == image.manifest
    for digest, data in image.blobs.items():
        assert await pair.pulled(f"blobs/{digest}") == data
    assert pair.found("1").replica
    sent = pair.link.sent
    assert 2_300_000 < sent < 2_500_000
    await pair.here.push_image("shop", small_image((base, second)), "2")
    assert await pair.ended("2") == ("COMPLETE", None)
    assert 300_000 < pair.link.sent - sent < 400_000
    sent = pair.link.sent
    await pair.here.aws("CreateRepository", repositoryName="other")
    await pair.here.push_image("other", image, "1")
    other = RepositoryId(ACCOUNT, FAR, "other")
    await until(lambda: pair.there.parts.images.find(other, "1"), 60)
    assert pair.link.sent - sent < 50_000  # its blobs were mounted from the repository beside
    assert (await pair.standing())["last_error"] == ""
    async with pair.here.session.get(f"{pair.here.base}/metrics") as answer:
        assert b'roadstead_replication_waiting_images{peer="there"' in await answer.read()
    await pair.here.aws("PutReplicationConfiguration", replicationConfiguration={"rules": []})
    assert await pair.status("1") == ("COMPLETE", None)  # what was replicated is told of, whatever the rules are now


@pytest.mark.parametrize("at", [700_001, 1_900_000, 2_999_999])
async def test_after_a_cut_only_the_rest_is_sent(pair, at):
    await pair.meet()
    layer = os.urandom(3_000_000)
    image = small_image((layer,))
    for data in image.blobs.values():
        await pair.here.push_blob("shop", data)
    pair.link.cut_at = pair.link.sent + 6_000 + at
    await pair.here.ask("PUT", "shop/manifests/1", image.manifest, Content_Type=image.media_type)
    assert await pair.ended("1") == ("COMPLETE", None)
    assert await pair.pulled(f"blobs/{digest_of(layer)}") == layer
    assert pair.link.cut_at is None, "the cut came too late"
    # What was on its way when the connection broke is lost: what fits into buffers, and no more.
    assert pair.link.sent < len(layer) + 400_000


async def test_an_installation_that_is_away_is_waited_for_also_by_the_next_process(
    nats_platform, other_nats_platform, tmp_path
):
    layer = os.urandom(3_000_000)
    image = small_image((layer,))
    async with opened(other_nats_platform, tmp_path / "there", https_port=0) as there:
        link = Link(there.https)
        async with opened(nats_platform, tmp_path / "here") as here:
            pair = Pair(here, there, link)
            await here.aws("CreateRepository", repositoryName="shop")
            await pair.meet()
            uploads = tmp_path / "there"
            link.cut_at = 2_000_000
            await here.push_image("shop", image, "1")
            await until(lambda: link.cut_at is None and (link.cut() or True), 60, every=0.001)
            await until(lambda: here.app.sender.standing(_peer(here)).error, 60)
            assert await pair.status("1") == ("IN_PROGRESS", None)
            assert (await pair.standing())["waiting"] == 1
            (part,) = (path for path in uploads.rglob("uploads/*") if path.stat().st_size > 100_000)
            arrived, sent = part.stat().st_size, link.sent
        link.mend()
        async with opened(nats_platform, tmp_path / "here") as here:
            pair = Pair(here, there, link)
            assert await pair.ended("1") == ("COMPLETE", None)
            assert await pair.pulled(f"blobs/{digest_of(layer)}") == layer
            assert link.sent - sent < len(layer) - arrived + 100_000
        link.close()


def _peer(registry):
    (peer,) = registry.app.sender._peers.records()
    return peer


async def test_another_account_s_registry_must_allow_it_and_templates_make_its_repositories(pair):
    theirs = RepositoryId(THEIRS, FAR, "shop")
    await pair.meet(theirs)
    await pair.here.push_image("shop", small_image((b"1",)), "1")
    assert await pair.ended("1") == ("FAILED", "AccessDeniedException")
    told = pair.here.app.sender._sending.told(SHOP, theirs, small_image((b"1",)).digest)
    assert "ecr:ReplicateImage" in told.failure_reason
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": ACCOUNT},
        "Action": ["ecr:ReplicateImage"],
        "Resource": f"arn:aws:ecr:{FAR}:{THEIRS}:repository/*",
    }

    async def allow() -> None:
        text = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        await pair.there.aws("PutRegistryPolicy", account=THEIRS, region=FAR, policyText=text)

    await allow()
    await pair.here.push_image("shop", small_image((b"2",)), "2")
    assert await pair.ended("2") == ("FAILED", "AccessDeniedException")  # it may not make the repository
    statement["Action"].append("ecr:CreateRepository")
    await allow()
    template = {"prefix": "shop", "appliedFor": ["REPLICATION"], "imageTagMutability": "IMMUTABLE"}
    template["prefix"] = "ROOT"
    await pair.there.aws("CreateRepositoryCreationTemplate", account=THEIRS, region=FAR, **template)
    await pair.here.push_image("shop", small_image((b"3",)), "3")
    assert await pair.ended("3") == ("COMPLETE", None)
    await pair.here.push_image("shop", small_image((b"4",)), "3")
    assert await pair.ended("3") == ("FAILED", "ImageTagAlreadyExistsException")
    assert pair.found("3").digest == small_image((b"3",)).digest
    assert pair.found("1") is None
    started = await pair.here.aws("StartReplicationBackfill", destination={"region": FAR, "registryId": THEIRS})
    assert started.status == "PREPARING"
    bare = small_image((b"1",)).digest
    await until(lambda: pair.found(bare), 60)


async def test_an_index_comes_with_its_manifests_and_an_artifact_is_found_by_its_subject(pair):
    await pair.meet()
    arm, amd = small_image((b"arm",)), small_image((b"amd",))
    manifests = []
    for image in (arm, amd):
        await pair.here.push_image("shop", image, image.digest)
        manifests.append(descriptor(image.manifest, image.media_type))
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).encode()
    await pair.here.ask("PUT", "shop/manifests/multi", index, Content_Type=INDEX)
    assert await pair.ended("multi") == ("COMPLETE", None)
    assert await pair.pulled("manifests/multi") == index
    subject = descriptor(index, INDEX)
    bill = small_image((b"bill of materials",), subject=subject, artifactType="application/spdx+json")
    await pair.here.push_image("shop", bill, bill.digest)
    await until(lambda: pair.found(bill.digest), 60)
    (found,) = json.loads(await pair.pulled(f"referrers/{digest_of(index)}"))["manifests"]
    assert (found["digest"], found["artifactType"]) == (bill.digest, "application/spdx+json")


async def test_a_tag_follows_where_it_moves_also_back(pair):
    await pair.meet()
    one, two = small_image((b"one",)), small_image((b"two",))
    for image in (one, two, one):
        await pair.here.push_image("shop", image, "latest")
        await until(lambda image=image: (pair.found("latest") or image) and pair.found("latest"), 60)
        await until(lambda image=image: pair.found("latest").digest == image.digest, 60)
        assert await pair.ended("latest") == ("COMPLETE", None)


async def test_who_is_not_whom_the_certificate_names_gets_nothing_and_a_key_that_was_taken_back_opens_nothing(
    pair, tmp_path
):
    stranger = Authority.open(tmp_path / "stranger", datetime.now(UTC)).path.read_text()
    await pair.meet(ca=stranger)
    image = small_image()
    await pair.here.push_image("shop", image, "1")
    error = await until(lambda: pair.here.app.sender.standing(_peer(pair.here)).error, 60)
    assert "CERTIFICATE_VERIFY_FAILED" in error
    checked = (await pair.door(pair.here, "POST", "peers/there/check"))[1]["problem"]
    assert "CERTIFICATE_VERIFY_FAILED" in checked
    assert await pair.status("1") == ("IN_PROGRESS", None)
    await pair.meet(again=True)  # the operator mends it, and it goes on
    assert await pair.ended("1") == ("COMPLETE", None)
    assert (await pair.door(pair.here, "POST", "peers/there/check"))[1] == {"problem": ""}
    assert (await pair.door(pair.there, "DELETE", "peer-grants/here"))[0] == 200
    second = small_image((b"second",))
    await pair.here.push_image("shop", second, "2")
    error = await until(lambda: pair.here.app.sender.standing(_peer(pair.here)).error, 60)
    assert "401" in error and pair.found("2") is None
    await pair.meet(again=True)
    assert await pair.ended("2") == ("COMPLETE", None)


async def test_what_an_installation_gets_for_its_key_opens_replication_and_nothing_else(pair):
    _, granted = await pair.door(pair.there, "PUT", "peer-grants/here", {"accounts": [ACCOUNT]})
    await pair.there.aws("CreateRepository", repositoryName="shop")
    image = small_image()
    await pair.there.push_image("shop", image, "1")

    async def ask(method: str, path: str, key: str = granted["key"], **query: str):
        login = {"Authorization": "Basic " + base64.b64encode(key.encode()).decode()}
        async with pair.there.session.request(
            method, f"{pair.there.base}/{path}", params=query, headers=login
        ) as answer:
            return answer.status, await answer.json()

    root = f"arn:aws:iam::{ACCOUNT}:root"
    told = [
        (await ask("GET", "peers/token", key, principal=principal, purpose=purpose))[0]
        for key, principal, purpose in (
            ("here:guessed", root, "replicate"),
            ("nobody:guessed", root, "replicate"),
            (granted["key"], f"arn:aws:iam::{THEIRS}:root", "replicate"),
            (granted["key"], root, "everything"),
            (granted["key"], "root", "pull"),
        )
    ]
    assert told == [401, 401, 403, 400, 400]
    tokens = {}
    for purpose in ("replicate", "pull"):
        status, body = await ask("GET", "peers/token", principal=root, purpose=purpose)
        assert status == 200
        tokens[purpose] = pair.there.auth(body["token"])
    found = {}
    for purpose, bearer in tokens.items():
        found[purpose] = [
            (await pair.there.ask(method, path, Authorization=bearer)).status
            for method, path in (
                ("GET", "shop/manifests/1"),
                ("HEAD", "shop/manifests/1"),
                ("GET", "shop/tags/list"),
                ("DELETE", f"shop/manifests/{image.digest}"),
                ("POST", "shop/blobs/uploads/"),
            )
        ]
    assert found == {"replicate": [403, 200, 403, 404, 202], "pull": [200, 200, 200, 403, 403]}
    assert pair.there.parts.images.find(SHOP, "1")  # it is no replica, so that nobody may take it back
    assert (await pair.door(pair.there, "GET", "peers", key="guessed"))[0] == 401


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"url": "http://localhost:1"}, "https://"),
        ({"url": "https://localhost/path"}, "https://"),
        ({"destinations": []}, "at least one destination"),
        ({"destinations": ["eu-west-1"]}, "ACCOUNT/REGION"),
        ({"ca": "nonsense"}, "no certificate"),
        ({"key": ""}, "key"),
        ({"more": 1}, "more"),
    ],
)
async def test_what_is_no_installation_is_refused(pair, changed, said):
    good = {"url": "https://localhost:1", "key": "a:b", "destinations": [f"{ACCOUNT}/{FAR}"], "ca": ""}
    status, told = await pair.door(pair.here, "PUT", "peers/there", {**good, **changed})
    assert status == 400 and said in told["message"]


async def test_a_disk_that_is_full_there_is_waited_for(nats_platform, other_nats_platform, tmp_path, two_mebibytes):  # noqa: F811
    async with (
        opened(nats_platform, tmp_path / "here") as here,
        opened(other_nats_platform, two_mebibytes, https_port=0) as there,
    ):
        link = Link(there.https)
        pair = Pair(here, there, link)
        await here.aws("CreateRepository", repositoryName="shop")
        await pair.meet()
        filler = two_mebibytes / "filler"
        filler.write_bytes(bytes(1_200_000))
        image = small_image((os.urandom(1_000_000),))
        await here.push_image("shop", image, "1")
        error = await until(lambda: here.app.sender.standing(_peer(here)).error, 60)
        assert "507" in error and await pair.status("1") == ("IN_PROGRESS", None)
        filler.unlink()
        assert await pair.ended("1") == ("COMPLETE", None)
        assert await pair.pulled("manifests/1") == image.manifest
        link.close()


@pytest.mark.parametrize("left", [b"junk" * 1000, b"x", b""], ids=["junk", "one byte", "nothing"])
async def test_what_lies_there_of_an_upload_and_is_of_no_use_is_begun_anew(pair, left):
    await pair.meet()
    (grant,) = pair.there.parts.grants.all()
    await pair.there.aws("CreateRepository", region=FAR, repositoryName="shop")
    layer = os.urandom(100_000)
    upload = await pair.there.parts.blobs.begin(THERE, upload_of(mark(grant), THERE, digest_of(layer)))

    async def junk():
        yield left

    await upload.append(junk())
    await pair.here.push_image("shop", small_image((layer,)), "1")
    assert await pair.ended("1") == ("COMPLETE", None)
    assert await pair.pulled(f"blobs/{digest_of(layer)}") == layer


async def test_what_a_backfill_brings_is_told_as_brought(pair):
    await pair.here.push_image("shop", small_image((b"before",)), "1")
    await pair.meet()
    await pair.here.aws("StartReplicationBackfill", destination={"region": FAR, "registryId": ACCOUNT})
    assert await until(lambda: pair.found("1"), 60)

    async def told() -> bool:
        asked = {"repositoryName": "shop", "imageId": {"imageTag": "1"}}
        statuses = (await pair.here.aws("DescribeImageReplicationStatus", **asked)).replication_statuses
        return [each.status for each in statuses] == ["COMPLETE"]

    await until(told, 60)


@pytest.mark.parametrize("away", [True, False], ids=["another installation", "another region"])
async def test_deletions_are_replicated_where_a_rule_says_so_and_to_replicas_alone(pair, away):
    there = pair.there if away else pair.here
    if away:
        await pair.meet()

    def find(reference: str):
        return there.parts.images.find(THERE, reference)

    async def rule(enabled: bool) -> None:
        rules = [
            {
                "destinations": [{"region": FAR, "registryId": ACCOUNT}],
                "deleteReplication": {"enabled": enabled},
            }
        ]
        await pair.here.aws("PutReplicationConfiguration", replicationConfiguration={"rules": rules})

    async def delete(*ids: dict) -> None:
        deleted = await pair.here.aws("BatchDeleteImage", repositoryName="shop", imageIds=list(ids))
        assert deleted.failures == []

    await rule(True)
    one, two, own = small_image((b"one",)), small_image((b"two",)), small_image((b"own",))
    await there.aws("CreateRepository", region=FAR, repositoryName="shop")
    await there.push_image(f"{ACCOUNT}.{FAR}/shop", own, "own")
    for tag, image in (("1", one), ("also", one), ("2", two), ("own", own)):
        await pair.here.push_image("shop", image, tag)
    await until(lambda: all(find(tag) for tag in ("1", "also", "2")), 60)
    for tag in ("1", "2"):
        assert await pair.ended(tag) == ("COMPLETE", None)
    await pair.here.push_image("shop", two, "1")  # it moves, and is there all the while
    await until(lambda: find("1").digest == two.digest, 60)
    await delete({"imageTag": "also"})  # the last tag of `one`: the image goes
    await until(lambda: find(one.digest) is None, 60)
    await delete({"imageTag": "2"}, {"imageTag": "own"})
    await until(lambda: find("2") is None, 60)
    assert find("1").digest == two.digest
    assert find("own").digest == own.digest  # it was pushed there, and is no replica
    await rule(False)
    await delete({"imageDigest": two.digest})
    records = pair.here.app._store.table(IMAGE_REPLICATION)
    await until(lambda: not [each for each in records.records() if each.digest == two.digest], 60)
    assert find("1").digest == two.digest


async def test_what_was_deleted_while_nobody_could_be_told_is_deleted_later(
    nats_platform, other_nats_platform, tmp_path
):
    async with opened(other_nats_platform, tmp_path / "there", https_port=0) as there:
        link = Link(there.https)
        image = small_image()
        async with opened(nats_platform, tmp_path / "here") as here:
            pair = Pair(here, there, link)
            await here.aws("CreateRepository", repositoryName="shop")
            await pair.meet()
            rules = [{"destinations": [{"region": FAR, "registryId": ACCOUNT}], "deleteReplication": {"enabled": True}}]
            await here.aws("PutReplicationConfiguration", replicationConfiguration={"rules": rules})
            await here.push_image("shop", image, "1")
            assert await pair.ended("1") == ("COMPLETE", None)
            link.cut()
            await here.aws("BatchDeleteImage", repositoryName="shop", imageIds=[{"imageDigest": image.digest}])
            await until(lambda: here.app.sender.standing(_peer(here)).error, 60)
            assert there.parts.images.find(THERE, "1")
        link.mend()
        async with opened(nats_platform, tmp_path / "here"):
            await until(lambda: there.parts.images.find(THERE, image.digest) is None, 60)
        link.close()


async def test_what_was_brought_while_the_destination_was_here_is_sent_when_it_is_known_to_be_elsewhere(pair):
    rules = [{"destinations": [{"region": FAR, "registryId": ACCOUNT}], "deleteReplication": {"enabled": True}}]
    await pair.here.aws("PutReplicationConfiguration", replicationConfiguration={"rules": rules})
    await pair.here.push_image("shop", small_image(), "1")
    records = pair.here.app._store.table(IMAGE_REPLICATION)
    await until(lambda: any(each.tags for each in records.records()), 60)
    assert pair.here.parts.images.find(THERE, "1")
    await pair.meet(again=True)
    await until(lambda: pair.found("1"), 60)
    assert await pair.ended("1") == ("COMPLETE", None)
