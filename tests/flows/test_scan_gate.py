"""A gate on images: what was found in one keeps its tasks from running, and the refused task says so."""

import json
import urllib.request

import pytest

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
    assert "refused by the scan gate: 1 CRITICAL finding (CVE-2023-0001)" in task["stoppedReason"]


def test_an_image_without_such_findings_runs_as_soon_as_it_is_scanned(platform, ecs, osv, gate):
    gate()
    good = platform.push(busybox_image({"/etc/motd": "nothing in here"}), GATED, "good")
    assert started(ecs, good)["lastStatus"] == "RUNNING"


def test_a_gate_of_one_repository_is_not_anothers(platform, ecs, osv, gate):
    gate()
    assert started(ecs, platform.push(busybox_image(packages()), OTHER))["lastStatus"] == "RUNNING"


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
