"""Container health checks, as Docker runs them and ECS names their outcome.

https://docs.docker.com/reference/dockerfile/#healthcheck and the HealthCheck shape of the ECS API: a failure counts
when the start period is over, or when a check had succeeded before; `retries` failures in a row are UNHEALTHY, one
success is HEALTHY. The first check comes one interval after the start.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

UNKNOWN, HEALTHY, UNHEALTHY = "UNKNOWN", "HEALTHY", "UNHEALTHY"


class HealthCheck(msgspec.Struct, frozen=True):
    """A health check; times in seconds. `argv` is what runs inside the container."""

    argv: list[str]
    interval_s: float = 30.0
    timeout_s: float = 5.0
    retries: int = 3
    start_period_s: float = 0.0


class Health(msgspec.Struct, frozen=True):
    """Where a container's health stands. `succeeded`: once was healthy."""

    status: str = UNKNOWN
    failures: int = 0
    succeeded: bool = False


def after_check(check: HealthCheck, health: Health, passed: bool, age_s: float) -> Health:
    """The health after one more check, of a container that started `age_s` seconds ago."""
    if passed:
        return Health(HEALTHY, 0, True)
    if age_s < check.start_period_s and not health.succeeded:
        return health
    failures = health.failures + 1
    return Health(UNHEALTHY if failures >= check.retries else health.status, failures, health.succeeded)


def task_health(containers: Iterable[tuple[bool, bool, str]]) -> str:
    """A task's health out of its containers' (essential, has a check, status): only essential ones with a check
    count."""
    counted = [status for essential, checked, status in containers if essential and checked]
    if UNHEALTHY in counted:
        return UNHEALTHY
    return HEALTHY if counted and all(status == HEALTHY for status in counted) else UNKNOWN
