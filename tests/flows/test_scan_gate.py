"""A gate on images: what was found in one keeps its tasks from running, and the refused task says so."""

import json
import subprocess
import urllib.request

import pytest

from services.testing.platform import CLI, HOME
from tests.builders.images import busybox_image
from tests.builders.platform import FARGATE, sleeper, until
from tests.builders.scanner import RECORDS, advisories, packages

CLUSTER = "gated"
GATED = "gated"
OTHER = "ungated"


@pytest.fixture(scope="module")
def ecs(platform):
    client = platform.client("ecs")
    client.create_cluster(clusterName=CLUSTER)
    return client


@pytest.fixture(scope="module")
def osv(platform, tmp_path_factory):
    folder = advisories(tmp_path_factory.mktemp("osv") / "records", [*RECORDS, {"broken": True}])
    return platform.command("advisories", "import", str(folder))


@pytest.fixture
def gate(platform):
    yield lambda *more: platform.command("gate", "set", "--repository", GATED, "--severity", "CRITICAL", *more)
    platform.command("gate", "remove", "--repository", GATED, check=False)


@pytest.fixture(scope="module")
def bad(platform, osv):
    return platform.push(busybox_image(packages()), GATED)


def started(ecs, uri):
    """A task of this image: as it is once it runs or has ended."""
    definition = ecs.register_task_definition(**sleeper(uri))["taskDefinition"]["taskDefinitionArn"]
    task = ecs.run_task(cluster=CLUSTER, taskDefinition=definition, **FARGATE)["tasks"][0]["taskArn"]

    def settled():
        (found,) = ecs.describe_tasks(cluster=CLUSTER, tasks=[task])["tasks"]
        return found if found["lastStatus"] in ("RUNNING", "STOPPED") else None

    return until(settled, 60)


def scanned(platform, *arguments):
    """The exit code of `roadstead scan`."""
    command = [*CLI, "scan", *arguments, "--data", str(platform.data)]
    return subprocess.run(command, cwd=HOME, check=False).returncode


def test_advisories_are_imported_and_told_of(platform, osv):
    assert osv.startswith("3 advisories of ")
    assert "1 skipped" in osv
    assert "Debian:12 (1 packages)" in platform.command("advisories", "status")


def test_a_task_of_a_bad_image_is_refused_and_says_why(platform, ecs, bad, gate):
    assert gate().startswith(f"set: repository {GATED} ")
    assert "CRITICAL or worse" in platform.command("gate", "show")
    task = started(ecs, bad)
    assert (task["lastStatus"], task["stopCode"]) == ("STOPPED", "TaskFailedToStart")
    assert task["stoppedReason"].startswith("CannotPullContainerError: ")
    assert f"scan gate of repository {GATED}: 1 CRITICAL finding (CVE-2023-0001)" in task["stoppedReason"]
    assert f"`roadstead scan {GATED}@sha256:" in task["stoppedReason"]


def test_an_image_without_such_findings_runs_as_soon_as_it_is_scanned(platform, ecs, osv, gate):
    gate()
    good = platform.push(busybox_image({"/etc/motd": "nothing in here"}), GATED, "good")
    assert started(ecs, good)["lastStatus"] == "RUNNING"


def test_a_gate_of_one_repository_is_not_anothers(platform, ecs, osv, gate):
    gate()
    assert started(ecs, platform.push(busybox_image(packages()), OTHER))["lastStatus"] == "RUNNING"


def test_a_cluster_has_a_gate_of_its_own_which_an_override_lets_an_image_through(platform, ecs, osv):
    image = platform.push(busybox_image(packages()), OTHER)
    assert platform.command("gate", "set", "--cluster", CLUSTER, "--severity", "low").startswith("set: cluster gated ")
    try:
        assert f"scan gate of cluster {CLUSTER}: 1 CRITICAL finding" in started(ecs, image)["stoppedReason"]
        told = platform.command("gate", "override", image, "--reason", "until the fix is out", "--until", "1h")
        assert "runs whatever gates say until " in told
        assert "until the fix is out" in platform.command("gate", "show")
        assert started(ecs, image)["lastStatus"] == "RUNNING"
    finally:
        platform.command("gate", "restore", image, check=False)
        platform.command("gate", "remove", "--cluster", CLUSTER)


def test_a_pipeline_fails_by_what_is_found_and_not_by_what_is_suppressed(platform, bad):
    assert scanned(platform, bad) == 0
    assert scanned(platform, bad, "--fail-on", "critical") == 1
    told = platform.command("scan", bad).splitlines()
    assert told[0].startswith(f"{GATED}@sha256:")
    assert told[1].split() == ["SEVERITY", "FINDING", "PACKAGE", "INSTALLED", "FIXED", "IN"]
    assert told[2].split() == ["CRITICAL", "CVE-2023-0001", "libssl3", "3.0.9-1", "3.0.10-1"]
    told = platform.command("findings", "suppress", "CVE-2023-0001", "--reason", "not called", "--package", "libssl3")
    try:
        assert scanned(platform, bad, "--fail-on", "high") == 0
        assert scanned(platform, bad, "--fail-on", "medium", "--fixable-only") == 1
        assert "not called" in platform.command("findings", "list")
        (run,) = json.loads(platform.command("scan", bad, "--format", "sarif"))["runs"]
        assert run["results"][0]["suppressions"] == [{"kind": "external", "justification": "not called"}]
    finally:
        platform.command("findings", "unsuppress", told.split()[1])
    assert scanned(platform, bad, "--fail-on", "critical") == 1


def test_what_can_not_be_scanned_is_another_exit_code(platform, osv):
    assert scanned(platform, f"{GATED}:no-such-tag") == 2
    assert scanned(platform, "No Image") == 2


def test_a_service_gets_its_tasks_when_the_gate_goes(platform, ecs, bad, gate):
    gate("--fixable-only")
    definition = ecs.register_task_definition(**sleeper(bad))["taskDefinition"]["taskDefinitionArn"]
    ecs.create_service(cluster=CLUSTER, serviceName="s", taskDefinition=definition, desiredCount=1, **FARGATE)
    until(lambda: ecs.list_tasks(cluster=CLUSTER, serviceName="s", desiredStatus="STOPPED")["taskArns"], 60)
    platform.command("gate", "remove", "--repository", GATED)
    running = lambda: ecs.describe_services(cluster=CLUSTER, services=["s"])["services"][0]["runningCount"] == 1  # noqa: E731
    until(running, 90)
    ecs.delete_service(cluster=CLUSTER, service="s", force=True)


def test_push_and_scan_are_one_trace(platform, bad):
    port = next(s["port"] for s in platform.info["services"] if s["name"] == "monitor")

    def told(path):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return json.load(answer)

    def whole():
        for trace in told("/traces?limit=200")["traces"]:
            names = {span["name"] for span in told(f"/traces/{trace['trace_id']}")["spans"]}
            if {"scanner.scan", "scanner.layer", "scanner.match"} <= names:
                return names
        return None

    assert "on image.pushed.v1" in until(whole, 30)


def test_a_new_advisory_is_found_in_an_image_that_lies_there_and_who_listens_hears_of_it(
    platform, bad, tmp_path_factory
):
    ecr = platform.client("ecr")
    asked = {"repositoryName": GATED, "imageId": {"imageTag": "1"}}

    def named():
        told = ecr.describe_image_scan_findings(**asked)
        assert told["imageScanStatus"]["status"] == "COMPLETE"  # all the time
        return {finding["name"]: finding for finding in told["imageScanFindings"]["findings"]}

    layers = platform.data / "scanner" / "layers"
    assert "NPM-9" not in named()
    read = {path: path.stat().st_atime_ns for path in layers.iterdir()}
    new = {**RECORDS[2], "id": "NPM-9", "aliases": ["CVE-2024-0009"], "modified": "2024-01-01T00:00:00Z"}
    folder = advisories(tmp_path_factory.mktemp("osv") / "more", [new])
    assert platform.command("advisories", "import", str(folder)).startswith("1 advisories of ")
    until(lambda: "CVE-2024-0009" in named(), 60)
    assert {path: path.stat().st_atime_ns for path in layers.iterdir()} == read
    pattern = json.dumps({"source": ["aws.ecr"], "detail": {"finding-severity-counts": {"LOW": [2]}}})
    until(lambda: platform.command("events", "--pattern", pattern), 60)
    told = platform.command("advisories", "status")
    assert "3 entries" in told and "1 entries" in told
