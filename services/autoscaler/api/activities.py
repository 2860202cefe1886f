"""What was done, newest first, and why.

https://docs.aws.amazon.com/autoscaling/application/APIReference/API_DescribeScalingActivities.html
"""

from __future__ import annotations

from contracts.aws import application_autoscaling as aas
from contracts.records.autoscaler import ScalingActivity
from services.autoscaler.api.base import AutoScalingBase
from services.autoscaler.decisions import names
from services.shared.aws.context import RequestContext


class Activities(AutoScalingBase):
    """DescribeScalingActivities."""

    async def describe_scaling_activities(
        self, context: RequestContext, request: aas.DescribeScalingActivitiesRequest
    ) -> aas.DescribeScalingActivitiesResponse:
        """The activities; those that scaled nothing only if they are asked for."""
        prefix = self.prefix(context, request)
        found = [] if prefix is None else self.world.activities.records(*prefix)
        found = [a for a in found if request.include_not_scaled_activities or not a.not_scaled]
        found.sort(key=_newest_first)
        shown, token = names.page(found, _newest_first, request.max_results, request.next_token)
        return aas.DescribeScalingActivitiesResponse(scaling_activities=[_shape(a) for a in shown], next_token=token)


def _newest_first(activity: ScalingActivity) -> str:
    """A text that sorts the newest first: what is left until the year 5138, in microseconds."""
    return f"{10**17 - int(activity.started_at * 1e6):018d} {activity.id}"


def _shape(activity: ScalingActivity) -> aas.ScalingActivity:
    return aas.ScalingActivity(
        activity_id=activity.id,
        service_namespace="ecs",
        resource_id=activity.resource,
        scalable_dimension=activity.dimension,  # type: ignore[arg-type]
        description=activity.description,
        cause=activity.cause,
        start_time=activity.started_at,
        end_time=activity.ended_at,
        status_code=activity.status,  # type: ignore[arg-type]
        status_message=activity.status_message or None,
        not_scaled_reasons=[
            aas.NotScaledReason(
                code=n.code,
                max_capacity=n.max_capacity,
                min_capacity=n.min_capacity,
                current_capacity=n.current_capacity,
            )
            for n in activity.not_scaled
        ]
        or None,
    )
