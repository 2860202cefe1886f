"""The dashboard and the scraping against a running platform: every metric that is asked for is served."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import urllib.request

import pytest

from tests.builders.platform import ROOT

HERE = ROOT / "deploy/observability"
DASHBOARD = json.loads((HERE / "grafana/dashboards/roadstead.json").read_text())
METRIC = re.compile(r"\broadstead_\w+")
SUFFIXES = ("_bucket", "_sum", "_count")


def asked_for() -> dict[str, set[str]]:
    """Metric -> the labels that the dashboard uses of it."""
    found: dict[str, set[str]] = {}
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            labels = {word for inside in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]) for word in [inside]}
            for group in re.findall(r"by \(([^)]*)\)", target["expr"]):
                labels |= {word.strip() for word in group.split(",")}
            for metric in METRIC.findall(target["expr"]):
                found.setdefault(metric, set()).update(labels - {"le", "job"})
    return found


@pytest.fixture(scope="module")
def served(platform) -> dict[str, str]:
    """What every service serves at /metrics, after a call: name of the service -> text."""
    platform.client("ecs").create_cluster(clusterName="observed")
    found = {}
    for running in platform.info["services"]:
        with urllib.request.urlopen(f"http://127.0.0.1:{running['port']}/metrics", timeout=10) as answer:
            found[running["instance"]] = answer.read().decode()
    return found


def test_every_metric_of_the_dashboard_is_served(served):
    families = {name for text in served.values() for name in re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)}
    families |= {name + suffix for name in families for suffix in SUFFIXES}
    assert set(asked_for()) - families == set()


def test_the_labels_that_the_dashboard_groups_by_are_there(served):
    series = re.compile(r"^(roadstead_\w+)(?:\{([^}]*)\})? ", re.MULTILINE)
    labelled: dict[str, set[str]] = {}
    for text in served.values():
        for name, inside in series.findall(text):
            labelled.setdefault(name, set()).update(re.findall(r"(\w+)=", inside))
    for name, labels in asked_for().items():
        if name in labelled and len(labels) and name not in ("roadstead_tasks",):
            assert labels <= labelled[name], name


def test_every_service_tells_of_nats(served):
    assert all("roadstead_nats_connected 1.0" in text for text in served.values())
    assert 'roadstead_nodes{state="ready"} 3.0' in served["scheduler"]


def test_prometheus_takes_every_page_and_its_own_configuration(served, tmp_path):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    checked = subprocess.run(
        [promtool, "check", "config", str(HERE / "prometheus.yml")], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    for name, text in served.items():
        done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        faults = [line for line in done.stderr.splitlines() if "error" in line.lower()]
        assert faults == [], name
    rules = [
        {"record": f"panel:{n}", "expr": t["expr"]} for n, p in enumerate(DASHBOARD["panels"]) for t in p["targets"]
    ]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    parsed = subprocess.run(
        [promtool, "check", "rules", str(tmp_path / "rules.yml")], capture_output=True, text=True, check=False
    )
    assert parsed.returncode == 0, parsed.stdout + parsed.stderr


@pytest.mark.docker
def test_the_overlay_is_one_that_compose_takes(tmp_path):
    program = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]
    secrets = tmp_path / "env"
    subprocess.run([sys.executable, str(ROOT / "deploy/compose_env.py"), str(secrets)], check=True, capture_output=True)
    files = ["-f", "docker-compose.yml", "-f", "deploy/observability/compose.yml"]
    done = subprocess.run(
        [*program, "--env-file", str(secrets), *files, "config"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "OTEL_EXPORTER_OTLP_ENDPOINT: http://jaeger:4318" in done.stdout
