"""Activities: what they say, how they end, and what they tell of the past.

https://docs.aws.amazon.com/autoscaling/application/userguide/application-auto-scaling-scaling-activities.html
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from contracts.records.autoscaler import NotScaled, ScalableTarget, ScalingActivity, ScheduledAction
from contracts.records.scheduler import Service
from services.autoscaler.decisions.names import derived_uuid
from services.autoscaler.decisions.values import History, Past, Wish

KEPT = 100
"""Activities kept of one target, and for how long: six weeks, as AWS does."""
KEPT_S = 42 * 86400
OPEN = ("Pending", "InProgress")
ATTEMPT = "Attempting to scale due to alarm triggered"


def scaling(
    target: ScalableTarget, activity_id: str, now: float, *, before: int, after: int, trigger: str, cause: str,
    policies: list[str],
) -> ScalingActivity:  # fmt: skip
    """The decision to change the desired count, not yet carried out."""
    return ScalingActivity(
        account=target.account,
        region=target.region,
        resource=target.resource,
        dimension=target.dimension,
        id=activity_id,
        trigger=trigger,
        description=f"Setting desired count to {after}.",
        cause=cause,
        status="Pending",
        started_at=now,
        before=before,
        after=after,
        policies=policies,
    )


def not_scaled(
    target: ScalableTarget, activity_id: str, now: float, wishes: Iterable[Wish], reason: NotScaled
) -> ScalingActivity:
    """Policies wanted what can't be had."""
    wishes = list(wishes)
    return ScalingActivity(
        account=target.account,
        region=target.region,
        resource=target.resource,
        dimension=target.dimension,
        id=activity_id,
        trigger="policy",
        description=ATTEMPT,
        cause=cause_of(wishes),
        status="Failed",
        started_at=now,
        ended_at=now,
        policies=[w.policy for w in wishes],
        not_scaled=[reason],
    )


def bounded(target: ScalableTarget, action: ScheduledAction, occurrence: float, now: float) -> ScalingActivity:
    """A scheduled action has set min and max. Its id comes of the occurrence, so that it is told of once."""
    low, high = wanted_bounds(target, action)
    what = f"min capacity to {low} and max capacity to {high}"
    fits = low <= high
    why = "" if fits else " Reason: the minimum would be greater than the maximum."
    return ScalingActivity(
        account=target.account,
        region=target.region,
        resource=target.resource,
        dimension=target.dimension,
        id=derived_uuid(action.id, repr(occurrence)),
        trigger="schedule",
        description=f"Setting {what}",
        cause=f"scheduled action name {action.name} was triggered",
        status="Successful" if fits else "Failed",
        status_message=f"Successfully set {what}" if fits else f"Failed to set {what}.{why}",
        started_at=now,
        ended_at=now,
    )


def wanted_bounds(target: ScalableTarget, action: ScheduledAction) -> tuple[int, int]:
    """Min and max as the action wants them; what it does not name stays."""
    low = target.min_capacity if action.min_capacity is None else action.min_capacity
    high = target.max_capacity if action.max_capacity is None else action.max_capacity
    return low, high


def cause_of(wishes: Iterable[Wish]) -> str:
    """Why policies want something, in one line."""
    return "; ".join(w.why if not w.tracking else f"policy {w.name}: {w.why}" for w in wishes)


def asked(activity: ScalingActivity) -> ScalingActivity:
    """ECS wants the count now."""
    text = f"Successfully set desired count to {activity.after}. Waiting for change to be fulfilled by ecs."
    return replace(activity, status="InProgress", status_message=text)


def failed(activity: ScalingActivity, reason: str, now: float) -> ScalingActivity:
    """ECS refused."""
    text = f"Failed to set desired count to {activity.after}. Reason: {reason}"
    return replace(activity, status="Failed", status_message=text, ended_at=now)


def settled(activity: ScalingActivity, service: Service | None, now: float) -> ScalingActivity:
    """What an activity in progress has become: fulfilled when the service is steady at its count, overridden when
    another count is wanted by now, else itself."""
    if activity.status != "InProgress":
        return activity
    if service is None or service.status != "ACTIVE":
        return failed(activity, "the service is gone.", now)
    if service.desired_count != activity.after:
        return overridden(activity, service.desired_count, now)
    if not service.steady:
        return activity
    text = f"Successfully set desired count to {activity.after}. Change successfully fulfilled by ecs."
    return replace(activity, status="Successful", status_message=text, ended_at=now)


def overridden(activity: ScalingActivity, by: int, now: float) -> ScalingActivity:
    """Another count is wanted by now."""
    text = f"Another desired count, {by}, is wanted by now."
    return replace(activity, status="Overridden", status_message=text, ended_at=now)


def told_before(activities: Iterable[ScalingActivity], new: ScalingActivity) -> bool:
    """Whether the newest activity says the same of the same policies: nothing new happened."""
    newest = max(activities, key=lambda a: a.started_at, default=None)
    if newest is None or not newest.not_scaled:
        return False
    return newest.not_scaled[0].code == new.not_scaled[0].code and newest.policies == new.policies


def history(activities: Iterable[ScalingActivity]) -> History:
    """The last scaling in each direction by policies, and the last one at all."""
    out = into = None
    last = 0.0
    for activity in activities:
        if activity.after is None or activity.before is None or activity.status == "Failed":
            continue
        last = max(last, activity.started_at)
        if activity.trigger != "policy":
            continue
        past = Past(at=activity.started_at, before=activity.before, after=activity.after)
        if past.after > past.before:
            out = past if out is None or past.at > out.at else out
        else:
            into = past if into is None or past.at > into.at else into
    return History(out=out, into=into, last_at=last)


def superfluous(activities: Iterable[ScalingActivity], now: float) -> list[ScalingActivity]:
    """Those that need not be kept any longer. What is not at an end stays."""
    ended = sorted((a for a in activities if a.status not in OPEN), key=lambda a: a.started_at, reverse=True)
    return [a for i, a in enumerate(ended) if i >= KEPT or a.started_at < now - KEPT_S]
