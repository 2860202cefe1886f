"""What the autoscaler stores: scalable targets, their policies and scheduled actions, and what was done, and why.

`resource` is AWS' resource id, `service/<cluster>/<service>`; `dimension` is `ecs:service:DesiredCount`. Capacities
are numbers of tasks.
"""

from typing import Any

import msgspec

from contracts.kinds import Kind


class Suspended(msgspec.Struct, kw_only=True, frozen=True):
    """What a target must not do now: scale in or out by policies, act on its schedule."""

    scale_in: bool = False
    scale_out: bool = False
    scheduled: bool = False


class ScalableTarget(msgspec.Struct, kw_only=True, frozen=True):
    """A service that may be scaled between min and max.

    `settled` is False from a change of min or max until the service's count has been looked at and, if it was
    outside, brought inside. `fired` is the occurrence (epoch seconds) that each scheduled action, by its id, was last
    acted upon for: it changes in the same write as min and max do. `express_at` is the `wanted_at` of the Express
    service's scaling that the target was made of, or brought up to; None: nobody but its owner says what it is.
    """

    account: str
    region: str
    resource: str
    dimension: str
    id: str
    min_capacity: int
    max_capacity: int
    role_arn: str
    created_at: float
    settled: bool = False
    suspended: Suspended = Suspended()
    fired: dict[str, float] = {}
    tags: dict[str, str] = {}
    express_at: float | None = None


class ScalingPolicy(msgspec.Struct, kw_only=True, frozen=True):
    """A policy. type: TargetTrackingScaling | StepScaling. `configuration` is that type's own, in wire form."""

    account: str
    region: str
    resource: str
    dimension: str
    name: str
    id: str
    type: str
    configuration: dict[str, Any]
    created_at: float


class ScheduledAction(msgspec.Struct, kw_only=True, frozen=True):
    """Other bounds at times. `schedule` is at(…), rate(…) or cron(…), in `timezone`.

    It counts from `put_at`: occurrences before are none of its own.
    """

    account: str
    region: str
    resource: str
    dimension: str
    name: str
    id: str
    schedule: str
    timezone: str
    created_at: float
    put_at: float
    start_time: float | None = None
    end_time: float | None = None
    min_capacity: int | None = None
    max_capacity: int | None = None


class NotScaled(msgspec.Struct, kw_only=True, frozen=True):
    """Why nothing was done. code: AlreadyAtMaxCapacity | AlreadyAtMinCapacity | AlreadyAtDesiredCapacity."""

    code: str
    max_capacity: int | None = None
    min_capacity: int | None = None
    current_capacity: int | None = None


class ScalingActivity(msgspec.Struct, kw_only=True, frozen=True):
    """One thing that was done, or not, to a target, and why.

    status: Pending (decided, not yet asked of ECS) | InProgress (ECS wants it) | Successful (as many tasks run) |
    Overridden | Failed. `before` and `after` are desired counts, None where only min and max change. `policies` are the
    ids of those that wanted it; `trigger` is policy | bounds | schedule.
    """

    account: str
    region: str
    resource: str
    dimension: str
    id: str
    trigger: str
    description: str
    cause: str
    status: str
    started_at: float
    status_message: str = ""
    ended_at: float | None = None
    before: int | None = None
    after: int | None = None
    policies: list[str] = []
    not_scaled: list[NotScaled] = []


_TARGET = ("account", "region", "resource", "dimension")

SCALABLE_TARGET = Kind("autoscaler", "target", ScalableTarget, _TARGET)
SCALING_POLICY = Kind("autoscaler", "policy", ScalingPolicy, (*_TARGET, "name"))
SCHEDULED_ACTION = Kind("autoscaler", "scheduled_action", ScheduledAction, (*_TARGET, "name"))
SCALING_ACTIVITY = Kind("autoscaler", "activity", ScalingActivity, (*_TARGET, "id"))

KINDS = (SCALABLE_TARGET, SCALING_POLICY, SCHEDULED_ACTION, SCALING_ACTIVITY)
