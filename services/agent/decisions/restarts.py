"""Whether a container that ended is started again, without its task being replaced.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/container-restart-policy.html
"""

from __future__ import annotations

from typing import Any

import msgspec

from services.agent.values import Exit

DEFAULT_PERIOD_S = 300.0


class RestartPolicy(msgspec.Struct, frozen=True):
    """A container that ran for `period_s` seconds is started again, unless it ended with one of the `ignored` codes."""

    period_s: float = DEFAULT_PERIOD_S
    ignored: tuple[int, ...] = ()


def restart_policy(definition: dict[str, Any]) -> RestartPolicy | None:
    """A container definition's policy (wire form); None when it has none or it is not enabled."""
    given = definition.get("restartPolicy") or {}
    if not given.get("enabled"):
        return None
    period = given.get("restartAttemptPeriod")
    return RestartPolicy(
        DEFAULT_PERIOD_S if period is None else float(period), tuple(given.get("ignoredExitCodes") or ())
    )


def restarts(policy: RestartPolicy | None, exit: Exit, started_at: float | None) -> bool:
    """Whether a container that ended so is started again. It lasted from its latest start, so there is at most one
    restart a period."""
    if policy is None or exit.code in policy.ignored:
        return False
    began = exit.started_at or started_at
    # One that ends at once may have its end written down before its start is.
    return bool(began) and max(0.0, exit.finished_at - (began or 0.0)) >= policy.period_s
