"""Whether an instance is healthy: a row of checks against two thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

FIRST_WAIT_S = 0.05


class Check(msgspec.Struct, frozen=True):
    """How an instance is checked. protocol: TCP | HTTP | HTTPS. Times are seconds; `codes`: which HTTP answers are
    good, each from and to."""

    protocol: str = "TCP"
    path: str = "/"
    interval: float = 5.0
    timeout: float = 2.0
    healthy: int = 1
    unhealthy: int = 5
    codes: tuple[tuple[int, int], ...] = ((200, 399),)


class Health(msgspec.Struct, frozen=True):
    """state: STARTING | HEALTHY | UNHEALTHY; how many checks in a row went the same way; how many there were."""

    state: str = "STARTING"
    passed: int = 0
    failed: int = 0
    checks: int = 0


def check_of(configuration: Mapping[str, Any]) -> Check:
    """The check that a HealthCheckConfiguration (wire form, defaults filled in) asks for."""
    return Check(
        protocol=configuration["Protocol"],
        path=configuration["Path"],
        interval=float(configuration["Interval"]),
        timeout=float(configuration["Timeout"]),
        healthy=configuration["HealthyThreshold"],
        unhealthy=configuration["UnhealthyThreshold"],
    )


def after(health: Health, good: bool, check: Check) -> Health:
    """The health after one more check. An instance that has not been healthy yet is starting, however often it
    fails."""
    passed, failed = (health.passed + 1, 0) if good else (0, health.failed + 1)
    state = health.state
    if passed >= check.healthy:
        state = "HEALTHY"
    elif failed >= check.unhealthy and state == "HEALTHY":
        state = "UNHEALTHY"
    return Health(state, passed, failed, health.checks + 1)


def wait(health: Health, check: Check) -> float:
    """Seconds to the next check: one that starts is asked soon and then less and less often, so that it is in use a
    moment after it can be."""
    if health.state == "STARTING":
        return min(check.interval, FIRST_WAIT_S * 1.3 ** min(health.checks, 40))
    return check.interval
