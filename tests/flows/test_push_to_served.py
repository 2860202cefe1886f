"""The way of docs/flow.md, with the shop of examples/: pushed, scanned, placed, found, served; one trace of it all."""

import json
import os
import urllib.request

import pytest

from examples.shop.deployment import Shop, address
from tests.builders.platform import ROOT, until


@pytest.fixture(scope="module")
def shop(platform):
    """The shop on this platform: its advisory imported, a gate for the frontend alone."""
    if os.geteuid() != 0:
        pytest.skip("real containers take root")
    platform.command("advisories", "import", str(ROOT / "examples" / "shop" / "advisories"))
    platform.command("gate", "set", "--severity", "CRITICAL", "--repository", "shop/frontend")
    shop = Shop(platform)
    shop.push("backend", "1.0")
    shop.push("frontend", "1.0")
    yield shop
    platform.command("gate", "remove", "--repository", "shop/frontend")
    if shop.arn:
        until(lambda: shop.status() != "OPERATION_IN_PROGRESS", 60)
        shop.app_runner.delete_service(ServiceArn=shop.arn)
    shop.ecs.delete_service(cluster="shop", service="backend", force=True)


def test_each_image_is_scanned_as_it_is_pushed(shop):
    assert shop.findings("backend", "1.0")["findingSeverityCounts"] == {}
    found = shop.findings("frontend", "1.0")
    assert found["findingSeverityCounts"] == {"CRITICAL": 1}
    assert [finding["name"] for finding in found["findings"]] == ["CVE-2020-14343"]


def test_the_backend_is_placed_over_the_zones_and_found_by_name(shop):
    shop.deploy_backend(3)
    tasks = shop.running()
    assert len({task["availabilityZone"] for task in tasks}) == 3
    assert shop.names() == sorted(address(task) for task in tasks)


def test_an_image_with_a_critical_finding_does_not_run_and_says_so(shop):
    assert ": 1 CRITICAL finding (CVE-2020-14343)" in shop.refusal("frontend", "1.0")


def test_the_frontend_answers_over_https_with_what_it_asked_the_backend(shop):
    shop.push("frontend", "1.1")
    shop.release("1.1")
    shop.deploy_frontend("1.1")
    said = until(shop.version, 30)
    assert said.startswith("version 1.1; stock from a backend in us-east-1")


def test_a_push_is_served_and_one_trace_goes_all_the_way(shop):
    shop.release("1.2")
    until(lambda: shop.version().startswith("version 1.2"), 60)
    until(lambda: {"first request", "discovery.register"} <= {name for _, name in spans_of_the_push(shop)}, 30)
    assert set(spans_of_the_push(shop)) >= {
        ("registry", "push shop/frontend"),
        ("registry", "PUT manifest"),
        ("scanner", "scanner.scan"),
        ("app_runner_gateway", "app_runner.deploy"),
        ("scheduler", "scheduler.reconcile"),
        ("agent", "agent.pull"),
        ("registry", "registry.gate"),
        ("agent", "agent.start_container"),
        ("discovery", "discovery.register"),
        ("app_runner_gateway", "first request"),
    }


def spans_of_the_push(shop: Shop) -> list[tuple[str, str]]:
    """(service, name) of every span in the trace of the frontend's newest push."""
    trace = shop.push_trace()
    port = next(s["port"] for s in shop.platform.info["services"] if s["name"] == "monitor")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/traces/{trace}", timeout=10) as answer:
        return [(span["service"], span["name"]) for span in json.load(answer)["spans"]]
