"""Gates of repositories and clusters, what runs in spite of them, and findings that don't count."""

from __future__ import annotations

import time

import aiohttp
import pytest

from contracts.records.scanner import SUPPRESSION
from contracts.rpc.registry import ISSUE_PULL_TOKEN, IssuePullToken
from contracts.rpc.scheduler import WORKLOADS_CLUSTER
from services.shared.bus import CommandRefused
from tests.builders.images import OCI_INDEX, index
from tests.builders.registry import ACCOUNT, REGION, registry_at, small_image
from tests.builders.scanner import advisories, packages, packed_image, scanner_at
from tests.builders.waiting import until
from tests.integration.test_registry_ecr import Boto

SOON = 30.0
CVE = "CVE-2023-0001"


class Time:
    """A clock that can be moved."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class World:
    """A registry with a bad image, and a scanner that knows of it."""

    def __init__(self, registry, scanner, agent, image, clock):
        self.registry, self.scanner, self.agent, self.image, self.clock = registry, scanner, agent, image, clock

    async def ask(self, method, path, body=None):
        """The status and answer of the scanner's door."""
        told = {"json": body, "headers": self.scanner.key} if body is not None else {}
        async with aiohttp.request(method, self.scanner.base + path, **told) as answer:
            return answer.status, await answer.json()

    async def set_gate(self, scope="*", severity="CRITICAL", **members):
        """Set a gate, as the registry sees it too."""
        before = len(self.registry.app.gates._gates.records())
        status, _ = await self.ask("PUT", "/gates", {"scope": scope, "severity": severity, **members})
        assert status == 200
        await until(lambda: len(self.registry.app.gates._gates.records()) > before, SOON)

    async def pull(self, cluster="default"):
        """Leave to run the image there: "" or why not."""
        request = IssuePullToken(
            image=f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/shop:1", account=ACCOUNT, region=REGION, cluster=cluster
        )
        try:
            await self.agent.call(ISSUE_PULL_TOKEN, request, timeout=30)
        except CommandRefused as refused:
            return refused.message
        return ""


@pytest.fixture
async def world(nats_platform, tmp_path):
    clock = Time()
    image = packed_image(packages())
    async with registry_at(nats_platform, tmp_path / "data", gate_wait_s=SOON, clock=clock) as registry:
        await registry.aws("CreateRepository", repositoryName="shop")
        async with scanner_at(nats_platform, tmp_path / "data", clock=clock) as scanner:
            await scanner.import_(advisories(tmp_path / "osv"))
            await registry.push_image("shop", image, "1")
            await until(lambda: scanner.done(image.digest), SOON)
            yield World(registry, scanner, await nats_platform.bus("agent"), image, clock)


async def test_the_gate_of_a_cluster_holds_for_its_tasks_alone(world):
    await world.set_gate("cluster/prod", "MEDIUM")
    assert await world.pull("dev") == ""
    assert "refused by the scan gate of cluster prod: 1 CRITICAL finding (CVE-2023-0001); 1 MEDIUM" in (
        await world.pull("prod")
    )
    await world.set_gate("cluster/apprunner")
    assert "gate of App Runner: 1 CRITICAL finding" in await world.pull(WORKLOADS_CLUSTER)
    await world.set_gate("repository/shop")
    assert "gate of repository shop: 1 CRITICAL finding (CVE-2023-0001); `roadstead scan" in await world.pull("dev")
    assert (await world.ask("PUT", "/gates", {"scope": "cluster/a b"}))[0] == 400


async def test_an_overridden_image_runs_until_that_ends_and_who_said_so_is_told(world):
    await world.set_gate()
    assert await world.pull() != ""
    wanted = {"repository": "shop", "reference": "1", "by": "ops", "until": world.clock() + 60}
    assert (await world.ask("PUT", "/overrides", wanted))[1] == {
        "error": "reason is missing: an override says why the image is to run"
    }
    status, told = await world.ask("PUT", "/overrides", {**wanted, "reason": "the shop is down without it"})
    assert (status, told["digest"]) == (200, world.image.digest)
    await until(lambda: world.registry.app.gates._overrides.records(), SOON)
    assert await world.pull() == ""
    _, shown = await world.ask("GET", "/gates")
    assert [(each["by"], each["reason"]) for each in shown["overrides"]] == [("ops", "the shop is down without it")]
    world.clock.ahead = 61.0
    assert await world.pull() != ""


async def test_an_override_is_taken_back(world):
    await world.set_gate()
    where = {"repository": "shop", "reference": world.image.digest}
    await world.ask("PUT", "/overrides", {**where, "reason": "just now"})
    await until(lambda: world.registry.app.gates._overrides.records(), SOON)
    assert (await world.ask("DELETE", "/overrides", where))[0] == 200
    await until(lambda: not world.registry.app.gates._overrides.records(), SOON)
    assert await world.pull() != ""
    assert (await world.ask("DELETE", "/overrides", where))[0] == 404
    missing = {"repository": "shop", "reference": "none", "reason": "r"}
    assert (await world.ask("PUT", "/overrides", missing))[0] == 404


async def test_suppressed_findings_open_no_gate_until_the_suppression_ends(world):
    await world.set_gate()
    wanted = {"advisory": CVE, "reason": "we don't call it", "repository": "shop", "until": world.clock() + 60}
    before = world.scanner.scans()
    assert (await world.ask("PUT", "/suppressions", wanted))[0] == 200
    assert await world.pull() == ""
    world.clock.ahead = 61.0
    assert CVE in await world.pull()
    assert world.scanner.scans() == before


async def test_one_that_is_taken_back_counts_again_and_another_package_counted_always(world):
    await world.set_gate()
    _, other = await world.ask("PUT", "/suppressions", {"advisory": CVE, "reason": "r", "package": "bash"})
    assert CVE in await world.pull()
    _, one = await world.ask("PUT", "/suppressions", {"advisory": CVE, "reason": "r", "package": "libssl3"})
    assert await world.pull() == ""
    _, listed = await world.ask("GET", "/suppressions")
    assert {each["id"] for each in listed["suppressions"]} == {one["id"], other["id"]}
    assert (await world.ask("DELETE", "/suppressions", {"id": one["id"]}))[0] == 200
    assert CVE in await world.pull()
    assert (await world.ask("DELETE", "/suppressions", {"id": one["id"]}))[0] == 404


async def test_ecr_leaves_suppressed_findings_out_and_enhanced_scanning_says_what_they_are(world):
    ecr = Boto(world.registry.port)
    await world.ask("PUT", "/suppressions", {"advisory": CVE, "reason": "we don't call it"})
    asked = {"repositoryName": "shop", "imageId": {"imageTag": "1"}}
    told = (await ecr.describe_image_scan_findings(**asked))["imageScanFindings"]
    assert [finding["name"] for finding in told["findings"]] == ["CVE-2023-0002", "NPM-1"]
    assert told["findingSeverityCounts"] == {"MEDIUM": 1, "LOW": 1}
    await ecr.put_registry_scanning_configuration(scanType="ENHANCED", rules=[])
    told = (await ecr.describe_image_scan_findings(**asked))["imageScanFindings"]
    found = [
        (each["packageVulnerabilityDetails"]["vulnerabilityId"], each["status"]) for each in told["enhancedFindings"]
    ]
    assert found == [(CVE, "SUPPRESSED"), ("CVE-2023-0002", "ACTIVE"), ("NPM-1", "ACTIVE")]


async def test_openvex_closes_findings_and_opens_them_again(world):
    await world.set_gate()
    statement = {
        "vulnerability": {"name": CVE},
        "products": [
            {"@id": f"pkg:oci/shop@{world.image.digest}", "subcomponents": [{"@id": "pkg:deb/debian/openssl"}]}
        ],
        "status": "not_affected",
        "justification": "vulnerable_code_not_in_execute_path",
    }
    document = {"@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://example.com/1", "statements": [statement]}
    status, told = await world.ask("POST", "/suppressions/openvex", {"document": document})
    assert (status, told) == (200, {"suppressed": 1, "lifted": 0, "skipped": []})
    assert await world.pull() == ""
    statement["status"] = "affected"
    _, told = await world.ask("POST", "/suppressions/openvex", {"document": document})
    assert told == {"suppressed": 0, "lifted": 1, "skipped": []}
    assert CVE in await world.pull()
    assert (await world.ask("POST", "/suppressions/openvex", {"document": {"a": 1}}))[0] == 400


async def test_only_who_shows_the_key_changes_anything(world):
    for method, path in (("PUT", "/suppressions"), ("PUT", "/overrides"), ("POST", "/scans"), ("DELETE", "/gates")):
        async with aiohttp.request(method, world.scanner.base + path, json={}) as answer:
            assert answer.status == 401
    assert world.scanner.app._store.table(SUPPRESSION).records() == []


async def test_an_image_is_told_of_with_all_that_was_found(world):
    await world.ask("PUT", "/suppressions", {"advisory": CVE, "reason": "we don't call it"})
    status, told = await world.ask("POST", "/scans", {"repository": "shop", "reference": "1"})
    (one,) = told["images"]
    assert (status, one["digest"], one["error"], one["packages"]) == (200, world.image.digest, "", 4)
    found = [(each["name"], each["suppressed"]) for each in one["findings"]]
    assert found == [(CVE, "we don't call it"), ("CVE-2023-0002", ""), ("NPM-1", "")]
    assert (await world.ask("POST", "/scans", {"repository": "shop", "reference": "none"}))[0] == 404


async def test_secrets_of_an_image_are_told_of_and_a_gate_may_count_them(world):
    key = "-----BEGIN PRIVATE KEY-----\n" + "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n" * 8 + "-----END PRIVATE KEY-----\n"
    image = packed_image({"/app/server.key": key}, {"/app/.wh.server.key": ""})
    await world.registry.push_image("shop", image, "1")
    await until(lambda: world.scanner.done(image.digest), SOON)
    _, told = await world.ask("POST", "/scans", {"repository": "shop", "reference": "1"})
    (one,) = told["images"]
    assert [(each["rule"], each["severity"], each["path"], each["line"]) for each in one["problems"]] == [
        ("private-key", "CRITICAL", "app/server.key", 1),
        ("runs-as-root", "MEDIUM", "config.User", 0),
    ]
    assert "MIIEvQ" not in str(told)
    assert world.scanner.done(image.digest)[0].problems == {"CRITICAL": 1, "MEDIUM": 1}
    await world.set_gate()
    assert await world.pull() == ""
    await world.set_gate("cluster/prod", secrets=True)
    assert "1 secret or misconfiguration of severity CRITICAL or worse" in await world.pull("prod")


async def test_what_can_not_be_scanned_is_told_so(world):
    broken = small_image((b"this is no tar at all, but long enough to be taken for one" * 20,))
    await world.registry.push_image("shop", broken, "broken")
    _, told = await world.ask("POST", "/scans", {"repository": "shop", "reference": "broken"})
    assert "no tar" in told["images"][0]["error"]


async def test_an_index_passes_when_all_that_counts_in_its_images_is_suppressed(world):
    await world.set_gate()
    rest = packed_image({"/etc/motd": "hello"})
    await world.registry.push_image("shop", rest, "2")
    manifests = index({"amd64": world.image, "arm64": rest})
    answer = await world.registry.ask("PUT", "shop/manifests/1", manifests, Content_Type=OCI_INDEX)
    assert answer.status == 201
    assert CVE in await world.pull()
    await world.ask("PUT", "/suppressions", {"advisory": CVE, "reason": "we don't call it"})
    assert await world.pull() == ""
    _, told = await world.ask("POST", "/scans", {"repository": "shop", "reference": "1"})
    assert {each["digest"] for each in told["images"]} == {world.image.digest, rest.digest}
