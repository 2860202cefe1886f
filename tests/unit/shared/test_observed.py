"""Gauges that are looked up when somebody asks."""

from __future__ import annotations

import re

from services.shared.metrics import Metrics


def values(metrics: Metrics, name: str) -> dict[str, float]:
    """Labels, as they are written, -> value."""
    found = re.findall(rf"^{name}(\{{[^}}]*\}})? (\S+)$", metrics.expose().decode(), re.MULTILINE)
    return {labels: float(value) for labels, value in found}


def test_the_value_is_that_of_the_moment_when_it_is_asked_for():
    metrics, present = Metrics("t"), {("a", "x"): 1.0}
    metrics.observed("things", "Things", ("kind", "place"), lambda: present)
    assert values(metrics, "roadstead_things") == {'{kind="a",place="x"}': 1.0}
    present.clear()
    present["b", "y"] = 2.0
    assert values(metrics, "roadstead_things") == {'{kind="b",place="y"}': 2.0}


def test_nothing_is_looked_up_before_somebody_asks():
    asked: list[int] = []
    metrics = Metrics("t")
    metrics.observed("late", "Late", (), lambda: asked.append(1) or {(): 1.0})
    assert asked == []
    assert values(metrics, "roadstead_late") == {"": 1.0}
