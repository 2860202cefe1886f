"""deploy/observability agrees with docker-compose.yml: who is traced, who is scraped."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
HERE = ROOT / "deploy/observability"


def names(text: str) -> set[str]:
    """The services of a compose file."""
    inside = text.partition("\nservices:\n")[2].partition("\nvolumes:")[0]
    return set(re.findall(r"^  ([a-z][\w-]*):", inside, re.MULTILINE))


PLATFORM = names((ROOT / "docker-compose.yml").read_text()) - {"nats", "provision"}
OVERLAY = (HERE / "compose.yml").read_text()


def test_every_service_of_the_platform_is_traced():
    assert names(OVERLAY) == PLATFORM | {"jaeger", "prometheus", "grafana"}
    assert set(re.findall(r"^  ([\w-]+): \*traced$", OVERLAY, re.MULTILINE)) == PLATFORM


def test_every_service_of_the_platform_is_scraped():
    scraped = set(re.findall(r"- ([\w-]+):8080", (HERE / "prometheus.yml").read_text()))
    assert scraped == PLATFORM


def test_what_is_mounted_is_there_and_the_dashboard_uses_data_sources_that_are_provisioned():
    for path in re.findall(r"- \./(\S+?):/", OVERLAY):
        assert (ROOT / path).exists(), path
    provisioned = set(re.findall(r"uid: (\w+)", (HERE / "grafana/provisioning/datasources/roadstead.yml").read_text()))
    dashboard = json.loads((HERE / "grafana/dashboards/roadstead.json").read_text())
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} <= provisioned
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))


def test_no_panel_lies_on_another():
    panels = json.loads((HERE / "grafana/dashboards/roadstead.json").read_text())["panels"]
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in panels):
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken and place["x"] + place["w"] <= 24
        taken |= cells
