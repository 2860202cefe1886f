"""Scheduled actions: other bounds at times.

https://docs.aws.amazon.com/autoscaling/application/APIReference/API_PutScheduledAction.html
"""

from __future__ import annotations

from contracts.aws import application_autoscaling as aas
from contracts.records.autoscaler import SCHEDULED_ACTION, ScheduledAction
from services.autoscaler.api.base import AutoScalingBase
from services.autoscaler.api.targets import check_bounds
from services.autoscaler.decisions import names, schedules
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError

MOST_ACTIONS = 200


class ScheduledActions(AutoScalingBase):
    """PutScheduledAction and its like."""

    async def put_scheduled_action(
        self, context: RequestContext, request: aas.PutScheduledActionRequest
    ) -> aas.PutScheduledActionResponse:
        """Make a scheduled action, or change what is given of one. It is acted upon from now on."""
        target = self.registered(context, request)
        key = (*self.key(context, request), request.scheduled_action_name)
        now, action_id = self.world.clock(), names.new_uuid()

        def change(old: ScheduledAction | None) -> ScheduledAction:
            schedule = request.schedule or (old.schedule if old is not None else None)
            if schedule is None:
                raise names.invalid("Schedule is required for a new scheduled action.")
            timezone = request.timezone or (old.timezone if old is not None else "UTC")
            schedules.check(schedule, timezone)
            if old is None and len(self.world.actions.records(*key[:4])) >= MOST_ACTIONS:
                raise AwsError("LimitExceededException", f"At most {MOST_ACTIONS} scheduled actions.")
            low, high = _wanted(request, old)
            action = ScheduledAction(
                account=context.account,
                region=context.region,
                resource=target.resource,
                dimension=target.dimension,
                name=request.scheduled_action_name,
                id=old.id if old is not None else action_id,
                schedule=schedule,
                timezone=timezone,
                created_at=old.created_at if old is not None else now,
                put_at=now,
                start_time=_given(request.start_time, old.start_time if old is not None else None),
                end_time=_given(request.end_time, old.end_time if old is not None else None),
                min_capacity=low,
                max_capacity=high,
            )
            _check_times(action, request, now)
            return action

        await self.world.store.update(SCHEDULED_ACTION, key, change, "scheduled_action.put.v1")
        return aas.PutScheduledActionResponse()

    async def delete_scheduled_action(
        self, context: RequestContext, request: aas.DeleteScheduledActionRequest
    ) -> aas.DeleteScheduledActionResponse:
        """Delete one. What it has set stays."""
        key = (*self.key(context, request), request.scheduled_action_name)
        if self.world.actions.record(*key) is None:
            found = f"{names.where(key[2])}, scheduled action name: {request.scheduled_action_name}"
            raise AwsError("ObjectNotFoundException", f"No scheduled action found for {found}")
        await self.world.store.delete(SCHEDULED_ACTION, key, "scheduled_action.deleted.v1")
        return aas.DeleteScheduledActionResponse()

    async def describe_scheduled_actions(
        self, context: RequestContext, request: aas.DescribeScheduledActionsRequest
    ) -> aas.DescribeScheduledActionsResponse:
        """The actions, all or those that are named, by resource and name."""
        prefix = self.prefix(context, request)
        wanted = set(request.scheduled_action_names or ())
        found = [] if prefix is None else self.world.actions.records(*prefix)
        found = [a for a in found if not wanted or a.name in wanted or names.action_arn(a) in wanted]
        found.sort(key=_order)
        shown, token = names.page(found, _order, request.max_results, request.next_token)
        return aas.DescribeScheduledActionsResponse(scheduled_actions=[_shape(a) for a in shown], next_token=token)


def _given(new: float | None, old: float | None) -> float | None:
    return old if new is None else float(new)


def _wanted(request: aas.PutScheduledActionRequest, old: ScheduledAction | None) -> tuple[int | None, int | None]:
    given = request.scalable_target_action
    if given is None:
        if old is None:
            raise names.invalid("ScalableTargetAction is required for a new scheduled action.")
        return old.min_capacity, old.max_capacity
    if given.min_capacity is None and given.max_capacity is None:
        raise names.invalid("ScalableTargetAction: MinCapacity or MaxCapacity is required.")
    check_bounds(given.min_capacity, given.max_capacity)
    return given.min_capacity, given.max_capacity


def _check_times(action: ScheduledAction, request: aas.PutScheduledActionRequest, now: float) -> None:
    if request.end_time is not None and action.end_time is not None and action.end_time <= now:
        raise names.invalid("EndTime must be in the future.")
    if action.start_time is not None and action.end_time is not None and action.end_time <= action.start_time:
        raise names.invalid("EndTime must be after StartTime.")
    once = action.schedule.startswith("at(")
    if once and request.schedule is not None and schedules.next_after(action, now) is None:
        raise names.invalid("Schedule: the time has passed, or is not between StartTime and EndTime.")


def _shape(action: ScheduledAction) -> aas.ScheduledAction:
    return aas.ScheduledAction(
        scheduled_action_name=action.name,
        scheduled_action_arn=names.action_arn(action),
        service_namespace="ecs",
        schedule=action.schedule,
        timezone=action.timezone,
        resource_id=action.resource,
        scalable_dimension=action.dimension,  # type: ignore[arg-type]
        start_time=action.start_time,
        end_time=action.end_time,
        scalable_target_action=aas.ScalableTargetAction(
            min_capacity=action.min_capacity, max_capacity=action.max_capacity
        ),
        creation_time=action.created_at,
    )


def _order(action: ScheduledAction) -> str:
    return f"{action.resource} {action.name}"
