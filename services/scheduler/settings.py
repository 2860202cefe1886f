"""What the scheduler can be told (`ROADSTEAD_SCHEDULER_…`)."""

from __future__ import annotations

import msgspec

from services.scheduler.decisions.backoff import BackoffRules


class SchedulerSettings(msgspec.Struct, kw_only=True, frozen=True):
    """Times are seconds.

    A node is lost after `node_silence_s` without a heartbeat, an external one (ECS Anywhere) after
    `external_silence_s`; 0: never, as with ECS: it only takes no new tasks while it is silent. Stopped tasks, and
    inactive services and clusters, are shown for `keep_stopped_s`. `backoff_base_s` doubles up to `backoff_limit_s`
    while a service's tasks fail before they have run for `settled_s`. A lifecycle hook's target is to answer within
    `hook_timeout_s`. A task of an Express service that is to stop has `drain_s` for its last requests; its
    deployments are watched for `express_bake_minutes` with a part of the requests, and again with all of them.
    """

    node_silence_s: float = 10.0
    external_silence_s: float = 0.0
    keep_stopped_s: float = 3600.0
    backoff_base_s: float = 1.0
    backoff_limit_s: float = 300.0
    settled_s: float = 10.0
    lease_ttl_s: float = 10.0
    hook_timeout_s: float = 60.0
    drain_s: float = 30.0
    express_bake_minutes: int = 3

    def backoff(self) -> BackoffRules:
        """The rules that rollouts are decided by."""
        return BackoffRules(base_s=self.backoff_base_s, limit_s=self.backoff_limit_s, settled_s=self.settled_s)
